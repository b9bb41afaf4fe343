#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# root.sh - runs inside a fresh Debian root and makes it one that a test can boot
set -eu

echo bed >/etc/hostname
echo '127.0.0.1 localhost bed' >/etc/hosts
: >/etc/machine-id
mkdir -p /var/log/journal

# who the attacker is after; and an ordinary user for what an insider can do
useradd --create-home --shell /bin/bash alice
echo alice:right-pw | chpasswd
# a wrong password costs 0.2 s rather than 2 to 4
sed -i 's/pam_unix.so nullok$/pam_unix.so nullok nodelay/' /etc/pam.d/common-auth
grep -q 'pam_unix.so nullok nodelay' /etc/pam.d/common-auth

# a real network service, so that the order of network-pre.target and what follows it is the one users have
cat >/etc/systemd/network/10-host0.network <<'N'
[Match]
Name=host0

[Network]
Address=10.99.0.2/24
Gateway=10.99.0.1
Address=fd99::2/64
Gateway=fd99::1
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
IPv6DuplicateAddressDetection=0
N
systemctl enable systemd-networkd.service
systemctl disable systemd-networkd-wait-online.service

# of no use in a bed, or woken by the clock in the middle of a test
systemctl mask apt-daily.timer apt-daily-upgrade.timer cron.service dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer logrotate.timer
systemctl mask console-getty.service getty.target systemd-timesyncd.service
# started by the test that wants it: Debian has come without it since 12
systemctl disable rsyslog.service
