#!/bin/sh
# Installs, uses, upgrades and removes the Debian package in a root of its own: deploy/verify-package.sh [BINARIES]
# As root. The root is the machine's, with changes in memory; processes and mounts end with this script. There is no
# systemd in it: a stand-in does what systemd does with the units. tests/guest/unit.sh has a real one.
set -eu

here=$(dirname "$(realpath "$0")")
binaries=${1:-$here/../target/release}

if [ "${2:-}" != inside ]; then
  work=$(mktemp -d)
  child=
  # shellcheck disable=SC2317  # A trap calls it.
  clean_up() {
    # With the first process of the pid namespace, all of it ends; unshare itself blocks other signals.
    [ -z "$child" ] || ! kill -KILL "$child" 2>/dev/null || wait "$child" || :
    rm -rf "$work"
    # A cgroup goes once its last process has.
    for _ in $(seq 50); do
      find /sys/fs/cgroup -depth -type d -path '*/gantry-package*' -exec rmdir {} + 2>/dev/null || :
      [ -n "$(find /sys/fs/cgroup -type d -name gantry-package)" ] || break
      sleep 0.1
    done
  }
  # The one for EXIT alone is not run at a signal.
  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  export COMPRESSION=none
  "$here/package.sh" "$binaries" "$work" >"$work/first"
  VERSION=99.0 "$here/package.sh" "$binaries" "$work" >"$work/second"
  # The processes of the package are those of a pid namespace, which ends with its first one.
  unshare --mount --propagation private --pid --fork --kill-child "$0" "$work" inside &
  child=$!
  wait "$child" && status=0 || status=$?
  child=
  exit "$status"
fi

work=$binaries
fail() {
  echo "package: $*" >&2
  exit 1
}
step() { echo "-- $*"; }

# The machine's root, with changes in memory.
mkdir "$work/changes"
mount -t tmpfs none "$work/changes"
root=$work/changes/root
mkdir "$root" "$work/changes/upper" "$work/changes/work"
mount -t overlay -o "lowerdir=/,upperdir=$work/changes/upper,workdir=$work/changes/work" none "$root"
mount -t proc none "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
for dir in run tmp; do mount -t tmpfs none "$root/$dir"; done
cp "$(cat "$work/first")" "$root/tmp/first.deb"
cp "$(cat "$work/second")" "$root/tmp/second.deb"
in_root() { chroot "$root" env PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
gantry() { in_root gantry "$@"; }
# Of the machine's own, if it has one, and what keeps packages from starting anything.
rm -rf "$root/etc/gantry" "$root/var/lib/gantry" "$root/usr/sbin/policy-rc.d"
# The index of man pages would take longer than everything else.
rm -f "$root/var/lib/man-db/auto-update"
sed -i '/^gantry:/d' "$root/etc/group" "$root/etc/gshadow"

# What systemd does with these units: the server has its socket's group, and processes that it has started outlive it
# (KillMode=process).
mkdir -p "$root/run/systemd/system"
cat >"$root/usr/local/sbin/systemctl" <<'SYSTEMCTL'
#!/bin/sh
pid=/run/gantryd.pid
# Whether a command succeeds within 30 s.
soon() {
  for _ in $(seq 300); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  return 1
}
ended() { ! kill -0 "$(cat $pid)"; }
start() {
  gantryd --config /etc/gantry/gantryd.toml --log-level warn </dev/null >/run/gantryd.log 2>&1 &
  echo $! >$pid
  soon gantry version || exit 1
  chgrp gantry /run/gantry/gantryd.sock
}
stop() {
  kill -TERM "$(cat $pid)"
  soon ended || exit 1
  rm $pid
}
call=$(echo "$*" | sed -E 's/--(system|quiet) *//g')
echo "$call" >>/run/systemctl.calls
case $call in
# These are about files only.
is-enabled* | *preset*) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;;
*MainPID*) cat /run/containerd.main 2>/dev/null ;;
"stop gantryd.socket gantryd.service") [ ! -e $pid ] || stop ;;
"restart gantryd.service")
  [ ! -e $pid ] || stop
  start
  ;;
esac
SYSTEMCTL
chmod 755 "$root/usr/local/sbin/systemctl"

step "install"
in_root dpkg --install /tmp/first.deb
grep -q '^gantry:' "$root/etc/group" || fail "no group gantry"
[ "$(in_root stat -c '%a %U:%G' /run/gantry)" = "711 root:root" ] || fail "/run/gantry"
[ "$(in_root stat -c '%a %G' /run/gantry/gantryd.sock)" = "660 gantry" ] || fail "the socket"
for unit in sockets.target.wants/gantryd.socket multi-user.target.wants/gantryd.service; do
  [ -L "$root/etc/systemd/system/$unit" ] || fail "$unit is not enabled"
