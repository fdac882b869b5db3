# shellcheck shell=bash
# Executables of this checkout, for the checks.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"

# Makes VARIABLE, unless it names an executable already, the release build of PRODUCT.
ensure_product() { # VARIABLE PRODUCT
  local -n path=$1
  if [[ -n ${path:-} ]]; then
    [[ -x $path ]] || fail "$exit_usage" "$1 is '$path', which is no executable"
    return
  fi
  "$root/Deploy/setup"
  (cd "$root" && swift build -c release --product "$2" >&2) || fail "$exit_internal" "swift build failed"
  # shellcheck disable=SC2034 # a reference
  path=$root/.build/release/$2
}
