#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# servers.sh - runs inside a Debian root and puts servers into it that ask for passwords. None is enabled: the test that
# wants one starts it.
set -eu

# nothing starts in a root that isn't booted, and no list or package stays in it
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mount -t tmpfs tmpfs /var/cache/apt
mount -t tmpfs tmpfs /var/lib/apt/lists
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet update
apt-get --quiet --yes --no-install-recommends install acl dovecot-imapd nginx-light postfix vsftpd
umount /var/cache/apt /var/lib/apt/lists
rm /usr/sbin/policy-rc.d
systemctl disable dovecot.service nginx.service postfix.service vsftpd.service

printf 'alice:{PLAIN}right-pw\n' >/etc/nginx/passwords
cat >/etc/nginx/sites-available/default <<'N'
server {
    listen 80 default_server;
    root /var/www/html;
    auth_basic "bed";
    auth_basic_user_file /etc/nginx/passwords;
}
N

# passwords in the clear, from anywhere and answered at once; and a socket for postfix to ask
if grep -q ^dovecot_config_version /etc/dovecot/dovecot.conf; then
    echo auth_allow_cleartext = yes
else
    echo disable_plaintext_auth = no
fi >/etc/dovecot/local.conf
cat >>/etc/dovecot/local.conf <<'D'
ssl = no
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0660
    user = postfix
    group = postfix
  }
}
D
install -d -o postfix -g root -m 700 /var/spool/postfix/private # dovecot may come first
postconf smtpd_sasl_type=dovecot smtpd_sasl_path=private/auth smtpd_sasl_auth_enable=yes myhostname=bed.test \
    inet_interfaces=all
: >/etc/resolv.conf # nobody answers in a bed, and that is to be known at once
