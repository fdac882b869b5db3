# shellcheck shell=bash
# How a family's YAML files come into the folder where it is trained.

# Copies cluster files into FOLDER/clusters; what has not changed keeps its date. Ends the script if FOLDER cannot be written.
copy_clusters() { # FAMILY FOLDER
  local file
  if ! mkdir -p "$2/clusters" 2>/dev/null || [[ ! -w $2 || ! -w $2/clusters ]]; then
    fail "${exit_unavailable:?}" "cannot write to the folder $2; choose another one"
  fi
  for file in "$1"/clusters/*.yaml; do
    cmp -s "$file" "$2/clusters/${file##*/}" || cp "$file" "$2/clusters/"
  done
}

# A text as sed's replacement between bars.
literally() { printf '%s\n' "$1" | sed 's/[&|\]/\\&/g'; }

# Writes a family's file with what stands between @ filled in, and other edits of sed.
fill_in() { # FILE RESULT [option of sed...]
  local file=$1 result=$2
  shift 2
  sed -e "s|@EVALUATION@|$(literally "${root:?}/Deploy/evaluation")|g" "$@" "$file" >"$result"
  if grep -q '@[A-Z]\+@' "$result"; then fail "${exit_internal:?}" "$result: not all between @ was filled in"; fi
}
