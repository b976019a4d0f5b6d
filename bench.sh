#!/bin/bash
# Measures Gantry beside the bare runtimes, containerd 1.6 and conmon: ./bench.sh [--quick]
# [--only NAME] [--address SOCKET] [--out DIR], see --help. As root; installs what it compares with.
set -euo pipefail
cd "$(dirname "$0")"

packages="runc crun containerd conmon socat busybox-static"
missing=$(for package in $packages; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
done)
if [ -n "$missing" ]; then
  # Packaged services are not started: the benchmark starts its own.
  apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $missing
fi

cargo build --release -p gantryd -p gantry-bench
cargo shim
exec cargo run --release -p gantry-bench -- "$@"
