#!/bin/bash
# Boots Debian's kernel in qemu and runs the end-to-end tests in it, on cgroup v2 alone, with a CRIU
# that works and, at last, under systemd: tests/guest/run.sh [PART...], each the name of a file in
# tests/tests, or "checkpoint", or "unit".
#
# The server, the shim and the client are those of target/release. KVM is not asked for: not every
# machine has it, and the tests take little longer without.
set -euo pipefail

cd "$(dirname "$0")/../.."
here=tests/guest
target=${CARGO_TARGET_DIR:-target}
cache=$target/guest
log=$cache/console.log
# What is about the host's own programs stays outside.
parts=${*:-lifecycle exec terminal stats update oom checkpoint unit docker}
names=$(tr ' ' '\n' <<<"$parts" | grep -vxE 'checkpoint|unit|docker' || :)

rm -rf "$cache/tests" "$cache/programs"
mkdir -p "$cache/tests" "$cache/programs"
$here/kernel.sh "$cache/kernel"
# --workspace: built as test.sh builds them, with the same features of everything below.
# shellcheck disable=SC2046,SC2086
[ -z "$names" ] || cargo test --workspace $(printf -- ' --test %s' $names) --no-run --message-format=json |
  jq -r 'select(.profile.test and .executable) | "\(.executable) \(.target.name)"' |
  while read -r executable name; do cp "$executable" "$cache/tests/$name"; done
if [[ " $parts " == *" checkpoint "* ]]; then
  cargo build --workspace --bin checkpoint-tasks
  install -D -t "$cache/programs" "$target/debug/checkpoint-tasks"
fi
# shellcheck disable=SC2086 # a list of words
$here/image.sh "$cache/kernel" "$target/release" "$cache/tests" "$cache/initramfs" $parts

# Do not believe that the timer is broken when the host is busy, and do without what costs time; no AppArmor, as
# dockerd would want its parser.
slow="no_timer_check nowatchdog mitigations=off apparmor=0"
truncate -s 16M "$cache/disk"
timeout --foreground 2400 qemu-system-x86_64 -accel tcg -cpu qemu64 -m 1G -smp 2 \
  -drive "file=$cache/disk,format=raw,if=virtio" -nodefaults -no-reboot -display none -serial stdio \
  -kernel "$cache"/kernel/boot/vmlinuz-* -initrd "$cache/initramfs" \
  -append "console=ttyS0 loglevel=1 panic=1 rdinit=/init $slow" </dev/null | sed -u 's|\r$||' | tee "$log"

grep -q '^guest: passed$' "$log"
for part in unit docker; do
  [[ " $parts " != *" $part "* ]] || grep -q "^$part: passed$" "$log"
done
