#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# outer.sh LAYERS NSPAWN_OPTION... - runs in mount, network and IPC namespaces of its own: it is the world around the
# machine, and its network is the attacker's. Boots the machine, again after a reboot or a power cut, until it is
# switched off.
set -eu
layers=$1
shift

# systemd-nspawn and the systemd in it are to see cgroup2 alone, also where the host mixes the two hierarchies
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o "lowerdir=$layers,upperdir=/run/upper,workdir=/run/work" overlay /run/root
tr -d - </proc/sys/kernel/random/uuid >/run/root/etc/machine-id # without one systemd would preset all units

# On the machine's own link the attacker has a few addresses, and behind its router (this side, too) whole networks:
# a local route makes each of their addresses ours.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad # a second of silence after each boot, otherwise
ip link set lo up
ip link add bed type bridge forward_delay 0 mcast_snooping 0
ip link set bed up
{
    echo address add 10.99.0.1/24 dev bed
    echo address add fd99::1/64 dev bed nodad
    for last in $(seq 11 30); do
        echo "address add 10.99.0.$last/24 dev bed"
        echo "address add fd99::$last/64 dev bed nodad"
    done
    echo route add local 198.18.0.0/15 dev lo
    echo route add local 2001:db8::/32 dev lo
} | ip -batch -
echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind # for IPv6 a local route alone is not enough to bind

export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
until systemd-nspawn --quiet --boot --notify-ready=yes --directory=/run/root --machine=bed \
    --register=no --keep-unit --network-bridge=bed --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
    --kill-signal=SIGRTMIN+3 "$@" systemd.log_target=journal; do
    echo "outer.sh: ended with status $?, booting again"
done
