#!/bin/sh
# Installs into an empty root and checks the units with systemd: deploy/verify.sh [BINARIES]
set -eu

here=$(dirname "$(realpath "$0")")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

DESTDIR=$root "$here/install.sh" "$@"

# Dependencies of the units: the machine's own targets, and a docker.service for the drop-in.
mkdir -p "$root/usr/lib/systemd" "$root/etc/systemd/system/docker.service.d" "$root/usr/bin"
cp -r /usr/lib/systemd/system "$root/usr/lib/systemd/"
cp "$here/docker-gantry.conf" "$root/etc/systemd/system/docker.service.d/gantry.conf"
cp "$here/containerd.service" "$root/etc/systemd/system/"
printf '[Service]\nExecStart=/usr/bin/dockerd -H fd://\n' >"$root/etc/systemd/system/docker.service"
install -m 755 /bin/true "$root/usr/bin/kill"
install -m 755 /bin/true "$root/usr/bin/dockerd"
install -m 755 /bin/true "$root/usr/bin/modprobe"

# systemd-analyze only warns about an unknown key; here that is an error.
# DelegateSubgroup= exists since systemd 254; older versions ignore it.
complaints=$(systemd-analyze verify --root="$root" gantryd.socket gantryd.service containerd.service docker.service 2>&1 |
  grep -v "Unknown key.* 'DelegateSubgroup'" || :)
# What holds for the one unit holds for the one in containerd's place.
settings() { sed -n '/^\[Service\]/,/^\[Install\]/p' "$1" | grep -v '^ExecStart\|^#\|^\['; }
[ "$(settings "$here/gantryd.service")" = "$(settings "$here/containerd.service")" ] ||
  complaints="$complaints gantryd.service and containerd.service differ in more than their commands"
# Without an order, systemd starts it while what it conflicts with is still being stopped.
conflicts=$(sed -n 's/^Conflicts=//p' "$here/containerd.service")
for unit in $conflicts; do
  grep -q "^After=.*\b$unit\b" "$here/containerd.service" ||
    complaints="$complaints containerd.service conflicts with $unit and is not after it"
done
# docs/unit.md has the score of systemd 252 and names each recommended line; later versions recommend
# more lines.
rated() { systemd-analyze security --offline=true --no-pager "$@" "$here/gantryd.service" 2>/dev/null; }
if systemd-analyze --version | grep -q '^systemd 252 '; then
  score=$(rated | sed -n 's/.*Overall exposure level[^:]*: \([0-9.]*\).*/\1/p')
  grep -q "^$score with and without the lines below" "$here/../docs/unit.md" ||
    complaints="$complaints docs/unit.md does not have the score $score"
  for line in $(rated --json=short | jq -r '.[] | select(.set == false) | .name | sub("=.*"; "=")'); do
    grep -q "\`$line" "$here/../docs/unit.md" || complaints="$complaints docs/unit.md does not name $line"
  done
fi
systemd-tmpfiles --root="$root" --create gantry.conf
[ -z "$complaints" ] || { echo "$complaints" >&2; exit 1; }
[ "$(stat -c %a "$root/run/gantry")" = 711 ]
