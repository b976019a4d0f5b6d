#!/bin/sh
# The Debian package and its units under a real systemd: what containers get from the service, and what they notice of
# its restarts, upgrades and removal. Prints "unit: passed" at its end.
set -eu
export part=unit work=/tmp/unit unit=gantryd.service
# shellcheck source=tests/guest/functions.sh
. /gantry/functions.sh
cp /gantry/facts.sh $work/rootfs

# Changes the unit until the next change.
drop_in() {
  mkdir -p /run/systemd/system/$unit.d
  printf '[Service]\nStandardError=append:%s\n%b' $work/log "$1" >/run/systemd/system/$unit.d/test.conf
  systemctl daemon-reload
}

# Starts a container that stays.
start() {
  id=$1
  shift
  gantry run -d --rootfs $work/rootfs "$@" "$id" /bin/sh -c 'while :; do busybox sleep 1000; done' \
    >/dev/null || fail "cannot start $id"
}

# Kills a container, and waits until its exit is published.
end() {
  gantry kill -s KILL "$1"
  until_true exit_is_published "$1"
}

exit_is_published() { gantry events --stored | grep -q " $1 exit pid=init status=137$"; }

init_of() { gantry ps "$1" | awk '$1 == "init" { print $2 }'; }

# Fails if a cgroup, from that of a process upwards, has a limit.
unlimited() {
  group=$(cgroup_of "$1") || fail "no process $1"
  while [ "$group" != /sys/fs/cgroup ]; do
    for file in memory.max memory.high pids.max; do
      [ ! -e "$group/$file" ] || [ "$(cat "$group/$file")" = max ] ||
        fail "$group/$file is $(cat "$group/$file")"
    done
    group=${group%/*}
  done
}

none_is_left() { ! pidof gantryd gantry-shim gantry-spare; }

step "install"
# All shims are to be of this server's containers. One of a test before may wait for a reader of its output.
until_true none_is_left
drop_in ''
dpkg --install /gantry/first.deb || fail "it is not installed"
for enabled in gantryd.socket $unit; do
  [ "$(systemctl is-enabled "$enabled") $(systemctl is-active "$enabled")" = "enabled active" ] || fail "$enabled"
done
[ "$(property Type) $(property ActiveState) $(property SubState)" = "notify active running" ] ||
  fail "it is not ready"
[ "$(stat -c '%a %U:%G' /run/gantry /run/gantry/gantryd.sock | tr '\n' ' ')" = "711 root:root 660 root:gantry " ] ||
  fail "who can open the socket: $(ls -la /run/gantry)"

step "use"
sed -i 's/^gantry:.*/&member/' /etc/group
# Runs a command as somebody, with all groups of that user.
as() {
  user=$1
  shift
  setpriv --reuid "$user" --regid "$user" --init-groups env XDG_RUNTIME_DIR="$work/$user" "$@"
}
for user in member stranger; do
  mkdir -m 700 $work/$user
  chown $user:$user $work/$user
done
code=0
as member gantry run --rm --rootfs $work/rootfs own /bin/sh -c 'echo in; exit 7' </dev/null >$work/out || code=$?
[ "$code $(cat $work/out)" = "7 in" ] || fail "a member's container: $code $(cat $work/out)"
! as stranger gantry version 2>$work/out || fail "everybody can use it"
grep -q 'ermission denied' $work/out || fail "a stranger is told: $(cat $work/out)"

step "what a container has"
gantry run --rootfs $work/rootfs facts /bin/sh /facts.sh </dev/null >$work/ours || fail "no facts"
# Limits are inherited on purpose, as docs/unit.md says; all else is to be what it is without a unit.
# shellcheck disable=SC3045 # dash has these
ulimit -c unlimited && ulimit -n 1048576 && ulimit -p unlimited
runc --root $work/runc run --bundle /run/gantry-cli/containers/facts facts </dev/null >$work/bare ||
  fail "no facts of a bare runtime"
[ "$(wc -l <$work/bare)" -gt 60 ] || fail "hardly any facts"
diff $work/bare $work/ours || fail "a container under the unit is another than a bare runtime's"

# What no container could be given any more if the server did not have it, whatever its spec says.
of_server() {
  grep -E '^(Uid|Gid|Groups|Umask|Cap|NoNewPrivs|Seccomp)' "/proc/$1/status"
  for kind in cgroup ipc mnt net pid time user uts; do readlink "/proc/$1/ns/$kind"; done
}
of_server $$ >$work/unhindered
of_server "$(main_pid)" | diff $work/unhindered - || fail "the server is hindered"

step "what limits it"
start absolute
start relative --cgroup-path inside
pid=$(init_of absolute)
for process in "$pid" "$(init_of relative)" $(pidof gantry-shim); do unlimited "$process"; done

step "upgrade"
before=$(main_pid)
dpkg --unpack /gantry/second.deb || fail "the new version is not unpacked"
[ "$(main_pid)" = "$before" ] || fail "the service is not running while the package is unpacked"
# An end that only the new server can see. The old one never goes on: systemd continues what it asks to end, but not what
# it kills.
drop_in 'KillSignal=SIGKILL\n'
of_relative=$(init_of relative)
kill -STOP "$before"
kill -KILL "$of_relative"
dpkg --configure gantry || fail "the new version is not configured"
is_another "$before" || fail "it is the same process"
[ "$(readlink "/proc/$(main_pid)/exe")" = /usr/bin/gantryd ] || fail "it is not the new program"
dpkg-query --status gantry | grep -qx 'Version: 99.0' || fail "it is not the new version"
[ "$(init_of absolute)" = "$pid" ] || fail "the container is another"
[ "$(gantry exec absolute /bin/busybox echo in </dev/null)" = in ] || fail "no exec after the upgrade"
until_true exit_is_published relative

step "watchdog"
# Other machines may keep the processor from this one for seconds.
drop_in 'WatchdogSec=15\n'
systemctl restart $unit
before=$(main_pid)
first_beat=$(property WatchdogTimestampMonotonic)
# Whether it has beaten until so many microseconds later.
beats_for() { [ $(($(property WatchdogTimestampMonotonic) - first_beat)) -gt "$1" ]; }
# Longer than may pass between two beats.
until_true beats_for 16000000
[ "$(main_pid)" = "$before" ] || fail "it is killed although it beats"
kill -STOP "$before"
until_true is_another "$before"
[ "$(property NRestarts)" = 1 ] || fail "restarted $(property NRestarts) times"
[ "$(init_of absolute)" = "$pid" ] || fail "the container is another after the watchdog"
gantry exec absolute /bin/busybox true </dev/null || fail "no exec after the watchdog"

step "remove"
dpkg --remove gantry 2>$work/told || fail "it is not removed"
grep -q 'keep running' $work/told || fail "nobody is told: $(cat $work/told)"
for stopped in gantryd.socket $unit; do
  [ "$(systemctl is-active "$stopped")" = inactive ] || fail "$stopped is still active"
done
[ ! -e /usr/bin/gantryd ] || fail "its files are still there"
kill -0 "$pid" || fail "the container ended with the service"
kill -KILL "$pid"
dpkg --install /gantry/second.deb || fail "it is not installed again"
[ "$(systemctl is-enabled $unit) $(property SubState)" = "enabled running" ] || fail "it does not run again"
until_true exit_is_published absolute

step "limits of the server's own"
# As systemd 254 does it by DelegateSubgroup=, with which no process is ever in the unit's own cgroup.
group=/sys/fs/cgroup/system.slice/$unit
systemctl stop gantryd.socket $unit
until_true sh -c "! grep . $group/cgroup.procs"
drop_in 'ExecStart=\nExecStart=/gantry/in-server-group gantryd --config /etc/gantry/gantryd.toml\n'
# By its socket. It answers a moment before it is known to be ready.
systemctl start gantryd.socket
gantry version || fail "it does not start in a group of its own"
is_running() { [ "$(property SubState)" = running ]; }
until_true is_running
grep -qx "$(main_pid)" $group/server/cgroup.procs || fail "the server is not in its group"
[ "$(cat $group/server/memory.high) $(cat $group/server/memory.max)" = "1073741824 2147483648" ] ||
  fail "no limits of memory"
start inside --cgroup-path beside
for process in "$(init_of inside)" $(pidof gantry-shim); do unlimited "$process"; done

step "in place of containerd"
end inside
cat /usr/share/doc/gantry/containerd.service >/etc/systemd/system/containerd.service
systemctl daemon-reload
systemctl start containerd.service || fail "it does not start in place of containerd"
[ "$(systemctl is-active $unit)" = inactive ] || fail "two servers have one state directory"
gantry --address /run/containerd/containerd.sock version || fail "no answer in place of containerd"
systemctl stop containerd.service
rm /etc/systemd/system/containerd.service
until_true none_is_left

step "purge"
left() {
  find / -xdev -name '*gantry*' ! -path '/gantry*' ! -path "$work/*"
  find /run /var/lib/systemd /sys/fs/cgroup -name '*gantry*' ! -path "$work/*" ! -path '/run/systemd/*'
  systemctl list-unit-files --no-legend 'gantryd*'
  grep gantry /proc/self/mountinfo
}
left >$work/left.log || :
for there in '/usr/bin/gantry$' 'gantryd.service '; do
  grep -q "^$there" $work/left.log || fail "$there is not found although it is there"
done
dpkg --purge gantry || fail "it is not purged"
# The group stays, as Debian has it.
grep -q '^gantry:' /etc/group || fail "the group is gone"
left >$work/left.log || :
[ ! -s $work/left.log ] || fail "something is left"
echo "unit: passed"
