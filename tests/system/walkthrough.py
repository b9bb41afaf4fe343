# SPDX-License-Identifier: LGPL-2.1-or-later
"""The walk-through in the README: enable, attack, status, why, unban, played on a booted Debian 13.

    sudo tests/bed/enter .venv/bin/python tests/system/walkthrough.py

plays it and writes what was printed between the markers in the README. test_walkthrough.py plays it again and compares,
so that the README can't drift from what banagent prints.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "agent")]

from banagent.log import MESSAGE_IDS
from system.bed.agent import UNIT, copy_source, root_with_agent
from system.bed.machine import ADDRESS, Machine
from system.bed.root import root_with_wheels

if TYPE_CHECKING:
    from system.bed.machine import Attempt

README: Final = Path(__file__).parents[2] / "README.md"
SUITE: Final = "trixie"
BEGIN: Final = "<!-- recorded by tests/system/walkthrough.py -->\n"
END: Final = "<!-- end of what was recorded -->\n"
ATTACKER: Final = "198.18.7.9"
USER: Final = "alice"
FAILURES: Final = 5  # that the vendor's configuration allows
COLUMNS: Final = 80
BANNED: Final = f"MESSAGE_ID={MESSAGE_IDS['banned']}"


class Walk:
    """What has been typed and printed so far, on the host and where the attacker is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.text = ""

    def host(self, command: str) -> None:
        """Type a command as root on a terminal of 80 columns."""
        path = f"PATH=/usr/local/bin:/usr/bin COLUMNS={COLUMNS}"
        said = self._machine.run(["sh", "-c", f"export {path}; {command}"], check=False)
        self._add(f"# {command}", said.stdout + said.stderr)

    def guess(self, times: int) -> None:
        """Try wrong passwords by ssh from where the attacker is."""
        tried = [self._ssh("wrong").words for _ in range(times)]
        self._add(f"attacker$ for guess in $(seq {times}); do ssh {USER}@{ADDRESS}; done", "\n".join(tried) + "\n")

    def log_in(self) -> None:
        """Log in from there with the right password."""
        attempt = self._ssh("right-pw")
        self._add(f"attacker$ ssh {USER}@{ADDRESS} true; echo $?", f"{attempt.words}\n{attempt.status}\n".lstrip("\n"))

    def _ssh(self, password: str) -> Attempt:
        """Run ssh with options, which are not shown: they say where it runs, and its password."""
        return self._machine.ssh_attempt(ATTACKER, USER, password)

    def wait_for_status(self, words: str) -> None:
        """Wait until the agent tells systemd something with `words` in it."""
        show = ["systemctl", "show", "--value", "--property=StatusText", UNIT]
        self._machine.wait_for(lambda: words in self._machine.run(show).stdout)

    def _add(self, line: str, said: str) -> None:
        blank = "\n" if self.text else ""  # it is easier to read in a document
        self.text += f"{blank}{line}\n{said}"


def play(machine: Machine) -> str:
    """Play it on a machine with banagent, and no configuration of its own; give the transcript."""
    walk = Walk(machine)
    walk.host("systemctl enable --now banagent")
    walk.wait_for_status("reading live")
    walk.host("banagent status")
    walk.guess(FAILURES)
    machine.wait_for_entry(BANNED, f"BANAGENT_ADDRESS={ATTACKER}", unit=UNIT)
    walk.log_in()
    walk.host("banagent status")
    walk.host(f"banagent why {ATTACKER}")
    walk.host(f"banagent unban {ATTACKER}")
    walk.log_in()
    return walk.text


def recorded(readme: str) -> str:
    """Give the transcript that a README has. Raises ValueError: it has no markers."""
    _, begin, rest = readme.partition(f"{BEGIN}```console\n")
    transcript, end, _ = rest.partition(f"```\n{END}")
    if not (begin and end):
        raise ValueError(f"the README has no console block between {BEGIN.strip()} and {END.strip()}")
    return transcript


def shape(transcript: str) -> list[str]:
    """Give the steps, each in one line, with times, ages and the client's ports blanked out.

    Where a paragraph is wrapped, and how wide a column is, comes of how long these are.
    """
    return [masked(step) for step in re.split(r"^(?=# |attacker\$ )", transcript, flags=re.MULTILINE) if step]


def masked(step: str) -> str:
    """Blank out what is another one each time; what the configuration says is written otherwise, as in 1h."""
    step = " ".join(step.split())
    step = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", step)
    step = re.sub(r"\b(?:\d+m )?\d+s\b", "AGE", step)
    return re.sub(rf"(?<={re.escape(ATTACKER)} port )\d+", "PORT", step)


def main() -> None:
    """Play it and write the README."""
    readme = README.read_text()
    before = recorded(readme)
    with tempfile.TemporaryDirectory() as scratch:
        source = copy_source(Path(scratch) / "banagent")
        with Machine(root_with_agent(root_with_wheels(SUITE), source)) as machine:
            played = play(machine)
    README.write_text(readme.replace(before, played))
    sys.stdout.write(played)


if __name__ == "__main__":
    main()
