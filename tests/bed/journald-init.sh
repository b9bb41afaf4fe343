#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# journald-init.sh DIR MACHINE_ID: as PID 1 of fresh mount, pid and cgroup namespaces, keep a journald running.
# Its files are in DIR/log/journal/MACHINE_ID; it says READY=1 to the datagram socket DIR/notify whenever it is up.
set -eu
dir=$1
mount -t proc proc /proc
mkdir -p "$dir/log/journal" "$dir/dev" "$dir/run"

# the machine's devtmpfs is one for all: a /dev/log made there would be seen outside
mount -t tmpfs -o mode=755 tmpfs "$dir/dev"
for node in null zero full random urandom tty; do
    : >"$dir/dev/$node"
    mount --bind "/dev/$node" "$dir/dev/$node"
done
mkdir "$dir/dev/pts" "$dir/dev/shm"
mount --bind /dev/pts "$dir/dev/pts"
mount -t tmpfs tmpfs "$dir/dev/shm"
ln -s pts/ptmx "$dir/dev/ptmx"
ln -s /proc/self/fd "$dir/dev/fd"
ln -s /proc/self/fd/0 "$dir/dev/stdin"
ln -s /proc/self/fd/1 "$dir/dev/stdout"
ln -s /proc/self/fd/2 "$dir/dev/stderr"
ln -s /run/systemd/journal/dev-log "$dir/dev/log"
mount --rbind "$dir/dev" /dev

mount -t tmpfs -o mode=755 tmpfs "$dir/run"
mkdir -p "$dir/run/bed" "$dir/run/systemd/journal" "$dir/run/systemd/journald.conf.d"
mount --bind "$dir" "$dir/run/bed" # a short path: those of sockets end at 107 bytes
mount --rbind "$dir/run" /run
: >/run/systemd/journal/flushed # straight to /var/log, without a flush
mount --bind /run/bed/log /var/log
mkdir /run/etc /run/etc.work # a layer, because a machine without systemd has no file to mount a machine-id on
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc.work overlay /etc
echo "$2" >/etc/machine-id
cat >/run/systemd/journald.conf.d/99-bed.conf <<CONF
[Journal]
Storage=persistent
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToKMsg=no
ForwardToConsole=no
ForwardToWall=no
RateLimitIntervalSec=0
SystemMaxUse=256M
CONF

export NOTIFY_SOCKET=/run/bed/notify
journald=
trap 'kill "$journald"; wait "$journald"; exit 0' TERM
while :; do # a journald that was ended comes back, as under systemd
    /lib/systemd/systemd-journald &
    journald=$!
    wait "$journald" || :
done
