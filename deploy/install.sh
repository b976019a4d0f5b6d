#!/bin/sh
# Installs Gantry: deploy/install.sh [BINARIES], from target/release by default.
# PREFIX is /usr/local by default; DESTDIR is prepended to every path (for packaging).
set -eu

here=$(dirname "$(realpath "$0")")
binaries=${1:-$here/../target/release}
root=${DESTDIR:-}
prefix=$root${PREFIX:-/usr/local}

install -D -m 755 -t "$prefix/bin" "$binaries/gantryd" "$binaries/gantry-shim" "$binaries/gantry"
install -D -m 644 -t "$prefix/lib/systemd/system" "$here/gantryd.service" "$here/gantryd.socket"
install -D -m 644 "$here/tmpfiles.conf" "$prefix/lib/tmpfiles.d/gantry.conf"
install -D -m 644 -t "$prefix/share/doc/gantry" "$here/gantryd.toml" "$here/docker-gantry.conf" \
  "$here/containerd.service"

# Keep an existing configuration.
[ -e "$root/etc/gantry/gantryd.toml" ] ||
  install -D -m 644 -t "$root/etc/gantry" "$here/gantryd.toml"

[ -n "$root" ] || [ ! -d /run/systemd/system ] ||
  echo "Installed. Start it with: systemctl daemon-reload && systemctl enable --now gantryd.socket"
