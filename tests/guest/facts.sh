#!/bin/sh
# In a container: everything that its first process could have from whoever has started it.
busybox sed -E '/^(Vm|Rss|Hugetlb|SigQ|Threads|FDSize|voluntary|nonvoluntary)/d' /proc/1/status
busybox cat /proc/1/limits
for file in oom_score_adj coredump_filter loginuid sessionid setgroups uid_map gid_map cgroup; do
  echo "$file: $(busybox cat /proc/1/$file)"
done
# Inherited, and shown to a process itself only.
for file in timerslack_ns personality; do echo "$file: $(busybox cat /proc/self/$file)"; done
busybox tr '\0' '\n' </proc/1/environ
# Priority, nice value, process group and session, scheduling policy.
busybox cut -d ' ' -f 5,6,18,19,40,41 /proc/1/stat
echo "descriptors: $(busybox ls /proc/1/fd | busybox tr '\n' ' ')"
# Without what is another number for each mount.
busybox sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/(shared|master):[0-9]+/\1/' /proc/1/mountinfo
busybox ip link
busybox hostname
