#!/bin/bash
# Boots Debian's kernel in qemu and runs the end-to-end tests in it, on cgroup v2 alone, with a CRIU
# that works and under systemd: tests/guest/run.sh [PART...], each the name of a file in tests/tests, or
# "checkpoint", or "unit" (the Debian package and its units), or "docker".
#
# The end-to-end tests are one machine, and the other parts another: both at once, as each waits much of its time, or in
# turn where less than 5 GiB of memory are available. Once one has failed, the other is ended.
#
# The server, the shim and the client are those of target/release. KVM is not asked for: not every
# machine has it, and the tests take little longer without.
set -euo pipefail

cd "$(dirname "$0")/../.."
here=tests/guest
target=${CARGO_TARGET_DIR:-target}
cache=$target/guest
# What is about the host's own programs stays outside.
parts=${*:-lifecycle exec terminal stats update oom checkpoint unit docker}
names=$(tr ' ' '\n' <<<"$parts" | grep -vxE 'checkpoint|unit|docker' || :)
others=$(tr ' ' '\n' <<<"$parts" | grep -xE 'checkpoint|unit|docker' || :)
# A machine's memory, in MiB.
memory=1536
has() { grep -qx "$1" <<<"$others"; }

rm -rf "$cache/tests" "$cache/programs" "$cache/packages"
mkdir -p "$cache/tests" "$cache/programs" "$cache/packages"
$here/kernel.sh "$cache/kernel"
# --workspace: built as test.sh builds them, with the same features of everything below. A test's package has its
# programs built, too: checkpoint-tasks, also where no test was asked for.
# shellcheck disable=SC2046,SC2086
if [ -n "$names" ] || has checkpoint; then
  cargo test --locked --workspace $(printf -- ' --test %s' ${names:-lifecycle}) --no-run --message-format=json |
    jq -r 'select(.profile.test and .executable) | "\(.executable) \(.target.name)"' |
    while read -r executable name; do install -s -m 755 "$executable" "$cache/tests/$name"; done
fi
! has checkpoint || install -s -m 755 -t "$cache/programs" "$target/debug/checkpoint-tasks"
if has unit || has docker; then
  # The emulator would take longer to unpack what is compressed.
  export COMPRESSION=none
  mv "$(deploy/package.sh "$target/release" "$cache/packages")" "$cache/packages/first.deb"
  mv "$(VERSION=99.0 deploy/package.sh "$target/release" "$cache/packages")" "$cache/packages/second.deb"
fi

# Boots a machine for some parts, and fails if one of them has: guest NAME PART...
guest() (
  name=$1
  shift
  trap 'rm -f "$cache/$name.initramfs" "$cache/$name.disk"' EXIT
  truncate -s 16M "$cache/$name.disk"
  $here/image.sh "$cache" "$target/release" "$cache/$name.initramfs" "$@"
  # Do not believe that the timer is broken when the host is busy, and do without what costs time: AppArmor, for which
  # dockerd would want its parser, and a program at another address at each start, which the emulator translates anew.
  slow="no_timer_check nowatchdog mitigations=off apparmor=0 norandmaps"
  timeout --foreground 2400 qemu-system-x86_64 -accel tcg -cpu qemu64 -m ${memory}M -smp 2 \
    -drive "file=$cache/$name.disk,format=raw,if=virtio" -nodefaults -no-reboot -display none -serial stdio \
    -kernel "$cache"/kernel/boot/vmlinuz-* -initrd "$cache/$name.initramfs" \
    -append "console=ttyS0 loglevel=1 panic=1 rdinit=/init $slow" </dev/null |
    sed -u 's|\r$||' | tee "$cache/$name.log" | sed -u "s|^|$name: |"
  grep -q '^guest: passed$' "$cache/$name.log"
  for part in unit docker; do
    [[ " $* " != *" $part "* ]] || grep -q "^$part: passed$" "$cache/$name.log"
  done
)

# The name of each machine that runs, by its process, which leads a process group: it ends with this script.
declare -A guests=()
trap 'for pid in "${!guests[@]}"; do kill -- "-$pid" 2>/dev/null || :; done; wait' EXIT

start() {
  rm -f "$cache/$1.log"
  set -m
  guest "$@" &
  guests[$!]=$1
  set +m
}

# Waits until no machine runs.
finish() {
  local pid name
  while [ ${#guests[@]} -gt 0 ]; do
    if wait -n -p pid "${!guests[@]}"; then
      unset "guests[$pid]"
    else
      name=${guests[$pid]}
      unset "guests[$pid]"
      echo "guest: $name failed: see $cache/$name.log"
      exit 1
    fi
  done
}

# The emulator takes up to 1 GiB beside a machine's memory, for the programs that it has translated.
available=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
# shellcheck disable=SC2086 # a list of words
[ -z "$names" ] || start tests $names
[ "$available" -ge $((2 * (memory + 1024))) ] || finish
# shellcheck disable=SC2086 # a list of words
[ -z "$others" ] || start others $others
finish
