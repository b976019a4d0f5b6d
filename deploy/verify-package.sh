#!/bin/sh
# Installs, uses, upgrades and removes the Debian package in a root of its own: deploy/verify-package.sh [BINARIES]
# As root. The root is the machine's, with changes in memory; processes and mounts end with this script. There is no
# systemd in it: a stand-in does what systemd does with the units. tests/guest/unit.sh has a real one.
set -eu

here=$(dirname "$(realpath "$0")")
binaries=${1:-$here/../target/release}

if [ "${2:-}" != inside ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"; rmdir /sys/fs/cgroup/*/gantry-package /sys/fs/cgroup/gantry-package 2>/dev/null || :' EXIT
  export COMPRESSION=none
  "$here/package.sh" "$binaries" "$work" >"$work/first"
  VERSION=99.0 "$here/package.sh" "$binaries" "$work" >"$work/second"
  # The processes of the package are those of a pid namespace, which ends with its first one.
  unshare --mount --propagation private --pid --fork --kill-child "$0" "$work" inside
  exit
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
start() {
  gantryd --config /etc/gantry/gantryd.toml --log-level warn </dev/null >/run/gantryd.log 2>&1 &
  echo $! >$pid
  until gantry version >/dev/null 2>&1; do kill -0 $! || exit 1; done
  chgrp gantry /run/gantry/gantryd.sock
}
stop() {
  kill -TERM "$(cat $pid)"
  while kill -0 "$(cat $pid)" 2>/dev/null; do :; done
  rm $pid
}
call=$(echo "$*" | sed -E 's/--(system|quiet) *//g')
echo "$call" >>/run/systemctl.calls
case $call in
# These are about files only.
is-enabled* | *preset*) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;;
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
[ "$(gantry wait kept 2>/dev/null || echo 137)" = 137 ] || fail "it has another status"
in_root dpkg --purge gantry 2>"$work/told"
cat "$work/told"
for path in etc/gantry var/lib/gantry run/gantry usr/bin/gantry usr/share/doc/gantry \
  etc/systemd/system/sockets.target.wants/gantryd.socket var/lib/systemd/deb-systemd-helper-enabled/gantryd.service.dsh-also; do
  [ ! -e "$root/$path" ] || fail "/$path is there"
done
echo "package: passed"
