#!/bin/bash
# From a clean clone to a container: installs what is missing, builds, starts gantryd on a socket
# of its own, runs a busybox container and an exec in it, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")"

.ci/install demo
PATH=$PATH:~/.cargo/bin
cargo build --release --locked --bin gantryd --bin gantry
crates/shim/build.sh

bin=$(realpath "${CARGO_TARGET_DIR:-target}")/release
work=$(mktemp -d /tmp/gantry-demo.XXXXXX)
name=$(basename "$work")

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
gantry() { "$bin/gantry" --address "$work/gantryd.sock" "$@"; }

finish() {
  status=$?
  kill -TERM "$server" && wait "$server" || status=1
  rm -rf "$work"
  # Where `gantry run` had its bundle, unless there are others.
  rmdir /run/gantry-cli/containers /run/gantry-cli 2>/dev/null || true
  exit "$status"
}

step "gantryd on $work/gantryd.sock"
"$bin/gantryd" --listen "$work/gantryd.sock" --state-dir "$work/state" --root "$work/root" \
  --log-level warn --runtime-args --root --runtime-args "$work/runc" &
server=$!
trap finish EXIT
until gantry version; do kill -0 "$server"; done

step "a busybox container"
mkdir -p "$work/rootfs"/{bin,dev,proc,sys}
for applet in $(busybox --list); do ln -s busybox "$work/rootfs/bin/$applet"; done
install /bin/busybox "$work/rootfs/bin/"

# It says hello, waits for a line on its stdin, and ends with status 3.
# shellcheck disable=SC2016 # the container's shell expands it
coproc container {
  gantry run --rm -i --rootfs "$work/rootfs" --cgroup-path "/$name" demo \
    sh -c 'echo "hello from process $$ of $(hostname)"; read -r word; echo "$word"; exit 3'
}
container_pid=$!
exec 3<&"${container[0]}" 4>&"${container[1]}"
read -r line <&3
echo "$line"
gantry ps

step "an exec in it"
# shellcheck disable=SC2016
gantry exec demo sh -c 'echo "hello from process $$ of $(hostname), beside:"; ps'

step "its end"
echo "bye" >&4
cat <&3
wait "$container_pid" && status=0 || status=$?
echo "exit status $status"

step "what happened"
gantry events --stored | tee "$work/events"
for event in start-container start-process; do grep -q "$event" "$work/events"; done
[ "$(grep -c exit "$work/events")" = 2 ] && [ "$status" = 3 ]
