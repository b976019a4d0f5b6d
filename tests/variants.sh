#!/bin/bash
# Builds gantryd and gantry-shim in the variants that some tests need, into <target>/variants:
#   failpoints  die where a test arms a point
#   next        speak the protocol of a later version
# In the dev profile, whose dependencies the tests share.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
variant() {
  local name=$1 features=$2
  cargo build --locked -q -p gantryd -p gantry-shim --features "$features"
  install -D -t "$target/variants/$name" "$target/debug/gantryd" "$target/debug/gantry-shim"
}

variant failpoints gantryd/failpoints,gantry-shim/failpoints
variant next gantryd/next,gantry-shim/next
