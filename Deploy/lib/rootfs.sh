# shellcheck shell=bash
# A small Debian root file system for checks that boot or build images, kept in the cache.

# shellcheck source=common.sh
source "${BASH_SOURCE[0]%/*}/common.sh"

# Debian's libraries that the program needs, an init system, and what the checks use.
rootfs_packages=systemd,systemd-sysv,dbus,libzmq5,libprotobuf-c1,libsodium23,libsqlite3-0,libstdc++6,ca-certificates,curl

# Makes sure of it and prints its path. Exits 69 with the reason if that cannot be.
ensure_rootfs() {
  local place=$cache/rootfs-bookworm-2 stage
  if [[ -e $place/.complete ]]; then
    printf '%s\n' "$place"
    return
  fi
  ((EUID == 0)) || fail "$exit_unavailable" "making a root file system needs root"
  PATH=$PATH:/usr/sbin command -v debootstrap >/dev/null ||
    fail "$exit_unavailable" "there is no debootstrap here: apt-get install debootstrap"
  lock_cache
  # Another process may have made it meanwhile, and be using it.
  if [[ -e $place/.complete ]]; then
    unlock_cache
    printf '%s\n' "$place"
    return
  fi
  say "making a Debian root file system (250 MB, once)"
  stage=$(new_stage)
  PATH=$PATH:/usr/sbin debootstrap --variant=minbase --include="$rootfs_packages" bookworm "$stage/rootfs" \
    "${FUSIONROUTE_DEBIAN:-http://deb.debian.org/debian}" >"$stage/log" 2>&1 || {
    tail -n 5 "$stage/log" >&2
    fail "$exit_unavailable" "debootstrap failed (see above); FUSIONROUTE_DEBIAN may name another mirror"
  }
  rm -rf "$stage"/rootfs/var/cache/apt/archives/*.deb "$stage"/rootfs/var/lib/apt/lists/*
  touch "$stage/rootfs/.complete"
  rm -rf "$place"
  mv "$stage/rootfs" "$place"
  unlock_cache
  printf '%s\n' "$place"
}
