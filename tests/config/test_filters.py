# SPDX-License-Identifier: LGPL-2.1-or-later
"""Filter files: all that can stand in one, and all that must not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from re2 import _re2

from banagent.config.patterns import whole
from banagent.core.filter import ANY, HOST, Failregex, Filter, Ignoreregex, Sample, Sequence, options
from config.tree import MODE

if TYPE_CHECKING:
    from config.tree import Tree

FULL = r"""
description = "a service of ours"
units       = ["a.service", "a@*.service", "session-?.scope", "*"]
uids        = [0, 33]
identifiers = ["a", "a/smtpd"]
logpath     = ["/var/log/a/*.log"]
ports       = ["ssh", 2222, "8000-8100"]
provenance  = "source"
forgeable   = true
session     = "pid"

[pieces]
on_port = ' port \d+'
end = '<on_port>(?: ssh2)?$'

[[failregex]]
name    = "password"
regex   = '^Failed for (?P<user>.{1,256}) from <HOST><end>'
mode    = "aggressive"
weight  = 3
once    = true
samples = [
  { line = "Failed for root from 192.0.2.1 port 22", address = "192.0.2.1", user = "root", from = "a.c" },
  { line = "Failed for  from 2001:db8::1 port 22", address = "2001:db8::1", user = "", count = 3 },
]
[[failregex]]
name    = "password"
regex   = '^a|b<HOST>'

[[ignoreregex]]
regex   = '^Failed for probe '
samples = [{ line = "Failed for probe from 192.0.2.1 port 22" }]

[[nomatch]]
line    = "Accepted"
from    = "docs"
"""


def test_all_that_a_filter_can_say(tree: Tree) -> None:
    tree.filter("full", FULL)
    assert tree.jail("full").filter == Filter(
        name="full",
        file=str(tree.root / "etc/banagent/filters/full.toml"),
        description="a service of ours",
        units=("a.service", "a@*.service", "session-?.scope", "*"),
        uids=(0, 33),
        identifiers=("a", "a/smtpd"),
        logpath=("/var/log/a/*.log",),
        ports=("ssh", 2222, "8000-8100"),
        provenance="source",
        forgeable=True,
        session="pid",
        failregexes=(
            Failregex(
                name="password",
                regex=rf"^Failed for (?P<user>.{{1,256}}) from {HOST} port \d+(?: ssh2)?$",
                mode="aggressive",
                weight=3,
                once=True,
                samples=(
                    Sample(
                        line="Failed for root from 192.0.2.1 port 22",
                        address="192.0.2.1",
                        user="root",
                        source="a.c",
                    ),
                    Sample(line="Failed for  from 2001:db8::1 port 22", address="2001:db8::1", user="", count=3),
                ),
            ),
            Failregex(name="password", regex=f"^(?:a|b{HOST})"),
        ),
        ignoreregexes=(
            Ignoreregex(regex="^Failed for probe ", samples=(Sample(line="Failed for probe from 192.0.2.1 port 22"),)),
        ),
        nomatch=(Sample(line="Accepted", source="docs"),),
    )
    assert tree.jail("full").ports == ((22, 22), (2222, 2222), (8000, 8100))


def test_the_least_that_a_filter_must_say(tree: Tree) -> None:
    tree.filter("least", "description = 'x'\nlogpath = ['/x']\nfailregex = [{name = 'a', regex = '^<HOST>'}]\n")
    least = tree.jail("least")
    assert replace(least.filter, failregexes=()) == Filter(
        name="least", file=least.filter.file, description="x", logpath=("/x",)
    )
    assert least.ports is None


LINKED = r"""
description = "a directory"
units       = ["d.service"]
slices      = ["system-d*.slice"]
containers  = ["d-?"]
fields      = { _TRANSPORT = ["stdout", "sys*"], _SYSTEMD_USER_UNIT = ["d"] }
formats     = ["nginx-error", "syslog"]
source      = "files"
session     = "id"

[[link]]
name    = "accept"
regex   = '^conn=(?P<session>\d+) from <HOST>'
samples = [{ line = "conn=1 from 192.0.2.1", address = "192.0.2.1" }]

[[failregex]]
name    = "bind"
regex   = '^conn=(?P<session>\d+) (?P<count>\d+) refused$'

[[failregex]]
name    = "json"
[failregex.json]
status     = '401'
"conn.0"   = '(?P<session>\d+)'

[[ignoreregex]]
json = { agent = 'probe' }

