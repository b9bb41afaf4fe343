# SPDX-License-Identifier: LGPL-2.1-or-later
"""decide.py DIRECTORY: the agent's own way from the journal to the decision, without kernel, history and log.

Prints what was read and the CPU time of it as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from banagent.config import load
from banagent.core.bans import Bans
from banagent.core.jail import Jail, Rule
from banagent.core.never import Host, Never
from banagent.core.recognise import Recogniser, View
from banagent.sources.journal import Journal

if TYPE_CHECKING:
    from banagent.config import JailConfig


def vendor_jails() -> list[JailConfig]:
    """Give the jails as the package enables them, whatever this machine's admin says."""
    return [jail for jail in load(root=Path("/nonexistent")).jails if jail.enabled]


def decide(directory: Path) -> dict[str, int]:
    """Read the whole journal and decide about each entry."""
    configs = vendor_jails()
    recogniser = Recogniser({config.name: View(config.filter, config.mode) for config in configs})
    bans = Bans()
    jails = {
        config.name: Jail(
            config.name,
            Rule(config.findtime, config.maxretry, config.bantime, config.filter.session is not None),
            Never(config.ignoreip, Host()),
            bans,
        )
        for config in configs
    }
    journal = Journal([config.filter for config in configs], directory)
    journal.seek_time(0)
    before = time.process_time_ns()
    read = hits = offences = decided = 0
    while (batch := journal.read(recogniser.sift)).read:
        read += batch.read
        hits += len(batch.entries)
        for entry, matched in batch.entries:
            for name, offence in recogniser.offences(entry, matched):
                offences += 1
                decided += len(jails[name].consider(offence))
    cpu = time.process_time_ns() - before
    journal.close()
    return {"read": read, "hits": hits, "offences": offences, "bans": decided, "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(decide(Path(sys.argv[1]))))
