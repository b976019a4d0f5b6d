#!/bin/sh
# Writes man pages: deploy/man.sh BINARIES DIRECTORY, which gets man1/gantry*.1 and man8/gantryd.8.
set -eu
binaries=$1 directory=$2

"$binaries/gantry" man "$directory/man1"

# gantryd's help is one text: what it is, a line or more for each flag, and what holds for all.
mkdir -p "$directory/man8"
"$binaries/gantryd" --help | awk -v version="$("$binaries/gantryd" --version | awk 'NR == 1 { print $NF }')" '
  function roff(text) { gsub(/\\/, "\\e", text); gsub(/-/, "\\-", text); sub(/^[.\47]/, "\\\\\\&&", text); return text }
  NR == 1 {
    about = $0; sub(/^gantryd: /, "", about)
    print ".TH gantryd 8 \"\" \"gantryd " version "\"\n.SH NAME\ngantryd \\- " roff(about)
    print ".SH SYNOPSIS\n\\fBgantryd\\fR [\\fIOPTION\\fR]...\n.SH OPTIONS"
    next
  }
  /^ +-/ {
    flag = $0; sub(/^ +/, "", flag)
    text = flag
    if (match(flag, /  +/)) { text = substr(flag, RSTART + RLENGTH); flag = substr(flag, 1, RSTART - 1) } else text = ""
    print ".TP\n\\fB" roff(flag) "\\fR\n" roff(text)
    next
  }
  /^ / { sub(/^ +/, ""); print roff($0); next }
  /^$/ { blank = 1; next }
  { if (blank) print (notes++ ? ".PP" : ".SH NOTES"); blank = 0; print roff($0) }
  END {
    print ".SH FILES\n.TP\n\\fI/etc/gantry/gantryd.toml\\fR\nThe configuration that the packaged unit names; each key is explained there."
    print ".SH SEE ALSO\n\\fBgantry\\fR(1), \\fBsystemctl\\fR(1)"
  }' >"$directory/man8/gantryd.8"
