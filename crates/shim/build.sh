#!/bin/bash
# Builds gantry-shim into <target>/release: static and at a fixed address, as a dynamic loader and
# relocations would take time at every start and memory in every shim. On musl where it is at hand
# (`rustup target add`): in a virtual machine glibc's start alone takes 0.7 ms. On glibc otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."

build() { cargo rustc --release --locked -p gantry-shim --bin gantry-shim "$@"; }

musl=$(uname -m)-unknown-linux-musl
if [ -d "$(rustc --print target-libdir --target "$musl")" ]; then
  build --target "$musl" -- -C relocation-model=static
  target=${CARGO_TARGET_DIR:-target}
  install -D -t "$target/release" "$target/$musl/release/gantry-shim"
else
  # The flags must not reach proc-macros, which is why the shim is built on its own.
  build -- -C target-feature=+crt-static -C relocation-model=static
fi
