# shellcheck shell=bash
# System packages. A requirement is met by the Debian package or, elsewhere, by what it provides.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"

# PACKAGE PROBE: the probe is tried only where the package is not installed.
requirements=(
  "libzmq3-dev       pkg-config --exists libzmq"
  "libprotobuf-c-dev pkg-config --exists libprotobuf-c"
  "libsodium-dev     pkg-config --exists libsodium"
  "libsqlite3-dev    pkg-config --exists sqlite3"
  "pkg-config        pkg-config --version"
  "cmake             cmake --version"
  "ninja-build       ninja --version"
  "g++               c++ --version"
  "git               git --version"
  "python3           python3 --version"
  "python3-pip       pip_python"
  # Only the tests use these.
  "protobuf-c-compiler protoc-c --version"
  "python3-numpy     python3 -c 'import numpy'"
  "python3-jinja2    python3 -c 'import jinja2'"
  "python3-jsonschema python3 -c 'import jsonschema'"
  "openssl           openssl version"
  "python3-venv      python3 -c 'import ensurepip, venv'"
)

missing_packages() {
  local installed=" " requirement package probe
  if command -v dpkg-query >/dev/null; then
    # Exits 1 when one of them is unknown; the others are listed all the same.
    installed=" $(dpkg-query --show --showformat '${db:Status-Abbrev}${Package}\n' "${requirements[@]%% *}" 2>/dev/null |
      sed -n 's/^ii *//p' | tr '\n' ' ') " || true
  fi
  for requirement in "${requirements[@]}"; do
    read -r package probe <<<"$requirement"
    [[ $installed == *" $package "* ]] || eval "$probe" >/dev/null 2>&1 || printf '%s\n' "$package"
  done
}

apt_install() { # PREFIX-COMMAND PACKAGE...
  local as=$1 log
  shift
  log=$(mktemp)
  # The package lists of a fresh machine may be empty or old: refresh them only if the install fails without.
  if ! $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >"$log" 2>&1 &&
    ! { $as apt-get update -q </dev/null >>"$log" 2>&1 &&
      $as env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1; }; then
    tail -n 12 "$log" >&2
    rm -f "$log"
    fail "$exit_unavailable" "apt-get could not install: $*" "its last lines are above; without network, install them by hand and run this again"
  fi
  rm -f "$log"
}

ensure_packages() { # with_sudo: yes|no
  local missing
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} == 0)); then return; fi
  if ! command -v apt-get >/dev/null; then
    fail "$exit_unavailable" "missing (by their Debian names): ${missing[*]}" "this system has no apt-get: install them with its own package manager and run this again"
  elif ((EUID == 0)); then
    say "installing with apt-get: ${missing[*]}"
    apt_install "" "${missing[@]}"
  elif [[ $1 == yes ]]; then
    command -v sudo >/dev/null || fail "$exit_unavailable" "there is no sudo here; as root: apt-get install ${missing[*]}"
    say "installing with sudo apt-get: ${missing[*]}"
    apt_install sudo "${missing[@]}"
  else
    fail "$exit_unavailable" "these Debian packages are missing and you are not root; ask for:" \
      "  sudo apt-get install ${missing[*]}" "then run this again (or let Deploy/setup --sudo do it)"
  fi
}
