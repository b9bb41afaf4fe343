# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that logs: what comes on its standard input goes to journald, by the way that is asked for.

A request is a line "WAY BASE64"; it is answered by "sent" when it was sent. The process ends with its input, and not
before: until then journald can look up whose it is. Standard library only, started without `site`.
"""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import socket
import sys

_JOURNAL = "/run/systemd/journal/socket"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def main() -> None:
    """Serve requests; the argument is the name that the process is to have (at most 15 bytes)."""
    with open("/proc/self/comm", "w") as comm:  # noqa: PTH123 - pathlib is slow to import
        comm.write(sys.argv[1])
    stream: socket.socket | None = None
    for line in sys.stdin.buffer:
        way, _, encoded = line.partition(b" ")
        data = binascii.a2b_base64(encoded)
        if way == b"native":
            _send_native(data)
        elif way == b"syslog":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
                log.sendto(data, "/dev/log")
        elif stream is None:  # its first piece is the header
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            stream.connect("/run/systemd/journal/stdout")
            stream.sendall(data)
        else:
            stream.sendall(data)
        sys.stdout.write("sent\n")
        sys.stdout.flush()


def _send_native(data: bytes) -> None:
    """Send a datagram, or where it is too large a sealed file's descriptor (systemd's native journal protocol)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect(_JOURNAL)
        try:
            log.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            memory = os.memfd_create("entry", os.MFD_ALLOW_SEALING)
            with open(memory, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
                socket.send_fds(log, [], [memory])


main()
