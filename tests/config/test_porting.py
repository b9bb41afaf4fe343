# SPDX-License-Identifier: LGPL-2.1-or-later
"""What those are told who bring fail2ban's configuration along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import tomli

from banagent.config import filters, keys, porting
from banagent.errors import ConfigError

if TYPE_CHECKING:
    from config.tree import Tree

ROOT: Final = Path(__file__).parents[2]
HOST: Final = "write <HOST>: an IPv4 or IPv6 address or network, or a host name"
ALONE: Final = "leave it out: a pattern sees the message alone, without the line's beginning"
NOT_TOML: Final = "is not TOML: "
END: Final = "Expected newline or end of document after a statement"

# --- patterns ---

TAGS = [
    (r"^login of <F-USER>\S+</F-USER> from <HOST>", "<F-USER>", "write (?P<user>…)"),
    (r"^login of \S+</F-USER> from <HOST>", "</F-USER>", "write (?P<user>…)"),
    (r"^<F-ALT_USER1>\S+</F-ALT_USER1> <HOST>", "<F-ALT_USER1>", "write (?P<user>…) around one of them"),
    ("^<F-ID>x</F-ID>", "<F-ID>", "write <HOST>: only addresses and networks are banned"),
    (
        r"^<F-MLFID>\d+</F-MLFID> <HOST>",
        "<F-MLFID>",
        'write (?P<session>…) and session = "id", or session = "pid" alone',
    ),
    (
        "^<F-NOFAIL>x</F-NOFAIL> <HOST>",
        "<F-NOFAIL>",
        "a line that is no failure but tells the address is a [[link]]",
    ),
    ("^<F-MLFFORGET>x</F-MLFFORGET> <HOST>", "<F-MLFFORGET>", "leave it out: sessions end by themselves"),
    ("^<F-MLFGAINED/> <HOST>", "<F-MLFGAINED/>", "a line that tells of a login is a [[success]]"),
    ("^<F-CONTENT>.+</F-CONTENT>$", "<F-CONTENT>", ALONE),
    (
        "^<F-OTHER>x</F-OTHER> <HOST>",
        "<F-OTHER>",
        "leave it out: nothing but address, user, session and count is captured",
    ),
    ("^a <ADDR>", "<ADDR>", HOST),
    ("^a <IP4>", "<IP4>", HOST),
    ("^a <ip6>", "<ip6>", HOST),
    ("^a <SUBNET>", "<SUBNET>", HOST),
    ("^a <CIDR>", "<CIDR>", HOST),
    ("^a <DNS>", "<DNS>", HOST),
    (
        "^a<SKIPLINES>b <HOST>",
        "<SKIPLINES>",
        "a pattern sees one entry; what other lines tell is for session and [[link]]",
    ),
    ("^%(__prefix_line)sa <HOST>", "%(__prefix_line)s", ALONE),
    ("%(known/prefix)s a <HOST>", "%(known/prefix)s", ALONE),
    ("^%(__pam_auth)s <HOST>", "%(__pam_auth)s", "write what it stands for, or a piece of this file, as <NAME>"),
]


@pytest.mark.parametrize(("regex", "tag", "remedy"), TAGS)
@pytest.mark.parametrize("kind", ["failregex", "ignoreregex"])
def test_a_tag_is_refused(kind: str, regex: str, tag: str, remedy: str) -> None:
    ignored = [regex] if kind == "ignoreregex" else []
    with pytest.raises(ConfigError) as caught:
        filters.build_patterns(["^<HOST>"] if ignored else [regex], ignored)
    (mistake,) = caught.value.mistakes
    assert (mistake.key, mistake.text) == (f"--{kind}", f"has fail2ban's {tag}; {remedy}")


FILTER = "description = 'x'\nunits = ['a.service']\n[pieces]\n{}\n[[failregex]]\nname = 'a'\nregex = '{}'\n"


@pytest.mark.parametrize("piece", ["<DNS>", "<F-USER>x</F-USER>"])
def test_a_tag_in_a_piece_is_refused(tree: Tree, piece: str) -> None:
    tree.filter("web", FILTER.format(f"inner = '{piece}'\nx = '<inner>'", "^<x> <HOST>"))
    (mistake,) = tree.mistakes()
    assert mistake.startswith("filters/web.toml:8: failregex[0].regex = ")
    assert re.search(rf": has fail2ban's {piece[:4]}", mistake)


@pytest.mark.parametrize(
    ("piece", "regex"),
    [
        ("dns = '[a-z.]+'", "^<dns> <HOST>$"),  # a piece of the admin's
        ("x = 'x'", "^[<]F-USER> [<]DNS> <HOST>$"),  # text of the log
        ("x = 'x'", "^100%(?:s|x) <HOST>$"),
    ],
)
def test_what_is_no_tag(tree: Tree, piece: str, regex: str) -> None:
    tree.filter("web", FILTER.format(piece, regex))
    assert tree.jail("web").filter.failregexes


# --- TOML ---


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            '[defaults]\nbantime = "1h"\nbantime.increment = true\n',
            (
                "3: Cannot overwrite a value (column 25); "
                'write bantime = { time = "1h", increment = true }, or bantime.time = "1h" above'
            ),
        ),
        (
            'defaults.bantime = "1h"\n\ndefaults.bantime.factor = 2 # twice\n',
            (
                "3: Cannot overwrite a value (column 28); "
                'write defaults.bantime = { time = "1h", factor = 2 }, or defaults.bantime.time = "1h" above'
            ),
        ),
        (
            '[defaults]\nbantime.increment = true\nbantime = "1h"\n',
            '3: Cannot overwrite a value (column 15); write bantime.time = "1h"',
        ),
        (
            '[defaults]\nbantime = "1h"\n[defaults.bantime]\nincrement = true\n',
            '3: Cannot overwrite a value (column 18); write time = "1h" below it, in place of bantime = "1h"',
        ),
        (
            '[defaults]\nbantime = { time = "1h" }\nbantime.increment = true\n',
            (
                "3: Cannot mutate immutable namespace ('defaults', 'bantime') (column 25); "
                "write increment = true within the braces of bantime"
            ),
        ),
        (
            "[defaults]\nbantime = 1\nbantime = 2\n",
            "3: Cannot overwrite a value (column 12); a key stands once",
        ),
        ("bantime = 10m", f'1: {END} (column 13); text stands in quotes: write bantime = "10m"'),
        ("x.filter = sshd # x", '1: Invalid value (column 12); text stands in quotes: write x.filter = "sshd"'),
        ("enabled = yes\r\n", "1: Invalid value (column 11); write enabled = true"),
        ("enabled = False", "1: Invalid value (column 11); write enabled = false"),
        (
            "ignoreip = 127.0.0.1/8 ::1, 192.0.2.1",
            f'1: {END} (column 17); text stands in quotes: write ignoreip = ["127.0.0.1/8", "::1", "192.0.2.1"]',
        ),
        ("port = ssh,2222", '1: Invalid value (column 8); text stands in quotes: write ports = ["ssh", 2222]'),
        ("ports = [ssh]", '1: Invalid value (column 10); text stands in quotes, as in ["ssh", 2222]'),
        ("; x", '1: Invalid statement (column 1); a comment begins with "#"'),
        ("enabled = true ; x", f'1: {END} (column 16); a comment begins with "#"'),
        ('a = "x" ; x', f'1: {END} (column 9); a comment begins with "#"'),
        # where nothing can be told
        ("[defaults]\n[defaults]\n", "2: Cannot declare ('defaults',) twice (column 10)"),
        ("[a]\nb = 1\n[a.b]\n", "3: Cannot overwrite a value (column 5)"),
        ("a = " + "x" * 200, "1: Invalid value (column 5)"),
        ("a =", "1: Invalid value (column 4)"),
        ('a = "x" y', f"1: {END} (column 9)"),
        ("a = \x1b[31m", '1: Invalid value (column 5); text stands in quotes: write a = "\\u001b[31m"'),
    ],
)
def test_a_value_as_ini_files_have_it(tree: Tree, text: str, mistake: str) -> None:
    tree.admin(text)
    line, _, said = mistake.partition(": ")
    assert tree.mistakes() == [f"banagent.toml:{line}: {NOT_TOML}{said}"]


@pytest.mark.parametrize(
    "remedy", ['bantime = { time = "1h", increment = true }', 'bantime.time = "1h"\nbantime.increment = true']
)
def test_what_is_advised_is_taken(tree: Tree, remedy: str) -> None:
    tree.admin(f"[jails.sshd]\n{remedy}\n")
    jail = tree.jail("sshd")
    assert jail.bantime == 3600
    assert jail.growth is not None


# --- keys and jails ---


@pytest.mark.parametrize("key", porting.KEYS)
@pytest.mark.parametrize("table", ["defaults", "jails.sshd"])
def test_a_key_is_refused_with_what_stands_for_it(tree: Tree, table: str, key: str) -> None:
    tree.admin(f"[{table}]\n{key} = 1\n")
    assert tree.mistakes() == [f"banagent.toml:2: {table}.{key} = 1: no key: {porting.KEYS[key]}"]


def test_keys_that_are_named_are_there() -> None:
    known = {key.name for key in (*keys.JAILS.keys, *keys.HISTORY.keys, *filters.FILE) if key.since == "now"}
    written = {name for text in porting.KEYS.values() for name in re.findall(r"(?:^|[:;] )write (\w+)", text)}
    assert written
    assert written <= known


@pytest.mark.parametrize("name", porting.JAILS)
def test_a_jail_of_fail2bans_can_be_written_as_is_advised(name: str) -> None:
    told = tomli.loads(porting.JAILS[name].replace(" and ", "\n"))
    shipped = tomli.loads((ROOT / f"filters/{told['filter']}.toml").read_text())
    assert not (ROOT / f"filters/{name}.toml").exists()
    assert told.get("mode", "normal") in {pattern.get("mode", "normal") for pattern in shipped["failregex"]}


# --- the list of filters in the manual ---


def listed() -> dict[str, str]:
    """Give what banagent-filter(5) says of each of the package's filters."""
    page = (ROOT / "man/banagent-filter.5").read_text()
    section = page.partition(".Ss The filters of the package\n")[2].partition("\n.Ss ")[0]
    found = re.findall(r"^\.It Cm ([\w-]+)\n((?:(?!\.It |\.El).*\n)+)", section, re.MULTILINE)
    assert len(found) == len(dict(found))
    return {name: re.sub(r"\\&", "", " ".join(text.split())) for name, text in found}


def test_each_filter_is_in_the_list_with_its_description() -> None:
    said = {
        path.stem: tomli.loads(path.read_text())["description"] for path in sorted((ROOT / "filters").glob("*.toml"))
    }
    told = listed()
    assert told.keys() == said.keys()
    assert [name for name in said if not told[name].startswith(f"{said[name]}.")] == []


def test_the_list_says_which_filters_are_forgeable() -> None:
    said = {
        path.stem for path in (ROOT / "filters").glob("*.toml") if tomli.loads(path.read_text()).get("forgeable", False)
    }
    assert {name for name, text in listed().items() if "Forgeable." in text} == said