done
[ -z "$(in_root dpkg --verify gantry)" ] || fail "files are others than in the package"
# Man pages and completion, as readers and shells look for them.
for page in gantry gantry-run gantry-system-df gantryd; do
  in_root man --warnings -l "$(in_root sh -c "echo /usr/share/man/man[18]/$page.[18].gz")" >"$work/page" 2>"$work/complaints" ||
    in_root sh -c "zcat /usr/share/man/man[18]/$page.[18].gz" >"$work/page" || fail "no page $page"
  [ ! -s "$work/complaints" ] || ! grep -q 'warning\|error' "$work/complaints" || fail "$page: $(cat "$work/complaints")"
done
in_root gantryd --help | grep -oE -- '--[a-z-]+' | sort -u >"$work/flags"
in_root sh -c 'zcat /usr/share/man/man8/gantryd.8.gz' | sed 's/\\-/-/g' >"$work/page"
while read -r flag; do grep -q -e "$flag" "$work/page" || fail "gantryd.8 has no $flag"; done <"$work/flags"
bash -n "$root/usr/share/bash-completion/completions/gantry" || fail "bash completion"

step "use"
mkdir -p "$root/tmp/rootfs/bin" "$root/tmp/rootfs/proc" "$root/tmp/rootfs/sys" "$root/tmp/rootfs/dev"
cp /bin/busybox "$root/tmp/rootfs/bin"
gantry run -d --rootfs /tmp/rootfs --cgroup-path /gantry-package/kept --log /tmp/log kept \
  busybox sh -c 'while :; do echo alive; busybox sleep 1; done'
init() { gantry ps kept | awk '$1 == "init" { print $2 }'; }
before=$(init)
[ -n "$before" ] || fail "it does not run"

step "upgrade"
server=$(cat "$root/run/gantryd.pid")
echo 'log_level = "warn"' >>"$root/etc/gantry/gantryd.toml"
in_root dpkg --install /tmp/second.deb
in_root dpkg -s gantry | grep -qx 'Version: 99.0' || fail "the version"
grep -q '^log_level = "warn"' "$root/etc/gantry/gantryd.toml" || fail "the configuration is another"
[ "$(cat "$root/run/gantryd.pid")" != "$server" ] || fail "no restart"
[ "$(init)" = "$before" ] || fail "the container is another"
[ "$(gantry exec kept busybox echo in)" = in ] || fail "no exec after the upgrade"

step "upgrade in containerd's place"
cp "$root/run/gantryd.pid" "$root/run/containerd.main"
in_root dpkg --install /tmp/second.deb
grep -qx 'restart containerd.service' "$root/run/systemctl.calls" || fail "its unit is not restarted"
rm "$root/run/containerd.main"

step "remove and purge under a running container"
in_root dpkg --remove gantry 2>"$work/told"
grep -q 'keep running' "$work/told" || fail "nobody is told: $(cat "$work/told")"
[ ! -e "$root/usr/bin/gantryd" ] || fail "gantryd is there"
[ -e "$root/etc/gantry/gantryd.toml" ] || fail "the configuration is gone"
in_root kill -0 "$before" || fail "the container is gone"
in_root dpkg --install /tmp/second.deb
[ "$(init)" = "$before" ] || fail "the container is not found again"
in_root dpkg --purge gantry 2>"$work/told"
grep -q 'purge again' "$work/told" || fail "nobody is told: $(cat "$work/told")"
in_root kill -0 "$before" || fail "the container is gone"
for path in var/lib/gantry run/gantry/state; do [ -d "$root/$path" ] || fail "/$path is gone"; done
[ ! -e "$root/etc/gantry" ] || fail "/etc/gantry is there"

step "install again, end it, and purge"
in_root dpkg --install /tmp/second.deb
[ "$(init)" = "$before" ] || fail "the container is not found again"
gantry kill -9 kept
# It may be gone by now.
if status=$(gantry wait kept 2>"$work/told"); then
  [ "$status" = 137 ] || fail "it has another status: $status"
else
  grep -q "not found" "$work/told" || fail "wait: $(cat "$work/told")"
fi
gantry events --stored | grep -q ' kept exit pid=init status=137$' || fail "its end is not told"
# An administrator's volume.
mount -t tmpfs none "$root/var/lib/gantry"
touch "$root/var/lib/gantry/file"
in_root dpkg --purge gantry 2>"$work/told"
cat "$work/told"
grep -q '/var/lib/gantry stays' "$work/told" || fail "nobody is told"
[ -z "$(ls -A "$root/var/lib/gantry")" ] || fail "files are left"
umount "$root/var/lib/gantry"
rm -r "$root/var/lib/gantry"
for path in etc/gantry var/lib/gantry run/gantry run/gantry-cli usr/bin/gantry usr/share/doc/gantry \
  etc/systemd/system/sockets.target.wants/gantryd.socket var/lib/systemd/deb-systemd-helper-enabled/gantryd.service.dsh-also; do
  [ ! -e "$root/$path" ] || fail "/$path is there"
done
echo "package: passed"
