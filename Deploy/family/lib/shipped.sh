# shellcheck shell=bash
# The family that is shipped in Deploy/family, laid out for training and evaluation. FUSIONROUTE names the executable.

# shellcheck source=../../lib/common.sh
source "${BASH_SOURCE[0]%/*}/../../lib/common.sh"
# shellcheck source=../../lib/model.sh
source "${BASH_SOURCE[0]%/*}/../../lib/model.sh"

shipped=${BASH_SOURCE[0]%/*}/..

# The manifest's value at a path of keys, such as sha256 router.gguf.
manifest() { # KEY...
  python3 -c '
import json, sys
value = json.load(open(sys.argv[1]))
for key in sys.argv[2:]:
    value = value[key]
print(value)' "$shipped/family.json" "$@"
}

# Ends the script if the default model is not the base that the shipped adapters are for.
check_base() {
  has_sha256 "$model_path" "$(manifest base sha256)" || fail "$exit_unavailable" "$model_path is not the base of the shipped family"
}

# A shipped file that is what the manifest says.
copy_shipped() { # NAME TO
  has_sha256 "$shipped/$1" "$(manifest sha256 "$1")" || fail "$exit_internal" "$shipped/$1 is not what family.json says"
  cmp -s "$shipped/$1" "$2" || install -m 644 "$shipped/$1" "$2"
}

# Puts an adapter where training would have, with the model that it makes of the base beside it.
lay_out() { # FOLDER PART TO
  local to=$1/$3
  mkdir -p "$to"
  copy_shipped "$2.gguf" "$to/adapter.gguf"
  [[ $to/model.gguf -nt $to/adapter.gguf ]] || "$FUSIONROUTE" merge "$1/base.gguf" "$to/adapter.gguf" --out "$to/model.gguf" --type bf16 >&2
}
