#!/bin/bash
# Runs every check and every test; ends with "N passed, N failed", and not zero if one failed.
# As root, on a machine where it may install what is missing (.ci/install).
set -uo pipefail
cd "$(dirname "$0")" || exit

.ci/install test || exit 1
PATH=$PWD/target/venv/bin:$PATH:~/.cargo/bin
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# The programs as they are shipped, and no test that skips itself because something is missing.
export GANTRYD=$target/release/gantryd GANTRY_SHIM=$target/release/gantry-shim
export GANTRY=$target/release/gantry GANTRY_DAEMON=$target/release/gantry-daemon
export GANTRY_TEST_STRICT=1

passed=0 failed=()
check() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed+=("$name")
    printf '== %s FAILED\n' "$name"
  fi
  printf '== %s: %ss\n' "$name" "$((SECONDS - start))"
}

scripts() {
  shellcheck ./*.sh crates/shim/build.sh tests/*.sh .ci/{contract,dependencies,docs,install,layers,package,readme,run} deploy/*.sh deploy/debian/{postinst,prerm,postrm} tests/guest/{*.sh,init,in-server-group}
}

# What demo.sh has not built: the reference daemon, and what only tests want, variants and an earlier version.
build() {
  cargo build --release --locked --bin gantry-daemon && tests/variants.sh && tests/old-version.sh
}

# Links and code in the documentation of every crate.
rustdoc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items; }

# Unit, integration and end-to-end tests, and the examples in the documentation.
tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast && cargo test --workspace --doc
  else
    cargo test --workspace --no-fail-fast
  fi
}

cargo fetch --locked || exit 1
check format cargo fmt --all --check
check scripts scripts
check contract .ci/contract
check docs .ci/docs
check layers .ci/layers
check dependencies .ci/dependencies
check typos typos
check package .ci/package
check lints cargo clippy --locked --workspace --all-targets -- -D warnings
check demo ./demo.sh
check readme .ci/readme
check units deploy/verify.sh "$target/release"
check debian deploy/verify-package.sh "$target/release"
check build build
check rustdoc rustdoc
check tests tests
# Without the parts on execs and terminals, which are the same on cgroup v2: tests/guest/run.sh alone runs all.
check guest tests/guest/run.sh lifecycle stats update oom checkpoint unit docker

echo
[ ${#failed[@]} = 0 ] || printf 'failed: %s\n' "${failed[@]}"
echo "checks: $passed passed, ${#failed[@]} failed"
[ ${#failed[@]} = 0 ]
