#!/bin/bash
# Measures Gantry beside the bare runtimes, containerd 1.6 and conmon: ./bench.sh [--quick]
# [--only NAME] [--address SOCKET] [--out DIR], see --help. As root; installs what it compares with.
set -euo pipefail
cd "$(dirname "$0")"

.ci/install bench
PATH=$PATH:~/.cargo/bin
cargo build --release -p gantryd -p gantry-bench
crates/shim/build.sh
exec cargo run --release -p gantry-bench -- "$@"
