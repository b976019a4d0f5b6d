#!/bin/bash
# Makes the guest's initramfs: busybox, the runtimes, CRIU and systemd with their libraries, the kernel
# modules CRIU asks for, and below /gantry the suite, the programs under test, the packages of them, and the tests.
set -euo pipefail
shopt -s nullglob

cache=${1:?usage: image.sh DIR PROGRAMS-DIR IMAGE PART...} programs=${2:?} image=${3:?} parts=${*:4}
here=$(dirname "$(realpath "$0")")
modules_dir=$(echo "$cache"/kernel/lib/modules/*)
release=$(basename "$modules_dir")

# What CRIU looks at sockets through and locks the network with (softdeps named, as busybox's
# modprobe does not know them); a disk to limit; what a container's file system or network may want.
modules="crc32c_generic inet_diag tcp_diag udp_diag raw_diag unix_diag af_packet_diag netlink_diag
  nfnetlink nf_conntrack_netlink nf_tables nft_compat x_tables ip_tables ip6_tables iptable_filter
  ip6table_filter virtio_pci virtio_blk overlay veth"
# sh, nsenter and ip are the tests', as busybox's prefer each other and know less; tar: CRIU
# keeps a tmpfs as an archive, with options that busybox does not have.
system="runc crun criu iptables-restore iptables-save ip6tables-restore ip6tables-save tar gzip
  sh nsenter ip jq"
# systemd, dpkg, and what dpkg and the package's scripts call.
systemd="systemctl systemd-sysusers systemd-tmpfiles dpkg dpkg-deb dpkg-query dpkg-split perl deb-systemd-helper
  deb-systemd-invoke ldconfig start-stop-daemon getent find diff rm rmdir setpriv"
# Of systemd's own units no more than a service stands on: nothing else is to be started.
units="basic.target local-fs.target shutdown.target sockets.target sysinit.target umount.target"

root=$(mktemp -d)
# All users of the guest have the same root.
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT

# Puts a program to where it is on this machine.
add_program() {
  install -D -m 755 "$(realpath "$1")" "$root$1"
  add_libraries "$1"
}

add_libraries() {
  local library
  for library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
    [ -e "$root$library" ] || install -D -m 755 "$(realpath "$library")" "$root$library"
  done
}

# Puts a module and those it depends on to where modprobe looks for them.
add_module() {
  local files file
  files=$(grep -E "(^|/)${1//_/[_-]}\.ko(\.[a-z]+)?:" "$modules_dir/modules.dep" | tr -d :) ||
    { echo "image.sh: kernel $release has no module $1" >&2; exit 1; }
  for file in $files; do
    install -D -m 644 "$modules_dir/$file" "$root/lib/modules/$release/$file"
  done
}

# Merged as on Debian, or a program would be in two places.
mkdir -p "$root"/{dev,etc,gantry/{bin,tests},mnt,proc,root,run,sys,tmp,var/lib} "$root"/usr/{bin,sbin,lib,lib64}
for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
ln -s /run "$root/var/run"
install -m 755 /bin/busybox "$root/bin/busybox"
install -m 755 "$here/init" "$root/init"
install -m 755 -t "$root/gantry" "$here"/{suite,checkpoint,functions,unit,docker,facts}.sh "$here/in-server-group"

for program in $system; do add_program "$(command -v "$program")"; done
echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
printf 'root:x:0:\ndocker:x:1:\n' >"$root/etc/group"

if [[ " $parts " == *" unit "* || " $parts " == *" docker "* ]]; then
  for program in $systemd; do add_program "$(command -v "$program")"; done
  add_program /lib/systemd/systemd
  for unit in $units; do install -D -m 644 -t "$root/lib/systemd/system" "/lib/systemd/system/$unit"; done
  install -D -m 644 -t "$root/etc/systemd/system" "$here/parts.service"
  # One that is there, or systemd enables what it finds.
  echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
  # A user who is to be of the group that the package makes, and one who is not.
  printf 'member:x:1000:1000::/:/bin/sh\nstranger:x:1001:1001::/:/bin/sh\n' >>"$root/etc/passwd"
  printf 'member:x:1000:\nstranger:x:1001:\n' >>"$root/etc/group"
  # What the package depends on is there; nothing else is known to dpkg.
  mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers}
  depends=$(dpkg-deb --field "$cache/packages/first.deb" Depends Pre-Depends | sed 's/^[^:]*://; s/([^)]*)//g' | tr -d '\n,')
  # shellcheck disable=SC2086 # a list of words
  for package in $depends; do
    dpkg-query --status "$package" && echo
    touch "$root/var/lib/dpkg/info/$package.list" "$root/var/lib/dpkg/info/$package:amd64.list"
  done >"$root/var/lib/dpkg/status"
  # Modules of perl that belong to every Debian.
  cp -r --parents /usr/lib/x86_64-linux-gnu/perl-base "$root"
  cp -t "$root/gantry" "$cache"/packages/*.deb
fi
# Debian's own, with its units; programs of these names elsewhere on this machine may be others.
if [[ " $parts " == *" docker "* ]]; then
  for program in /usr/sbin/dockerd /usr/bin/docker; do add_program "$program"; done
  install -D -m 644 -t "$root/lib/systemd/system" /lib/systemd/system/docker.{service,socket}
fi
# xtables finds its matches by name.
xtables=/usr/lib/x86_64-linux-gnu/xtables
install -D -m 644 -t "$root$xtables" "$xtables"/*.so

for module in $modules; do add_module "$module"; done
busybox depmod -b "$root" "$release"
echo "$modules" >"$root/etc/modules"

echo "$parts" >"$root/gantry/parts"
install -m 755 -t "$root/gantry/bin" "$programs"/{gantryd,gantry-shim,gantry}
[[ " $parts " != *" checkpoint "* ]] || cp -t "$root/gantry/bin" "$cache"/programs/*
for test in "$cache"/tests/*; do
  [[ " $parts " != *" ${test##*/} "* ]] || cp -t "$root/gantry/tests" "$test"
done
for file in "$root"/gantry/{bin,tests}/*; do add_libraries "$file"; done

(cd "$root" && find . | cpio --quiet -o -H newc) >"$image"
