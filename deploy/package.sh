#!/bin/sh
# Makes a Debian package: deploy/package.sh [BINARIES [DIRECTORY]], of target/release and in target/debian by default.
# Prints the package's path. VERSION is gantryd's by default. Needs dpkg-deb
# and objdump (binutils), and no root.
set -eu

here=$(dirname "$(realpath "$0")")
binaries=$(realpath "${1:-$here/../target/release}")
directory=${2:-$here/../target/debian}
version=${VERSION:-$("$binaries/gantryd" --version | awk 'NR == 1 { print $NF }')}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
umask 022

DESTDIR=$root PREFIX=/usr "$here/install.sh" "$binaries"
doc=$root/usr/share/doc/gantry
# It is /etc/gantry/gantryd.toml.
rm "$doc/gantryd.toml"
install -m 644 "$here/debian/copyright" "$doc/copyright"
gzip -9n <"$here/../CHANGELOG.md" >"$doc/changelog.gz"
find "$root/usr/share/man" -type f -exec gzip -9n {} +

mkdir "$root/DEBIAN"
size=$(du -sk --exclude=DEBIAN "$root" | cut -f 1)
# What the programs are linked to, by the libraries' own packages: Rust links to the C library only.
libc=$(objdump -T "$binaries/gantryd" "$binaries/gantry" | grep -oE 'GLIBC_[0-9.]+' | sort -Vu | tail -n 1)
[ -n "$libc" ] || {
  echo "package: objdump (binutils) does not tell which C library $binaries/gantryd needs" >&2
  exit 1
}
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$(dpkg --print-architecture)/" -e "s/@SIZE@/$size/" \
  -e "s/@LIBC@/${libc#GLIBC_}/" "$here/debian/control" >"$root/DEBIAN/control"
install -m 755 -t "$root/DEBIAN" "$here/debian/postinst" "$here/debian/prerm" "$here/debian/postrm"
echo /etc/gantry/gantryd.toml >"$root/DEBIAN/conffiles"
(cd "$root" && find usr etc -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"

mkdir -p "$directory"
# Fast to make, and twice as large as the smallest: COMPRESSION=xz is that.
dpkg-deb --root-owner-group -Z"${COMPRESSION:-gzip}" --build "$root" "$directory" >&2
echo "$(realpath "$directory")/gantry_${version}_$(dpkg --print-architecture).deb"
