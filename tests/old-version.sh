#!/bin/bash
# Builds gantryd and gantry-shim of an earlier version out of this repository's history, into
# <target>/variants/0446ef4: what the upgrade tests (tests/tests/upgrade) begin with. A build that is
# there is kept; <target>/upgrade can be removed at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=0446ef4fabc6823a9458ae67d0ef2924fea3b0cd
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
programs=$target/variants/${commit:0:7}
[ ! -d "$programs" ] || exit 0

if ! git cat-file -e "$commit^{commit}"; then
  echo "$0: commit $commit is not in this clone. A shallow clone gets the history with" >&2
  echo "  git fetch --unshallow     (actions/checkout: fetch-depth: 0)" >&2
  echo "and a copy that is no clone needs the repository for these tests." >&2
  exit 1
fi

source=$target/upgrade/source
rm -rf "$source"
mkdir -p "$source"
git archive "$commit" | tar -x -C "$source"
cd "$source"

# A build directory of its own: in a shared one cargo takes a crate of today for the crate of the same name and
# place then, as it distinguishes them by time stamps only.
export CARGO_TARGET_DIR=$target/upgrade CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TERM_QUIET=true
cargo build --locked -p gantryd -p gantry-shim
# The shim as it was shipped: a static program that outlives its server.
crates/shim/build.sh

# There as a whole or not at all.
rm -rf "$programs.new"
install -D -t "$programs.new" "$target/upgrade/debug/gantryd" "$target/upgrade/release/gantry-shim"
mv "$programs.new" "$programs"
