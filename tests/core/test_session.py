# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

from banagent.core.session import Sessions


def test_load_leaves_out_rubbish() -> None:
    sessions = Sessions()
    rubbish = (b"", b"{", b"[]", b'["x", {}]', b"[1, []]", b'[1, {"failed": "x"}]', b"[1, 2, 3]", b"\xff")
    good = b'[5, {"failed": 2}]'
    sessions.load([(b"%d" % number, value) for number, value in enumerate(rubbish)] + [(b"good", good)])
    assert list(sessions.items()) == [(b"good", good)]
    assert sessions.attempts(b"good", 6, "left", 1, once=False) == 0  # it was counted as "failed" already
