#!/bin/sh
# Debian's dockerd on Gantry in containerd's place, both started by systemd, on cgroup v2 alone. dockerd then
# has systemd make the containers' cgroups. Prints "docker: passed" at its end.
set -eu
export part=docker work=/tmp/docker unit=containerd.service
# shellcheck source=tests/guest/functions.sh
. /gantry/functions.sh
shared=$work/shared
mkdir -p $shared /etc/docker

# Takes a container's init and its cgroup, which must be a scope that systemd has made for it.
look_at() {
  facts=$(docker inspect -f '{{.Id}} {{.State.Pid}}' "$1")
  scope=docker-${facts% *}.scope
  pid=${facts#* }
  group=$(cgroup_of "$pid") || fail "$1 does not run"
  [ "$group" = "/sys/fs/cgroup/system.slice/$scope" ] || fail "$1 is in $group"
  [ "$(systemctl is-active "$scope")" = active ] || fail "systemd does not know $scope"
}

# Fails if a file of the cgroup that was looked at last has another value.
holds() { [ "$(cat "$group/$1")" = "$2" ] || fail "$1 is $(cat "$group/$1")"; }

# Whether this is all that a command prints and returns.
gives() {
  wanted=$1 code=0
  shift
  "$@" >$work/out || code=$?
  [ "$code $(cat $work/out)" = "$wanted" ] || fail "$*: $code $(cat $work/out)"
}

step "start"
# The package's files alone: "unit" tries the package.
dpkg-deb --extract /gantry/first.deb /
echo '{ "bridge": "none", "iptables": false, "ip6tables": false }' >/etc/docker/daemon.json
cat /usr/share/doc/gantry/containerd.service >/etc/systemd/system/containerd.service
mkdir -p /run/systemd/system/docker.service.d /run/systemd/system/$unit.d
for service in docker.service $unit; do
  printf '[Service]\nStandardError=append:%s\n' "$work/$service.log" >"/run/systemd/system/$service.d/log.conf"
done
systemctl daemon-reload
systemctl start docker.service || fail "dockerd does not start"
for applet in sleep tail true; do ln -s busybox $work/rootfs/bin/$applet; done
tar -c -C $work/rootfs . | docker import - busybox >/dev/null

step "run"
# What waits for signals and tells of them.
# shellcheck disable=SC2016 # the container's shell expands it
docker run -d --name stays --memory 64m -v $shared:/shared busybox sh -c '
  trap "echo >/shared/usr1" USR1
  trap "exit 5" TERM
  while :; do sleep 1000 & echo >/shared/ready; wait; done' >/dev/null &
stays=$!
docker run -d --name ends busybox sleep 5000 >/dev/null &
ends=$!
gives "7 0::/" docker run --rm busybox sh -c 'cat /proc/self/cgroup; exit 7'
wait $stays || fail "run: $?"
wait $ends || fail "run beside others: $?"
look_at ends
ends=$pid
look_at stays
until_true test -e $shared/ready
holds memory.max 67108864

step "exec"
gives "9 0::/" docker exec stays sh -c 'cat /proc/self/cgroup; exit 9'
docker exec -d stays sleep 4000
sleeping() { ps -o pid,args | awk '$2 == "sleep" && $3 == "4000" { print $1 }' | grep .; }
until_true sleeping >/dev/null
asleep=$(sleeping)
[ "$(cgroup_of "$asleep")" = "$group" ] || fail "an exec is in $(cgroup_of "$asleep")"

step "stats"
holds pids.current 3
docker stats --no-stream --format '{{.PIDs}} {{.MemUsage}}' stays >$work/out
grep -qE '^3 [1-9][0-9.]*[KM]iB / 64MiB$' $work/out || fail "stats: $(cat $work/out)"

step "update"
docker update --memory 24m --memory-swap 24m --pids-limit 77 --cpus 0.5 stays >/dev/null
updated() {
  holds memory.max 25165824
  holds pids.max 77
  holds cpu.max "50000 100000"
  [ "$(systemctl show -P MemoryMax "$scope")" = 25165824 ] || fail "systemd has another limit"
}
updated

step "the server stops, and is killed"
systemctl stop $unit
kill -KILL "$ends" "$asleep"
until_true sh -c "! kill -0 $ends 2>/dev/null"
systemctl start $unit
gives "0 137" docker wait ends
kill -0 "$pid" || fail "the container has ended with the server"
before=$(main_pid)
kill -KILL "$before"
until_true is_another "$before"
kill -0 "$pid" || fail "the container was killed with the server"
# dockerd may be in the pause between two attempts to connect, and then refuses.
until_true docker exec stays true

step "out of memory"
# One that init survives, and init itself.
gives "6 " docker exec stays sh -c 'tail /dev/zero; exit 6'
gives "137 " docker run --name eats --memory 16m --memory-swap 16m busybox tail /dev/zero
gives "0 137 true" docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' eats
docker events --since 1h --until 0s --filter event=oom --format '{{.Actor.Attributes.name}}' >$work/out
[ "$(sort -u $work/out)" = "eats
stays" ] || fail "out of memory are said to be: $(cat $work/out)"

step "kill"
docker kill -s USR1 stays >/dev/null
until_true test -e $shared/usr1

step "restart"
rm $shared/ready
old=$pid
docker restart stays >/dev/null
until_true test -e $shared/ready
look_at stays
[ "$pid" != "$old" ] || fail "the same process after docker restart"
updated
docker kill stays >/dev/null
gives "0 137" docker wait stays

step "leftovers"
# By the ids of containers and of layers, which are in use while a container is there.
leftovers() {
  {
    systemctl list-units --all --plain --no-legend 'docker-*'
    find /run /sys/fs/cgroup /var/lib/gantry /var/lib/docker/containers
    cat /proc/self/mountinfo
  } | grep -E '[0-9a-f]{64}' >$work/left.log || [ $? = 1 ]
}
leftovers
[ "$(grep -c . $work/left.log)" -gt 3 ] || fail "nothing is found of containers that are there"
docker rm stays ends eats >/dev/null
[ -z "$(docker ps -aq)" ] || fail "containers are left"
nothing_is_left() { leftovers && [ ! -s $work/left.log ]; }
until_true nothing_is_left
systemctl stop docker.socket docker.service $unit
until_true sh -c '! pidof dockerd gantryd gantry-shim gantry-spare'
echo "docker: passed"
