# shellcheck shell=bash
# Shared by the checks of launchers: a program, a cluster of generated models, and what must hold of it.

# shellcheck source=../../lib/common.sh
source "${BASH_SOURCE[0]%/*}/../../lib/common.sh"

# $FUSIONROUTE, else a release build of this checkout.
ensure_fusionroute() {
  if [[ -z ${FUSIONROUTE:-} ]]; then
    "$root/Deploy/setup"
    (cd "$root" && swift build -c release --product fusionroute >&2) || fail "$exit_internal" "swift build failed"
    FUSIONROUTE=$root/.build/release/fusionroute
  fi
  FUSIONROUTE=$(readlink -f "$FUSIONROUTE")
  [[ -x $FUSIONROUTE ]] || fail "$exit_usage" "FUSIONROUTE=$FUSIONROUTE is no program"
}

need() { # PROGRAM PACKAGE
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ||
    fail "$exit_unavailable" "there is no $1 here: apt-get install $2"
}

# Ports that nobody listens on now.
free_ports() { # COUNT
  python3 -c '
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in sockets: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))' "$1"
}

# A router, three experts that differ, and a head, in DIRECTORY/models.
make_models() { # DIRECTORY
  local seed=0 name
  mkdir -p "$1/models"
  "$FUSIONROUTE" make-model random "$1/models/router.gguf" --layers 4 --width 128 --seed 7 2>/dev/null
  for name in one two three; do
    seed=$((seed + 1))
    "$FUSIONROUTE" make-model perturb "$1/models/router.gguf" "$1/models/$name.gguf" --strength 0.3 --seed "$seed" 2>/dev/null
  done
  "$FUSIONROUTE" make-model head "$1/models/head.gguf" --experts one,two,three --model "$1/models/router.gguf" 2>/dev/null
}

# The part of a cluster file that all checks share.
cluster_models() {
  cat <<'YAML'
router: { model: models/router.gguf, head: models/head.gguf, context: 512 }
experts:
  one: { model: models/one.gguf, context: 512 }
  two: { model: models/two.gguf, context: 512 }
  three: { model: models/three.gguf, context: 512 }
YAML
}

question=(--prompt "One two three" --max-tokens 24 --temperature 0 --raw --format json)

# The tokens of an answer and the experts that decided them.
tokens() { python3 -c 'import json, sys; print([(t["id"], t["expert"]) for t in json.load(sys.stdin)["tokens"]])'; }

# The answer that the cluster must give: of the same models on this machine alone.
expected_answer() { # DIRECTORY
  cluster_models >"$1/alone.yaml"
  "$FUSIONROUTE" run -c "$1/alone.yaml" "${question[@]}" </dev/null 2>/dev/null | tokens
}

# The answer of a running service.
served_answer() { # URL [COMMAND-PREFIX...]
  local url=$1
  shift
  "$@" "$FUSIONROUTE" generate --url "$url" "${question[@]}" </dev/null | tokens
}

# Waits for COMMAND to succeed.
wait_for() { # SECONDS WHAT COMMAND...
  local seconds=$1 what=$2 i
  shift 2
  for ((i = 0; i < seconds * 10; i++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  say "$what did not happen within $seconds s"
  return 1
}

# Worker processes of the cluster in DIRECTORY.
workers_in() { # DIRECTORY
  local pid
  for pid in /proc/[0-9]*; do
    # A process may be gone by now.
    if { tr '\0' ' ' <"$pid/cmdline"; } 2>/dev/null | grep -q "fusionroute worker .*$1/"; then echo "${pid##*/}"; fi
  done
}

# How many of an expert's replicas serve, as the service at URL says.
serving() { # URL EXPERT [COMMAND-PREFIX...]
  local url=$1 expert=$2
  shift 2
  "$@" curl --silent --fail --max-time 2 "$url/fusionroute/status" | python3 -c '
import json, sys
for expert in json.load(sys.stdin)["experts"]:
    if expert["name"] == sys.argv[1]: print(sum(r["state"] == "serving" for r in expert["replicas"]))' "$expert"
}

no_workers_in() { [[ -z $(workers_in "$1") ]]; }
