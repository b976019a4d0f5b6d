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
install -D -m 644 "$here/sysusers.conf" "$prefix/lib/sysusers.d/gantry.conf"
install -D -m 644 -t "$prefix/share/doc/gantry" "$here/gantryd.toml" "$here/docker-gantry.conf" \
  "$here/containerd.service"

"$here/man.sh" "$binaries" "$prefix/share/man"
# Where each shell looks on Debian, and below /usr/local on most.
completion() {
  mkdir -p "${2%/*}"
  "$binaries/gantry" completion "$1" >"$2"
}
completion bash "$prefix/share/bash-completion/completions/gantry"
completion zsh "$prefix/share/zsh/vendor-completions/_gantry"
completion fish "$prefix/share/fish/vendor_completions.d/gantry.fish"

# Keep an existing configuration.
[ -e "$root/etc/gantry/gantryd.toml" ] ||
  install -D -m 644 -t "$root/etc/gantry" "$here/gantryd.toml"

# The socket is of this group.
if [ -z "$root" ]; then
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers "$prefix/lib/sysusers.d/gantry.conf"
  else
    getent group gantry >/dev/null || groupadd --system gantry
  fi
fi
[ -n "$root" ] || [ ! -d /run/systemd/system ] ||
  echo "Installed. Start it with: systemctl daemon-reload && systemctl enable --now gantryd.socket"
