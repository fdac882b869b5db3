# shellcheck shell=bash
# What the page's check needs beyond a build: Chromium with its WebDriver, and axe-core.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"
# shellcheck source=packages.sh
source "${BASH_SOURCE[0]%/*}/packages.sh"

# Exits if there is no browser and none can be installed.
ensure_browser() {
  if command -v chromedriver >/dev/null; then return; fi
  if ! command -v apt-get >/dev/null; then
    fail "$exit_unavailable" "chromedriver is not on PATH: install Chromium (or Chrome) and its driver, and run this again"
  elif ((EUID != 0)); then
    fail "$exit_unavailable" "chromedriver is not on PATH and you are not root; ask for:" \
      "  sudo apt-get install chromium chromium-driver" "then run this again"
  fi
  say "installing with apt-get: chromium chromium-driver (some 400 MB)"
  apt_install "" chromium chromium-driver
}

# Prints the path of axe.min.js, fetched once into the cache.
ensure_axe() {
  local file=$cache/axe-$axe_version.min.js stage
  if [[ ! -f $file ]]; then
    lock_cache
    stage=$(new_stage)
    if ! fetch_archive "$axe_package" "$axe_version" "$axe_archive" "$axe_archive_sha256" "$stage" --only-binary :all: ||
      ! python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
        "$stage/$axe_archive" "$axe_member" >"$stage/axe.min.js" || ! mv "$stage/axe.min.js" "$file"; then
      unlock_cache
      fail "$exit_unavailable" "could not fetch axe-core; without network, put the wheel" \
        "  $axe_package $axe_version ($axe_archive, sha256 $axe_archive_sha256)" "into $cache/downloads and run this again"
    fi
    unlock_cache
  fi
  printf '%s\n' "$file"
}
