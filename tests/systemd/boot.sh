#!/bin/bash
# boot.sh ROOT BOOT_ID CGROUP: boots the systemd of the Debian tree ROOT as pid 1 of namespaces of its own: processes,
# mounts, network, host name, and a cgroup v2 tree whose root is CGROUP. Comes back when that systemd is gone.
# A boot id of its own stands for the reboot: a container keeps its machine's kernel.
set -eu
root=$1 boot_id=$2 cgroup=$3
mkdir -p "$cgroup"
echo $$ > "$cgroup/cgroup.procs"
exec unshare --mount --pid --fork --uts --ipc --net --cgroup --propagation private --kill-child bash -c '
set -eu
boot_id=$1
cd "$0"
mount --bind . . && cd "$0"
mount -t proc proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for std in "0 stdin" "1 stdout" "2 stderr"; do ln -s "fd/${std% *}" "dev/${std#* }"; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --bind "$boot_id" proc/sys/kernel/random/boot_id
hostname night
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=benchd PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /lib/systemd/systemd </dev/null
' "$root" "$boot_id"
