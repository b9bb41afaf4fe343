#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# sshd.sh DIR: in a mount namespace of its own, be an sshd whose accounts, PAM and configuration are those in DIR.
set -eu
for name in passwd group shadow pam.d; do
    mount --bind "$1/$name" "/etc/$name"
done
mkdir -p /run/sshd
exec "$(command -v sshd)" -D -f "$1/sshd_config"
