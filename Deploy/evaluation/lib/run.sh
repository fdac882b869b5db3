# shellcheck shell=bash
# Starts a module of the Python package beside, in its pinned environment.

# shellcheck source=../../lib/python.sh
source "${BASH_SOURCE[0]%/*}/../../lib/python.sh"

run_evaluation() { # MODULE ARGUMENT...
  local python module=$1
  shift
  if [[ ${1:-} == --help || ${1:-} == -h ]]; then
    show_help
    exit 0
  fi
  python=$(ensure_environment evaluation) || exit "$exit_unavailable"
  PYTHONPATH=$root/Deploy/evaluation exec "$python" -m "fusionroute_evaluation.$module" "$@"
}