[[sequence]]
lines    = ["conn=1 from 192.0.2.1", "conn=1 2 refused"]
failures = 2
address  = "192.0.2.1"
user     = ""
from     = "d.c"

[[sequence]]
lines    = ["conn=1"]
"""


def test_what_a_filter_with_links_can_say(tree: Tree) -> None:
    tree.filter("linked", LINKED)
    assert tree.jail("linked").filter == Filter(
        name="linked",
        file=str(tree.root / "etc/banagent/filters/linked.toml"),
        description="a directory",
        units=("d.service",),
        slices=("system-d*.slice",),
        containers=("d-?",),
        fields={"_TRANSPORT": ("stdout", "sys*"), "_SYSTEMD_USER_UNIT": ("d",)},
        formats=("nginx-error", "syslog"),
        source="files",
        session="id",
        links=(
            Failregex(
                name="accept",
                regex=rf"^conn=(?P<session>\d+) from {HOST}",
                mode=ANY,
                samples=(Sample(line="conn=1 from 192.0.2.1", address="192.0.2.1"),),
            ),
        ),
        failregexes=(
            Failregex(name="bind", regex=r"^conn=(?P<session>\d+) (?P<count>\d+) refused$"),
            Failregex(name="json", regex="", json={"status": "401", "conn.0": r"(?P<session>\d+)"}),
        ),
        ignoreregexes=(Ignoreregex(regex="", json={"agent": "probe"}),),
        sequences=(
            Sequence(
                lines=("conn=1 from 192.0.2.1", "conn=1 2 refused"),
                failures=2,
                address="192.0.2.1",
                user="",
                source="d.c",
            ),
            Sequence(lines=("conn=1",), failures=1),
        ),
    )


NO_ID = 'has no (?P<session>…), which tells its session, as the file says session = "id"'
NO_HOST = "has no <HOST>, so it can't tell whom to ban, and no [[link]] tells it either"


@pytest.mark.parametrize(
    ("written", "mistakes"),
    [
        # whose the failure is has to be told somewhere
        ("[[failregex]]\nname = 'a'\nregex = '^x'", [f'failregex[0].regex = "^x": {NO_HOST}']),
        ("[[failregex]]\nname = 'a'\njson = { x = 'y' }", [f"failregex[0].json: {NO_HOST}"]),
        # a session has to be told by what it is said to be
        (
            "session = 'id'\n[[link]]\nname = 'l'\nregex = '^<HOST>'\n[[failregex]]\nname = 'a'\nregex = '^x'",
            [f'failregex[0].regex = "^x": {NO_ID}', f'link[0].regex = "^<HOST>": {NO_ID}'],
        ),
        (
            "session = 'pid'\n[[link]]\nname = 'l'\nregex = '^x'\n[[failregex]]\nname = 'a'\nregex = '^x'",
            ['link[0].regex = "^x": has neither <HOST> nor (?P<user>…): it links nothing'],
        ),
        (
            "[[link]]\nname = 'l'\nregex = '^<HOST>'\n[[failregex]]\nname = 'a'\nregex = '^<HOST>'",
            ['link = [{ name = "l", regex = "^<HOST>" }]: needs session: what tells that lines belong together'],
        ),
        # one of regex and json, and something in it
        (
            "[[failregex]]\nname = 'a'\nregex = '^<HOST>'\njson = { x = '<HOST>' }",
            ["failregex[0]: needs either regex or json"],
        ),
        (
            "[[failregex]]\nname = 'a'\nregex = '^<HOST>'\n[[ignoreregex]]\njson = {}",
            ["ignoreregex[0].json: must not be empty: it would match each object"],
        ),
        (
            "[[failregex]]\nname = 'a'\njson = { x = '<HOST>', y = '<HOST>' }",
            ["failregex[0].json: captures the same twice: <HOST> and each group may stand once"],
        ),
        (
            "[[failregex]]\nname = 'a'\njson = { x = '<HOST>', y = '(' , 'a..b' = 'x', z = 1 }",
            [
                'failregex[0].json."a..b" = "x": the name must be names joined by dots, such as request.remote_ip',
                "failregex[0].json.z = 1: must be text in quotes, not empty",
                'failregex[0].json.y = "(": RE2 refuses it: missing ): "("',
            ],
        ),
        # what is read
        (
            "fields = { MESSAGE = ['x'], _PID = [], _COMM = 'x' }\n[[failregex]]\nname = 'a'\nregex = '^<HOST>'",
            [
                (
                    'fields.MESSAGE = ["x"]: the name must be a field that journald vouches for: _ and capitals, such '
                    "as _TRANSPORT"
                ),
                "fields._PID = []: must be a list of texts in quotes, not empty",
                'fields._COMM = "x": must be a list of texts in quotes, not empty',
            ],
        ),
        (
            "[[failregex]]\nname = 'a'\nregex = '^<HOST>'\n[[sequence]]\nlines = []\nfailures = -1",
            [
                "sequence[0].lines = []: must be a list of texts in quotes, not empty",
                "sequence[0].failures = -1: must be a whole number from 0 to 1000000",
            ],
        ),
    ],
)
def test_a_mistake_in_what_is_linked(tree: Tree, written: str, mistakes: list[str]) -> None:
    tree.filter("any", f"description = 'x'\nunits = ['a.service']\n{written}\n")
    said = [mistake.partition(": ")[2] for mistake in tree.mistakes()]
    assert sorted(said) == sorted(mistakes)


GOOD = """
description = "x"
units = ["a.service"]
[[failregex]]
name = "a"
regex = "^<HOST>"
"""
OTHERS = "needs ports: who takes over a program that is not root's could else cut off anybody"


@pytest.mark.parametrize(
    ("line", "written", "mistake"),
    [
        # wrong values
        (1, 'description = ""', 'description = "": must be text in quotes, not empty'),
        (2, 'units = "a.service"', 'units = "a.service": must be a list such as ["ssh.service", "ssh@*.service"]'),
        (
            2,
            'units = ["sshd"]',
            ('units[0] = "sshd": must be a unit with its suffix, such as "ssh.service" or "ssh@*.service"'),
        ),
        (3, "uids = []", f"uids = []: must not be empty: the users whose entries are believed\nuids = []: {OTHERS}"),
        (
            3,
            "uids = [-1, 4294967295, '0']",
            (
                "uids[0] = -1: must be the name of a user, or a number from 0 to 4294967294\n"
                "uids[1] = 4294967295: must be the name of a user, or a number from 0 to 4294967294\n"
                'uids[2] = "0": must be the name of a user, or a number from 0 to 4294967294\n'
                f'uids = [-1, 4294967295, "0"]: {OTHERS}'
            ),
        ),
        (3, 'logpath = ["a.log"]', 'logpath[0] = "a.log": must be an absolute path, such as "/var/log/auth.log"'),
        (
            3,
            "ports = [0]",
            ('ports[0] = 0: must be a number from 1 to 65535, a range such as "8000-8100" or the name of a service'),
        ),
        (3, 'provenance = "web"', 'provenance = "web": must be "source", "package", "docs" or "samples"'),
        (3, 'session = "tcp"', 'session = "tcp": must be "pid" or "id"'),
        (
            3,
            "forgeable = true",
            ("forgeable = true: needs ports: who can make up an address could else cut it off from all services"),
        ),
        (3, "pieces = []", "pieces = []: must be a table"),
        (3, "pieces.HOST = 'x'", 'pieces.HOST = "x": the name is taken: <HOST> is an address, in each file'),
        (
            3,
            "pieces.a-b = 'x'",
            ('pieces.a-b = "x": the name must begin with a letter or _, then at most 63 letters, digits and _'),
        ),
        (3, "pieces.a = 1", "pieces.a = 1: must be text in quotes, not empty"),
        (3, "forgable = true", 'forgable = true: unknown key; did you mean "forgeable"?'),
        (6, "mode = 'all'", f'failregex[0].mode = "all": {MODE}'),
        (6, "weight = 0", "failregex[0].weight = 0: must be a whole number from 1 to 100"),
        (6, "once = true", "failregex[0].once = true: has no meaning without session at the top of the file"),
        (6, "samples = ['x']", 'failregex[0].samples[0] = "x": must be a table'),
        (
            6,
            "samples = [{ address = '192.0.2.1', count = 0 }]",
            (
                "failregex[0].samples[0].count = 0: must be a whole number from 1 to 1000000\n"
                "failregex[0].samples[0]: line is missing: a MESSAGE as the service writes it"
            ),
        ),
        (
            6,
            "samples = [{ line = 'x', address = 'a.example' }]",
            ("failregex[0].samples[0].address = \"a.example\": 'a.example' is not an address"),
        ),
        (
            6,
            "[[failregex]]",
            (
                "failregex[1]: name is missing: what the pattern is called in logs and listings\n"
                "failregex[1]: needs either regex or json"
            ),
        ),
        (6, "[[ignoreregex]]", "ignoreregex[0]: needs either regex or json"),
        (6, "[[nomatch]]", "nomatch[0]: line is missing: a MESSAGE as the service writes it"),
    ],
)
def test_a_mistake_in_a_filter(tree: Tree, line: int, written: str, mistake: str) -> None:
    """Each stands in place of the line of its number, or where there is none such in front of it."""
    lines: list[str] = [*GOOD.strip().split("\n")]
    key = written.split("=", maxsplit=1)[0]
    lines[line - 1 :] = [written, *(rest for rest in lines[line - 1 :] if not rest.startswith(key))]
    tree.filter("any", "\n".join(lines))
    assert tree.mistakes() == [f"filters/any.toml:{line}: {text}" for text in mistake.split("\n")]


def test_names_are_shared_in_sessions_only(tree: Tree) -> None:
    """There the patterns of one name count together; elsewhere it is a slip."""
    twice = GOOD + "[[failregex]]\nname = 'a'\nregex = '^x <HOST>'\n"
    tree.filter("any", "session = 'pid'" + twice)
    assert [item.name for item in tree.jail("any").filter.failregexes] == ["a", "a"]
    tree.filter("any", twice)
    assert tree.mistakes() == [
        (
            'filters/any.toml:7: failregex[1].name = "a": is taken by another pattern; patterns may share a name only '
            "if session is set"
        )
    ]


def test_a_filter_without_what_it_needs(tree: Tree) -> None:
    tree.filter("empty", "")
    tree.filter("Bad Name")
    tree.admin("jails.empty.mode = 'no'\njails.web.filter = 'empty'\n")
    assert tree.mistakes() == [
        f'banagent.toml:1: jails.empty.mode = "no": {MODE}',
        (
            "filters/Bad Name.toml: is named after its filter, and the name must begin with a small letter, then at "
            "most 63 of a-z, 0-9, _ and -"
        ),
        "filters/empty.toml: description is missing: the service and what counts as a failure, in a line",
        "filters/empty.toml: failregex is missing: the patterns that recognise failures",
        "filters/empty.toml: names no source of entries: give units and identifiers, or logpath",
    ]


LACK = "RE2 can't do: its time would not be bounded, and enemies write these lines"
SAME = "the same without it"
ANCHOR = "must begin with ^ (flags come behind it): else an enemy can place a failure in his own text"


@pytest.mark.parametrize(
    ("regex", "mistake"),
    [
        # what RE2 lacks
        ("^(?=x)<HOST>", f"has (?=…) at character 2, look-around, which {LACK}"),
        ("^(?:a|(?<!b))<HOST>", f"has (?<!…) at character 7, look-around, which {LACK}"),
        ("^<looks><HOST>", f"has (?=…), look-around, which {LACK}"),
        (
            "^x(?!y)<HOST>",
            (
                f"has (?!…) at character 3, look-around, which {LACK}; leave it out, and add an ignoreregex for what "
                "it excludes: '^xy'"
            ),
        ),
        ("^x.*(?!y)<HOST>", f"has (?!…) at character 5, look-around, which {LACK}"),
        ("^x<HOST>(?!y)", f"has (?!…) at character 9, look-around, which {LACK}; {SAME}: '^x<HOST>(?:[^y]|$)'"),
        ("^x<HOST>(?= y| z)", f"has (?=…) at character 9, look-around, which {LACK}; {SAME}: '^x<HOST>(?: y| z)'"),
        (
            f"^x<HOST>{'y' * 100}(?= z)",
            f"has (?=…) at character 109, look-around, which {LACK}; {SAME}: '^x<HOST>{'y' * 100} z'",
        ),
        (r"^a<HOST>\Z", r"RE2 refuses it at character 9: invalid escape sequence: '\Z'; write \z, or $"),
        ("^a*+<HOST>", 'RE2 refuses it at character 3: bad repetition operator: "*+"; write *'),
        ("^(?>a)<HOST>", 'RE2 refuses it at character 2: invalid perl operator: "(?>"; write (?:'),
        ("^(?#a)<HOST>", 'RE2 refuses it at character 2: invalid perl operator: "(?#"; leave the comment out'),
        (r"^(?P<user>x)\1<HOST>", f"refers back to a group, which {LACK}"),
        ("^(?P<user>x)(?P=user)<HOST>", f"refers back to a group, which {LACK}"),
        # broken patterns, with the place where it can be told
        ("^ab(<HOST>", 'RE2 refuses it: missing ): "^ab(<HOST>"'),
        ("^ab<HOST>[", 'RE2 refuses it at character 10: missing ]: "["'),
        ("^a[z-a]<HOST>", 'RE2 refuses it at character 4: invalid character class range: "z-a"'),
        ("^a**<HOST>", 'RE2 refuses it at character 3: bad repetition operator: "**"'),
        ("^a)|(<HOST>", 'RE2 refuses it: unexpected ): "^a)|(<HOST>"'),
        # which may hold anything, and be long
        ("^<HOST>\x1b[x", 'RE2 refuses it at character 9: missing ]: "[x"'),
        ("^(" + "a" * 500, 'RE2 refuses it: missing ): "^(aaa…'),
        ("^: a: (\x1b", 'RE2 refuses it: missing ): "^: a: (\\u001b"'),
        # pieces
        ("^<hots>", "<hots> is not a piece of this file; there are <ring>, <bomb>, <b>, <c>, <d>, <looks>, <HOST>"),
        ("^<ring>", "its pieces contain one another"),
        ("^<bomb>", "is longer than 10000 characters with its pieces in place, or they contain one another"),
        # anchors
        ("<HOST>", ANCHOR),
        (r"\A<HOST>", ANCHOR),
        ("(?i)^<HOST>", ANCHOR),
        ("(^<HOST>)", ANCHOR),
        ("^*<HOST>", 'RE2 refuses it at character 2: no argument for repetition operator: "*"'),
        ("^{0}<HOST>", 'RE2 refuses it at character 2: no argument for repetition operator: "{0}"'),
        ("^(?i)*<HOST>", 'RE2 refuses it at character 6: no argument for repetition operator: "*"'),  # repeats the ^
        ("^(?i)(?s)?<HOST>", 'RE2 refuses it: no argument for repetition operator: "?"'),
        (r"^\Q\E{0,}<HOST>", 'RE2 refuses it at character 6: no argument for repetition operator: "{0,}"'),
        # captures
        (
            "^(?P<usr>x) (?P<b>y) <HOST>",
            "captures b, usr; only address (in <HOST>), user, session and count are: write (?:…) instead",
        ),
        ("^(x) <HOST>", "captures more than it names: <HOST> may stand once; write (?:…) for groups"),
        ("^(?:x <HOST>|y <HOST>)", "captures more than it names: <HOST> may stand once; write (?:…) for groups"),
        # size
        (
            "^.{1,1000}.{1,1000}<HOST>",
            (
                "compiles to 4040 steps, and an enemy can make each byte of a line take them all; at most 2000 are "
                "allowed: shorten repeats such as {1,256}"
            ),
        ),
        ("^(?:.{1,1000}){1,1000}<HOST>", 'RE2 refuses it: invalid repetition size: "{1,1000}"'),
    ],
)
def test_a_pattern_that_is_refused(regex: str, mistake: str) -> None:
    """An ellipsis stands for the rest of the pattern."""
    pieces = {
        "ring": "a<ring>",
        "bomb": "<b>" * 99,
        "b": "<c>" * 99,
        "c": "<d>" * 99,
        "d": "<bomb>" * 99,
        "looks": "(?=x)",
    }
    with pytest.raises(ValueError) as caught:
        whole(regex, pieces)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 300
    assert text.startswith(mistake[:-1]) if mistake.endswith("…") else text == mistake


@pytest.mark.parametrize(
    "regex", ["^a|b<HOST>", "^(?i)a|b<HOST>", "^|b<HOST>", "^(?m)a$|^b<HOST>", "^a|(?:^|x)b<HOST>"]
)
def test_no_part_of_a_pattern_matches_behind_the_beginning(regex: str) -> None:
    compiled = _re2.RE2(whole(regex, {}).text.encode(), options())
    address = dict(compiled.NamedCapturingGroups())[b"address"]
    for enemy in (b"user xb192.0.2.1", b"user\nb192.0.2.1", b"user b192.0.2.1"):
        spans = compiled.Match(_re2.RE2.Anchor.UNANCHORED, enemy, 0, len(enemy))
        assert spans[address] == (-1, -1)


def test_a_pattern_of_many_steps_is_allowed() -> None:
    assert whole("^.{1,256}a.{1,256}b.{1,256}<HOST>$", {})


def test_a_field_of_json_is_matched_whole_and_needs_no_anchor() -> None:
    assert whole("a|b", {}, line=False).text == "a|b"
    with pytest.raises(ValueError, match="must begin with"):
        whole("a|b", {})
