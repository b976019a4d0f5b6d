# What the parts under systemd share: "unit" and "docker". The name of the part is in $part, the unit that it is
# about in $unit, files of its own in $work, and $work/rootfs is made the root of a container.
# shellcheck shell=dash
: "${part:?} ${unit:?} ${work:?}"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

mkdir -p "$work"/rootfs/bin "$work"/rootfs/dev "$work"/rootfs/proc "$work"/rootfs/sys
cp /bin/busybox "$work/rootfs/bin"
ln -s busybox "$work/rootfs/bin/sh"

step() { echo "$part: $(cut -d ' ' -f 1 /proc/uptime): $*"; }

fail() {
  echo "$part: failed: $*"
  exit 1
}

# Whatever ends the part before its end is looked for here.
explain() {
  [ $? = 0 ] && return
  systemctl status --no-pager -l "$unit" || :
  tail -n 20 "$work"/*log
}
trap explain EXIT

# Waits until a command succeeds, for five minutes.
until_true() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 1500 ] || fail "waited in vain: $*"
    sleep 0.2
  done
}

property() { systemctl show -P "$1" "$unit"; }
main_pid() { property MainPID; }

# Whether the server runs, and is not this process.
is_another() {
  now=$(main_pid)
  [ "$now" != 0 ] && [ "$now" != "$1" ] && [ "$(property SubState)" = running ]
}

# The directory of a process's cgroup.
cgroup_of() { sed -n 's|^0::|/sys/fs/cgroup|p' "/proc/$1/cgroup"; }
