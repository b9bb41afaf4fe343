# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of mistakes in banagent.toml: all at once, each with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from banagent.config.toml import MAX_MISTAKES, Document, notation
from config.tree import MODE

if TYPE_CHECKING:
    from config.tree import Tree

DURATION = 'must be a duration such as 600 (seconds), "10m", "1d 12h" or "1y 6mo"'
PORT = 'must be a number from 1 to 65535, a range such as "8000-8100" or the name of a service'
NAME = "the name must begin with a small letter, then at most 63 of a-z, 0-9, _ and -"
LATER = "not yet: comes with a later version; remove it"
FACTOR = "must be a number above 0 and below 1e+09"
MULTIPLIERS = 'must be a list of numbers such as [1, 2, 4, 8], or "1 2 4 8"'
READS_NOTHING = "the jail counts bans, and reads nothing; remove it"
COMMON = (
    "ports, bantime, findtime, maxretry, remember, ignoreip, mode, guard, networks, breaker, source, "
    "logpath, formats, units, uids, identifiers, containers"
)

ONE = [
    # wrong types: a boolean is no number, a number no boolean
    ("jails.sshd.enabled = 1", "jails.sshd.enabled = 1: must be true or false, without quotes"),
    ("jails.sshd.enabled = 'true'", 'jails.sshd.enabled = "true": must be true or false, without quotes'),
    ("jails.sshd.maxretry = true", "jails.sshd.maxretry = true: must be a whole number from 1 to 10000"),
    ("jails.sshd.maxretry = 3.0", "jails.sshd.maxretry = 3.0: must be a whole number from 1 to 10000"),
    ("jails.sshd.maxretry = {a = 1}", "jails.sshd.maxretry: must be a whole number from 1 to 10000, not a table"),
    ("jails.sshd.maxretry = [3]", "jails.sshd.maxretry = [3]: must be a whole number from 1 to 10000"),
    ("jails.sshd.mode = 1979-05-27", f"jails.sshd.mode = 1979-05-27: {MODE}"),
    (
        "jails.sshd.filter = 07:32:00",
        ("jails.sshd.filter = 07:32:00: must begin with a small letter, then at most 63 of a-z, 0-9, _ and -"),
    ),
    ("defaults = 3", "defaults = 3: must be a table"),
    ("jails = []", "jails = []: must be a table"),
    ("jails.sshd = 'on'", 'jails.sshd = "on": must be a table'),
    # bounds
    ("defaults.maxretry = 0", "defaults.maxretry = 0: must be a whole number from 1 to 10000"),
    ("defaults.maxretry = 10001", "defaults.maxretry = 10001: must be a whole number from 1 to 10000"),
    # durations
    ("defaults.bantime = true", f"defaults.bantime = true: {DURATION}"),
    ("defaults.bantime = inf", f"defaults.bantime = inf: {DURATION}"),
    ("defaults.bantime = nan", f"defaults.bantime = nan: {DURATION}"),
    ("defaults.bantime = 0", "defaults.bantime = 0: must be at least 1 second"),
    ("defaults.bantime = []", f"defaults.bantime = []: {DURATION}"),
    ("defaults.bantime = 1979-05-27", f"defaults.bantime = 1979-05-27: {DURATION}"),
    (
        "defaults.bantime.time = '1 fortnight'",
        (
            'defaults.bantime.time = "1 fortnight": "fortnight" is not a unit of '
            'time: s, m, h, d, w, mo (or M) and y are, as in "1d 12h"'
        ),
    ),
    (
        "defaults.bantime = '300y'",
        ('defaults.bantime = "300y": must not be longer than 292 years; "permanent" is for ever'),
    ),
    (
        "defaults.findtime = 'permanent'",
        ('defaults.findtime = "permanent": must have an end: failures are kept in mind for so long'),
    ),
    # addresses
    (
        "defaults.ignoreip = '192.0.2.1'",
        (
            'defaults.ignoreip = "192.0.2.1": must be a list of addresses, networks and files of them, '
            'such as ["192.0.2.0/24", "2001:db8::1", "file:/PATH"]'
        ),
    ),
    (
        "defaults.ignoreip = ['a.example']",
        (
            'defaults.ignoreip[0] = "a.example": is a host name, and names are never '
            "looked up; write its addresses instead"
        ),
    ),
    (
        "defaults.ignoreip = ['192.0.2.0/33']",
        (
            "defaults.ignoreip[0] = \"192.0.2.0/33\": '192.0.2.0/33' is not a "
            "network: its prefix length must be from 0 to 32"
        ),
    ),
    (
        "defaults.ignoreip = [1]",
        ('defaults.ignoreip[0] = 1: must be an address or a network in quotes, such as "192.0.2.0/24"'),
    ),
    # ports
    ("defaults.ports = 22", 'defaults.ports = 22: must be a list such as ["ssh", 2222, "8000-8100"], or "all"'),
    (
        "defaults.ports = []",
        (
            "defaults.ports = []: must not be empty: the ports that are closed to a banned address; "
            "the filter's unless given"
        ),
    ),
    ("defaults.ports = [0]", f"defaults.ports[0] = 0: {PORT}"),
    ("defaults.ports = [65536]", f"defaults.ports[0] = 65536: {PORT}"),
    ("defaults.ports = [true]", f"defaults.ports[0] = true: {PORT}"),
    ("defaults.ports = ['90-80']", f'defaults.ports[0] = "90-80": {PORT}'),
    ("defaults.ports = ['all']", f'defaults.ports[0] = "all": {PORT}; /etc/services has no "all"'),
    ("defaults.ports = ['s\\u0000h']".replace("'", '"'), f'defaults.ports[0] = "s\\u0000h": {PORT}'),
    # words
    (
        "jails.sshd.mode = 'aggressiv'",
        f'jails.sshd.mode = "aggressiv": {MODE}; did you mean "aggressive"?',
    ),
    # unknown keys
    ("jails.sshd.maxrety = 3", 'jails.sshd.maxrety = 3: unknown key; did you mean "maxretry"?'),
    ("jails.sshd.zzz = {a = 1}", f"jails.sshd.zzz: unknown key; there are enabled, filter, counts, {COMMON}"),
    ("DEFAULT.bantime = 3", 'DEFAULT: unknown key; did you mean "defaults"?'),
    ('defaults."bantime.time" = 3', 'defaults."bantime.time" = 3: unknown key; did you mean "bantime"?'),
    ("defaults.bantime.tme = 3", 'defaults.bantime.tme = 3: unknown key; did you mean "time"?'),
    ('"\\u001b[31m" = 1', '"\\u001b[31m" = 1: unknown key; there are defaults, jails, history'),
    # keys that come later, and keys of fail2ban
    ("defaults.scope = 'forward'", f'defaults.scope = "forward": {LATER}'),
    ("[notify]", f"notify: {LATER}"),
    ("jails.sshd.port = 'ssh'", 'jails.sshd.port = "ssh": no key: write ports'),
    (
        "jails.sshd.ignoreself = true",
        "jails.sshd.ignoreself = true: no key: this machine's own addresses are never banned; remove it",
    ),
    ("[sshd]", "sshd: unknown key; write [jails.sshd]"),
    (
        "jails.sshd.filter = 'sshd[mode=aggressive]'",
        'jails.sshd.filter = "sshd[mode=aggressive]": takes a name alone: write filter = "sshd", mode = "aggressive"',
    ),
    (
        """jails.sshd.filter = 'sshd[logtype=short, mode="ddos"]'""",
        (
            """jails.sshd.filter = "sshd[logtype=short, mode=\\"ddos\\"]": """
            'takes a name alone: write filter = "sshd", mode = "ddos"'
        ),
    ),
    (
        "jails.sshd.filter = 'sshd[logtype=short]'",
        (
            'jails.sshd.filter = "sshd[logtype=short]": '
            'takes a name alone: write filter = "sshd"; what is in brackets has no meaning'
        ),
    ),
    ("jails.sshd.mode = 'more'", f'jails.sshd.mode = "more": {MODE}; fail2ban\'s "more" of postfix is "normal"'),
    ("[jails.postfix-sasl]", 'jails.postfix-sasl: no filter has this name; write filter = "postfix" and mode = "auth"'),
    ("jails.sshd.banaction = 'ufw'", 'jails.sshd.banaction = "ufw": no key: bans go into nftables; remove it'),
    (
        "defaults.filter = 'sshd'",
        ('defaults.filter = "sshd": no key: a filter is chosen in [jails.NAME]; write it there'),
    ),
    (
        "defaults.units = ['a.service']",
        ('defaults.units = ["a.service"]: no key: it says what one service logs; write it in [jails.NAME]'),
    ),
    # growth
    ("defaults.bantime.increment = 1", "defaults.bantime.increment = 1: must be true or false, without quotes"),
    ("defaults.bantime.factor = 0", f"defaults.bantime.factor = 0: {FACTOR}"),
    ("defaults.bantime.factor = -0.5", f"defaults.bantime.factor = -0.5: {FACTOR}"),
    ("defaults.bantime.factor = inf", f"defaults.bantime.factor = inf: {FACTOR}"),
    ("defaults.bantime.factor = nan", f"defaults.bantime.factor = nan: {FACTOR}"),
    ("defaults.bantime.factor = true", f"defaults.bantime.factor = true: {FACTOR}"),
    ("defaults.bantime.factor = '1 / 0'", 'defaults.bantime.factor = "1 / 0": can\'t be computed: division by zero'),
    (
        "defaults.bantime.factor = '2 * ban.Count'",
        'defaults.bantime.factor = "2 * ban.Count": must be numbers alone, at character 5: "ban.Count"',
    ),
    ("defaults.bantime.multipliers = []", f"defaults.bantime.multipliers = []: {MULTIPLIERS}"),
    ("defaults.bantime.multipliers = ''", f'defaults.bantime.multipliers = "": {MULTIPLIERS}'),
    ("defaults.bantime.multipliers = 2", f"defaults.bantime.multipliers = 2: {MULTIPLIERS}"),
    ("defaults.bantime.multipliers = [1, -2]", f"defaults.bantime.multipliers = [1, -2]: {FACTOR}"),
    ("defaults.bantime.maxtime = 0", "defaults.bantime.maxtime = 0: must be at least 1 second"),
    ("defaults.bantime.rndtime = -1", f"defaults.bantime.rndtime = -1: {DURATION}"),
    # a documented formula that lacks its last bracket
    (
        "defaults.bantime.formula = 'ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor'",
        (
            'defaults.bantime.formula = "ban.Time * math.exp(float(ban.Count+1)*banFactor)/math.exp(1*banFactor": '
            'has a ( that is never closed, at character 59: "(1*banFactor"'
        ),
    ),
    # one that gives no time
    (
        "defaults.bantime.formula = 'ban.Time - 1800 * ban.Count'",
        (
            'defaults.bantime.formula = "ban.Time - 1800 * ban.Count": '
            "must give a time, and gives 0 where ban.Time is 3600 and ban.Count 2"
        ),
    ),
    # a jail that counts bans
    ("jails.web.counts = 'ban'", 'jails.web.counts = "ban": must be "failures" or "bans"; did you mean "bans"?'),
    (
        "defaults.counts = 'bans'",
        'defaults.counts = "bans": no key: it is of a jail of its own; write it in [jails.NAME]',
    ),
    ("jails.r = {counts = 'bans', filter = 'sshd'}", f'jails.r.filter = "sshd": {READS_NOTHING}'),
    ("jails.r = {counts = 'bans', logpath = ['/x']}", f'jails.r.logpath = ["/x"]: {READS_NOTHING}'),
    # names of jails
    ("[jails.Sshd]", f"jails.Sshd: {NAME}"),
    ('[jails."a b"]', f'jails."a b": {NAME}'),
    ('[jails.""]', f'jails."": {NAME}'),
    (f"[jails.{'a' * 65}]", f"jails.{'a' * 65}: {NAME}"),
    # filters that there are not
    ("[jails.shd]", 'jails.shd: no filter has this name; did you mean "sshd"?'),
    ("[jails.nginx]", "jails.nginx: no filter has this name; give the jail a filter, or write filters/nginx.toml"),
    ("jails.sshd.filter = 'ssh'", 'jails.sshd.filter = "ssh": no such filter; did you mean "sshd"?'),
    ("jails.sshd.filter = 'zzz'", 'jails.sshd.filter = "zzz": no such filter; there are sshd, web'),
    # a wrong filter name is one mistake, not two
    (
        "jails.nginx.filter = '/'",
        ('jails.nginx.filter = "/": must begin with a small letter, then at most 63 of a-z, 0-9, _ and -'),
    ),
]


