#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# hold.sh CGROUP COMMAND...: run COMMAND in the new cgroup CGROUP until standard input ends, because whoever started
# this closed it or was killed; then end all that is left in the cgroup and remove it.
set -u
cgroup=$1
shift
mkdir "$cgroup" || exit
sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$cgroup" "$@" &
cat >/dev/null
echo 1 >"$cgroup/cgroup.kill"
wait
# orphans are reaped by others: the cgroup is empty a moment after they were killed
tries=0
until find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || [ $tries -eq 500 ]; do
    tries=$((tries + 1))
    sleep 0.01
done
[ ! -e "$cgroup" ]
