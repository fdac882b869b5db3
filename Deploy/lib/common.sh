# shellcheck shell=bash disable=SC2034 # variables are for the files that source this one
# Shared by the scripts in Deploy/: messages, exit codes, the cache directory, hashes, downloads.

if [[ -n ${fusionroute_common:-} ]]; then return; fi
fusionroute_common=loaded

root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd -P)
# shellcheck source=pins.sh
source "$root/Deploy/lib/pins.sh"

# The exit codes of the fusionroute command (sysexits.h).
exit_usage=64 exit_unavailable=69 exit_internal=70

script=${0##*/}

say() { printf '%s: %s\n' "$script" "$*" >&2; }

fail() { # CODE LINE...
  local code=$1 line
  shift
  for line in "$@"; do say "$line"; done
  exit "$code"
}

# Ends the script unless an option has a value; for the arguments from the option on. With ${2:?} bash would end with 1.
need_value() { # OPTION [VALUE]...
  [[ -n ${2:-} ]] || fail "$exit_usage" "$1 needs a value; try $0 --help"
}

# Runs a command as the last of a script would run: whatever ends the script ends the command too.
run_attached() { # COMMAND...
  local child code=0
  # A shell has what runs in its background ignore Ctrl-C, and read nothing.
  (trap - INT && exec "$@") <&0 &
  child=$!
  # shellcheck disable=SC2064 # this child
  trap "kill -TERM $child 2>/dev/null || true" TERM HUP
  # A terminal tells the command as well.
  trap : INT
  wait "$child" || code=$?
  # A signal ends the waiting, not the command.
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  trap - TERM HUP INT
  return "$code"
}

# The comment at the top of the calling script is its help.
show_help() { sed -n '2,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"; }

# Cron jobs and `env -i` may come without HOME.
if [[ -z ${HOME:-} ]]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6) || true
  [[ -n $HOME ]] || fail "$exit_unavailable" "HOME is not set and user $(id -u) has no home directory; set HOME"
  export HOME
fi

# The same rule as in Sources/Core/CacheDirectory.swift.
if [[ -n ${FUSIONROUTE_CACHE:-} ]]; then
  cache=$FUSIONROUTE_CACHE
  [[ $cache == /* ]] || cache=$PWD/$cache
elif [[ ${XDG_CACHE_HOME:-} == /* ]]; then
  cache=$XDG_CACHE_HOME/fusionroute
else
  cache=$HOME/.cache/fusionroute
fi

make_cache() {
  if ! mkdir -p "$cache/downloads" "$cache/models" 2>/dev/null || [[ ! -w $cache ]]; then
    fail "$exit_unavailable" "cannot write to the cache directory $cache" \
      "set FUSIONROUTE_CACHE to a directory you can write to"
  fi
}

# Of the file or, without one, of standard input.
sha256_of() {
  if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi | cut -d' ' -f1
}

has_sha256() { [[ -f $1 && $(sha256_of "$1") == "$2" ]]; }

# Only one script at a time works in the cache; the kernel drops the lock when its holder ends, however it ends.
# What a killed run left half-made is swept by the next one.
lock_cache() {
  make_cache
  if command -v flock >/dev/null; then
    exec 9>"$cache/.lock"
    if ! flock --nonblock 9; then
      say "waiting for another set-up that works in $cache"
      flock 9
    fi
    rm -rf "$cache"/.stage.*
    # In a subshell it would be its parent's that shows.
    earlier_exit_trap=
    if ((BASH_SUBSHELL == 0)); then earlier_exit_trap=$(trap -p EXIT); fi
    trap exit_locked EXIT
  fi
}

unlock_cache() {
  rm -rf "$cache"/.stage.*
  trap - EXIT
  eval "${earlier_exit_trap-}"
  exec 9>&-
}

exit_locked() {
  unlock_cache
  if [[ -n $earlier_exit_trap ]]; then
    eval "set -- ${earlier_exit_trap#trap -- }"
    eval "$1"
  fi
}

# A fresh directory on the cache's own file system, so that finished work can be renamed into place.
new_stage() { mktemp -d "$cache/.stage.XXXXXX"; }

# A Python with pip: the first on PATH, else the system's.
pip_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then
      printf '%s\n' "$python"
      return
    fi
  done
  return 1
}

# Puts the pinned ARCHIVE of PACKAGE==VERSION into DIRECTORY: from the cache's downloads/ if someone laid it there,
# else by pip, which refuses anything of another hash before it looks inside.
fetch_archive() { # PACKAGE VERSION ARCHIVE SHA256 DIRECTORY [pip option...]
  local package=$1 version=$2 archive=$3 sha256=$4 directory=$5 laid=$cache/downloads/$3 python
  shift 5
  if [[ -f $laid ]]; then
    if has_sha256 "$laid" "$sha256"; then
      ln -s "$laid" "$directory/$archive"
      return
    fi
    say "ignoring $laid: its SHA-256 is not $sha256"
  fi
  if ! python=$(pip_python); then
    say "python3 -m pip does not work: install python3-pip"
    return 1
  fi
  printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$directory/requirement.txt"
  if ! TMPDIR=$directory "$python" -m pip --disable-pip-version-check download --quiet --retries 2 --no-deps \
    --require-hashes --requirement "$directory/requirement.txt" --dest "$directory" "$@" \
    </dev/null >"$directory/pip.log" 2>&1; then
    { grep '^ERROR' "$directory/pip.log" || tail -n 4 "$directory/pip.log"; } >&2
    return 1
  fi
  has_sha256 "$directory/$archive" "$sha256"
}

need_swift() {
  local version
  command -v swift >/dev/null ||
    fail "$exit_unavailable" "there is no swift on PATH: install a Swift 6.1 or later toolchain, put its usr/bin on PATH and run this again"
  version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
  [[ ${version%%.*} -gt 6 || (${version%%.*} -eq 6 && ${version#*.} -ge 1) ]] ||
    fail "$exit_unavailable" "Swift 6.1 or later is needed; $(command -v swift) is version ${version:-unknown}"
}