@pytest.mark.parametrize(("written", "mistake"), ONE)
def test_one_mistake(tree: Tree, written: str, mistake: str) -> None:
    tree.admin(f"# a comment\n\n{written}\n")
    assert tree.mistakes() == [f"banagent.toml:3: {mistake}"]


TWELVE = """
# ignoreip = ["not this one"]
defaults.maxretry = 0
defaults.ignoreip = [
  "192.0.2.0/24", "b.example",  # 1

  # "c.example",
  "2001:db8::1",
  "d.example",
  "e.example" ]
defaults.bantime = { time = "1 x", factor = 0 }

[jails.sshd]
mode = '''ddos
normal'''
bantime.time = "0s"
"findtime" = -1
[jails.web]
ports = ["ssh", 0]
[[jails.other]]
[jails.web.bantime]
formula = "x"
[ jails . nginx ]
"""


def test_twelve_mistakes_and_a_thirteenth_in_another_file(tree: Tree) -> None:
    tree.admin(TWELVE)
    tree.write("etc/banagent/conf.d/a.toml", "# again\n[jails.sshd]\nmode = 'no'\n[jails.nginx]\nenabled = true\n")
    host = "is a host name, and names are never looked up; write its addresses instead"
    assert tree.mistakes() == [
        "banagent.toml:2: defaults.maxretry = 0: must be a whole number from 1 to 10000",
        f'banagent.toml:4: defaults.ignoreip[1] = "b.example": {host}',
        f'banagent.toml:8: defaults.ignoreip[3] = "d.example": {host}',
        f'banagent.toml:9: defaults.ignoreip[4] = "e.example": {host}',
        (
            'banagent.toml:10: defaults.bantime.time = "1 x": "x" is not a unit of time: s, m, h, d, w, mo (or M) and '
            'y are, as in "1d 12h"'
        ),
        f"banagent.toml:10: defaults.bantime.factor = 0: {FACTOR}",
        f'banagent.toml:13: jails.sshd.mode = "ddos\\nnormal": {MODE}; did you mean "normal"?',
        'banagent.toml:15: jails.sshd.bantime.time = "0s": must be at least 1 second',
        "banagent.toml:16: jails.sshd.findtime = -1: must have an end: failures are kept in mind for so long",
        f"banagent.toml:18: jails.web.ports[1] = 0: {PORT}",
        "banagent.toml:19: jails.other = [{  }]: must be a table",
        (
            'banagent.toml:21: jails.web.bantime.formula = "x": has a name that is none of ban.Time, ban.Count, '
            'banFactor, at character 1: "x"'
        ),
        f'conf.d/a.toml:3: jails.sshd.mode = "no": {MODE}',
        "conf.d/a.toml:4: jails.nginx: no filter has this name; give the jail a filter, or write filters/nginx.toml",
    ]


