# shellcheck shell=bash
# Python packages of checks, each set in a virtual environment of its own in the cache.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"

# Makes sure of the environment NAME with the packages of Deploy/lib/NAME.requirements, and prints the path of its Python.
# Returns 1, having said why, if that cannot be. With FUSIONROUTE_NO_INSTALL nothing is installed: someone has tried before.
ensure_environment() { # NAME
  local requirements=$root/Deploy/lib/$1.requirements place=$cache/python/$1 key stage
  key=$(sha256_of "$requirements")
  if [[ -x $place/bin/python && $(cat "$place/.fusionroute-key" 2>/dev/null) == "$key" ]]; then
    printf '%s\n' "$place/bin/python"
    return
  fi
  if [[ -n ${FUSIONROUTE_NO_INSTALL:-} ]]; then
    say "the Python packages of $1 are not installed"
    return 1
  fi
  lock_cache
  # Another process may have made it meanwhile, and be running from it.
  if [[ -x $place/bin/python && $(cat "$place/.fusionroute-key" 2>/dev/null) == "$key" ]]; then
    unlock_cache
    printf '%s\n' "$place/bin/python"
    return
  fi
  say "installing the Python packages of $1 (once)"
  stage=$(new_stage)
  rm -rf "$place"
  mkdir -p "${place%/*}"
  # An environment knows its own path, so it is made where it stays; the key comes last.
  if ! { python3 -m venv "$place" &&
    TMPDIR=$stage "$place/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps \
      --requirement "$requirements"; } </dev/null >"$stage/log" 2>&1; then
    tail -n 5 "$stage/log" >&2
    rm -rf "$place"
    unlock_cache
    say "could not install the packages of Deploy/lib/$1.requirements"
    return 1
  fi
  printf '%s\n' "$key" >"$place/.fusionroute-key"
  unlock_cache
  printf '%s\n' "$place/bin/python"
}
