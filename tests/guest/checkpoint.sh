#!/bin/sh
# Checkpoints a container with CRIU, while it goes on and as its end, and restores it; with the
# gantry command, which hands the container named pipes as a daemon does.
set -eu
work=/tmp/checkpoint
mkdir -p $work/rootfs/bin $work/rootfs/dev $work/rootfs/proc $work/rootfs/sys
cp /bin/busybox $work/rootfs/bin
export GANTRY_ADDRESS=$work/sock
gantry=/gantry/bin/gantry

fail() {
  echo "checkpoint: $*"
  tail -n 20 $work/*.log
  grep -B 10 Error /run/gantry-cli/containers/counter/checkpoints/*/criu.work/*.log $work/state/io.*/*/*/criu-work/*.log
  exit 1
}

# Waits until a file holds more than a number of lines.
grows() {
  tries=0
  while [ "$(wc -l <"$1")" -le "$2" ]; do
    tries=$((tries + 1))
    [ $tries -lt 3000 ] || fail "$1 does not grow beyond $2 lines"
    sleep 0.1
  done
}

/gantry/bin/gantryd --listen $GANTRY_ADDRESS --state-dir $work/state --root $work/root 2>$work/gantryd.log &
server=$!
until $gantry version; do kill -0 $server; done

: >$work/out
# Counts on stdout, names its start on stderr, reads what may come on stdin.
# shellcheck disable=SC2016 # the container's shell expands it
$gantry run -i --rootfs $work/rootfs counter /bin/busybox sh -c '
  echo begin >&2
  i=0
  while busybox sleep 0.1; do i=$((i + 1)); echo $i; done
' </dev/null >>$work/out 2>$work/run.log &
run=$!
grows $work/out 3

$gantry checkpoint create counter first || fail "cannot create one"
grows $work/out "$(($(wc -l <$work/out) + 3))"
$gantry ps counter >/dev/null || fail "the container has not gone on"

$gantry checkpoint create counter first 2>/dev/null && fail "the same name twice"
$gantry checkpoint create counter ../bad 2>/dev/null && fail "a name with a slash"

$gantry checkpoint create --exit counter second || fail "cannot create one as the end"
wait $run && fail "run says that the container has ended well"
$gantry ps counter 2>/dev/null && fail "the container is still there"

last=$(tail -n 1 $work/out)
for name in second first; do
  : >$work/$name
  $gantry restore counter $name </dev/null >>$work/$name 2>$work/restore.log &
  run=$!
  grows $work/$name 3
  first=$(head -n 1 $work/$name)
  case $name in
    second) [ "$first" -eq $((last + 1)) ] || fail "restored at $first, left at $last" ;;
    first) [ "$first" -lt "$last" ] || fail "restored at $first, from before $last" ;;
  esac
  $gantry checkpoint ls counter
  # An exec in what was restored.
  [ "$($gantry exec counter /bin/busybox echo in)" = in ] || fail "no exec in a restored container"
  [ $name = second ] || { $gantry checkpoint rm counter first; $gantry checkpoint rm counter second; }
  $gantry kill -s KILL counter
  wait $run && fail "killed, and yet it ended well" || [ $? = 137 ] || fail "not killed: $?"
done

$gantry restore counter first 2>/dev/null && fail "restored what was removed"
$gantry events --stored
/gantry/bin/checkpoint-tasks $work/sock $work || fail "tasks of containerd's services"
kill $server
wait $server || fail "the server ended badly"
echo "checkpoint: ok"
