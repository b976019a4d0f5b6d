#!/bin/bash
# Puts Debian's current kernel and its modules under DIR: DIR/boot/vmlinuz-*, DIR/lib/modules/*.
# Fetched once; the package is only unpacked, nothing is installed.
set -euo pipefail

dir=${1:?usage: kernel.sh DIR}
compgen -G "$dir/lib/modules/*/modules.dep" >/dev/null && exit

# linux-image-amd64 is empty; the kernel is in the package that it depends on.
package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
[ -n "$package" ] || { echo "kernel.sh: no linux-image-amd64 known; run apt-get update" >&2; exit 1; }

rm -rf "$dir"
mkdir -p "$dir"
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$package")
dpkg -x "$dir/$package"_*.deb "$dir"
rm "$dir/$package"_*.deb
busybox depmod -b "$dir" "$(basename "$dir"/lib/modules/*)"