def test_a_hundred_mistakes_are_enough(tree: Tree) -> None:
    tree.admin("defaults.ports = [\n" + "0,\n" * 250 + "]\n")
    mistakes = tree.mistakes()
    assert len(mistakes) == MAX_MISTAKES + 1
    assert mistakes[-2:] == [
        f"banagent.toml:101: defaults.ports[99] = 0: {PORT}",
        "banagent.toml:101: and 150 more mistakes in this file",
    ]


# --- lines -------------------------------------------------------------------------------------------------------

LINES = '''a = 1
b.c = [ 1,
  2, 3, # ]
  # 4,

  "]", """
]""", [
    5, 6 ], 7,
  8,
]
t = { x = [1], y.z = 2 }
s = """
[no]
header = 1
"""
[[r]]
n = 1
[r.sub]
m = 1
[[r.inner]]
[[r.inner]]
k = 1
[[r]]
"q.u o" = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("b",), 2),
        (("b", "c"), 2),
        (("b", "c", 0), 2),
        (("b", "c", 1), 3),
        (("b", "c", 2), 3),
        (("b", "c", 3), 6),
        (("b", "c", 4), 6),  # it begins where the one before it ends: no comma ends a line between them
        (("b", "c", 6), 6),
        (("b", "c", 7), 9),
        (("t", "y", "z"), 11),
        (("s",), 12),
        (("r", 0), 16),
        (("r", 0, "n"), 17),
        (("r", 0, "sub", "m"), 19),
        (("r", 0, "inner", 0), 20),
        (("r", 0, "inner", 1), 21),
        (("r", 0, "inner", 1, "k"), 22),
        (("r", 1), 23),
        (("r", 1, "q.u o"), 24),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line(path: tuple[str | int, ...], line: int, newline: str) -> None:
    assert Document("x", LINES.replace("\n", newline)).line(path) == line


def test_lines_of_a_large_file_are_found_in_bounded_time() -> None:
    entries = 40_000
    document = Document(
        "x", "x = [\n" + '"2001:db8::1",\n' * entries + "]\ny = '''\n" + "a\n" * 20_000 + "'''\nz = 1\n"
    )
    assert document.line(("x", entries - 1)) == entries + 1
    assert document.line(("z",)) == 0  # the text before it cost too much


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        ('a"b', '"a\\"b"'),
        ("a\\d", "'a\\d'"),
        ("a\\d'", '"a\\\\d\'"'),
        ("\x1b\n\u202e\U000e0001é", '"\\u001b\\n\\u202e\\U000e0001é"'),
        ("x" * 200, '"' + "x" * 78 + "…"),
        (2**70, "0x400000000000000000"),
        (-1.5, "-1.5"),
        ([1, [2, [3, [4, [5]]]]], "[1, [2, [3, […]]]]"),
        (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
        ({"a b": {"c": []}}, '{ "a b" = { c = [] } }'),
    ],
)
def test_notation(value: object, text: str) -> None:
    assert notation(value) == text
