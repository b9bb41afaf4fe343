# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bans while a watched unit writes as fast as journald takes it; and, as a program, that unit.

    rush.py RATE SECONDS

sends the lines of its standard input by the native protocol, over and over, and prints how many it sent. It is started
without `site`, so it has the standard library only.
"""

from __future__ import annotations

import socket
import sys
import time

_STEP = 0.01  # seconds


def main(rate: int, seconds: float) -> int:
    """Send `rate` entries a second, or as many as journald takes: it blocks the sender; give how many there were."""
    entries = [
        b"MESSAGE=%s\nSYSLOG_IDENTIFIER=sshd\nPRIORITY=6\n" % line for line in sys.stdin.buffer.read().splitlines()
    ]
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.connect("/run/systemd/journal/socket")
        began = time.monotonic()
        while (gone := time.monotonic() - began) < seconds:
            while sent < rate * gone:
                log.send(entries[sent % len(entries)])
                sent += 1
            time.sleep(_STEP)
    return sent


if __name__ == "__main__":
    print(main(int(sys.argv[1]), float(sys.argv[2])))
