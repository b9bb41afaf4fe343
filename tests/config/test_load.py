# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which files are read, and how they are merged."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banagent.config import load
from banagent.config.keys import DEFAULTS, FILE
from banagent.config.table import rows
from banagent.config.toml import Document, is_list, is_table
from banagent.core.address import parse_network
from banagent.core.duration import HOUR
from banagent.errors import ConfigError
from config.tree import FILTER

if TYPE_CHECKING:
    from config.tree import Tree

VENDOR = Path(__file__).parents[2] / "units" / "banagent.toml"


# --- defaults ----------------------------------------------------------------------------------------------------


def test_without_any_admin_file_sshd_runs_with_the_defaults(tree: Tree) -> None:
    config = tree.load()
    assert [(jail.name, jail.enabled) for jail in config.jails] == [("sshd", True), ("web", False)]
    sshd = config.jails[0]
    assert sshd.filter.name == "sshd"
    assert (sshd.bantime, sshd.findtime, sshd.maxretry) == (HOUR, HOUR, 5)
    assert (sshd.ports, sshd.ignoreip, sshd.mode) == (((22, 22),), (), "normal")
    assert config.files == tuple(
        str(tree.root / "usr/lib/banagent" / name)
        for name in ("banagent.toml", "filters/sshd.toml", "filters/web.toml")
    )


@pytest.mark.parametrize("content", ["", "# nothing\n", "[defaults]\n[jails]\n[jails.sshd]\nbantime = {}\n"])
def test_an_admin_file_that_says_nothing_changes_nothing(tree: Tree, content: str) -> None:
    before = tree.load().jails
    tree.admin(content)
    assert tree.load().jails == before


def test_what_the_package_ships_is_right(tmp_path: Path) -> None:
    enabled = [jail for jail in load(root=tmp_path).jails if jail.enabled]
    assert [jail.name for jail in enabled] == ["sshd"]
    assert (enabled[0].bantime, enabled[0].findtime, enabled[0].maxretry) == (HOUR, HOUR, 5)
    assert enabled[0].ports == ((22, 22),)


def test_each_key_is_explained() -> None:
    names = [name for name, _ in rows(FILE)]
    assert len(names) == len(set(names))
    assert {"defaults.bantime.time", "jails.NAME.filter", "jails.NAME.maxretry", "notify"} <= set(names)
    for name, key in rows(FILE):
        assert key.help, name
        assert key.type or key.since == "later", name


def test_the_shipped_examples_are_right_and_show_each_key(tmp_path: Path) -> None:
    """A line that begins with "#" and no blank is an example."""
    lines = VENDOR.read_text().splitlines()
    examples = "\n".join(line[1:] if line.startswith("#") and line[1:2].strip() else line for line in lines)
    admin = tmp_path / "etc" / "banagent"
    admin.mkdir(parents=True)
    (admin / "banagent.toml").write_text(examples)
    jails = {jail.name: jail for jail in load(root=tmp_path).jails}
    assert jails["sshd-stubborn"].bantime is None
    shown = Document("examples", examples).data
    defaults, own = shown["defaults"], shown["jails"]
    assert is_table(defaults)
    assert is_table(own)
    in_jails = {key for table in own.values() if is_table(table) for key in table}
    assert set(defaults) == {key.name for key in DEFAULTS.keys if key.since == "now"}
    assert in_jails >= {"enabled", "filter"}


# --- layers ------------------------------------------------------------------------------------------------------


def test_later_files_override_earlier_ones_key_by_key(tree: Tree) -> None:
    tree.write(
        "usr/lib/banagent/banagent.toml",
        "[defaults]\nmaxretry = 1\nfindtime = 1\nbantime = 1\n[jails.sshd]\nenabled = true\nmode = 'ddos'\n",
    )
    tree.admin("[defaults]\nfindtime = 2\nbantime = 2\n[jails.sshd]\nmode = 'extra'\n")
    tree.write("etc/banagent/conf.d/20-b.toml", "defaults.bantime = 4\n")
    tree.write("etc/banagent/conf.d/10-a.toml", "defaults.bantime = 3\njails.sshd.ports = 'all'\n")
    jail = tree.jail("sshd")
    assert (jail.maxretry, jail.findtime, jail.bantime) == (1, 2, 4)
    assert (jail.enabled, jail.mode, jail.ports) == (True, "extra", None)
    set_by = {key: origin for key, origin in jail.origins.items() if origin.file.startswith(str(tree.root))}
    origins = {key: f"{Path(origin.file).relative_to(tree.root)}:{origin.line}" for key, origin in set_by.items()}
    assert origins == {
        "enabled": "usr/lib/banagent/banagent.toml:6",
        "maxretry": "usr/lib/banagent/banagent.toml:2",
        "findtime": "etc/banagent/banagent.toml:2",
        "mode": "etc/banagent/banagent.toml:5",
        "ports": "etc/banagent/conf.d/10-a.toml:2",
        "bantime.time": "etc/banagent/conf.d/20-b.toml:1",
        # what a jail could say, but leaves to its filter
        "units": "usr/lib/banagent/filters/sshd.toml:3",
    }


def test_a_jail_says_what_is_read_in_place_of_its_filter(tree: Tree) -> None:
    tree.admin(
        """
        defaults.source = 'journal'
        [jails.sshd]
        units       = ['other.service']
        uids        = [7]
        identifiers = ['other']
        containers  = ['c*']
        logpath     = ['/x']
        formats     = ['iso', 'plain']
        [jails.web]
        source = 'files'
        """
    )
    changed, same = tree.jail("sshd").filter, tree.jail("web").filter
    assert (changed.units, changed.uids, changed.identifiers) == (("other.service",), (7,), ("other",))
    assert (changed.containers, changed.logpath, changed.formats) == (("c*",), ("/x",), ("iso", "plain"))
    assert (changed.source, same.source, same.units) == ("journal", "files", ("a.service",))


@pytest.mark.parametrize(
    ("filter_key", "admin", "at"),
    [
        ("forgeable = true", "[jails.any]\nenabled = true\nports = 'all'\n", '3: jails.any.ports = "all"'),
        ("uids = [0, 33]", "[jails.any]\nports = 'all'\nenabled = true\n", '2: jails.any.ports = "all"'),
        ("uids = [33]", "[jails.any]\nenabled = true\n[defaults]\nports = 'all'\n", '4: defaults.ports = "all"'),
        ("", "[jails.any]\nuids = [33]\nenabled = true\nports = 'all'\n", '4: jails.any.ports = "all"'),
    ],
)
def test_who_could_cut_off_others_does_so_on_ports_only(tree: Tree, filter_key: str, admin: str, at: str) -> None:
    tree.filter("any", f"{filter_key}\n{FILTER}")
    tree.admin(admin)
    text = "its filter's entries can be made up, or are of a program that is not root's: name the service's ports"
    (mistake,) = tree.mistakes()
    assert mistake.removesuffix(text) in {f"banagent.toml:{at}: ", f"banagent.toml:{at}: jail any: "}
    # a jail that does not run does no harm, nor one with ports
    tree.admin(admin.replace("true", "false"))
    tree.load()
    tree.admin(admin.replace("'all'", "[80]"))
    assert tree.jail("any").ports is not None


def test_a_pattern_that_can_be_forged_matters_where_it_is_used(tree: Tree) -> None:
    more = "[[failregex]]\nname = 'worse'\nregex = '^x <HOST>'\nmode = 'ddos'\nforgeable = true\n"
    tree.filter("any", FILTER + more)
    tree.admin("[jails.any]\nenabled = true\nports = 'all'\n")
    assert tree.jail("any").ports is None
    tree.admin("[jails.any]\nenabled = true\nports = 'all'\nmode = 'aggressive'\n")
    (mistake,) = tree.mistakes()
    assert mistake.startswith('banagent.toml:3: jails.any.ports = "all": ')
    # and has to have ports in any case
    tree.filter("any", FILTER.replace("ports", "# ports") + more)
    (mistake,) = tree.mistakes()
    assert mistake.startswith("filters/any.toml:11: failregex[1].forgeable = true: needs ports: ")


def test_a_mode_that_uses_no_pattern(tree: Tree) -> None:
    tree.filter("any", FILTER)
    text = "its filter has no pattern for this mode; there are normal"
    jail = "[jails.any]\nenabled = true\nports = [80]\n"
    tree.admin(f"{jail}mode = 'rbl'\n")
    assert tree.mistakes() == [f'banagent.toml:4: jails.any.mode = "rbl": {text}']
    tree.admin(f"[defaults]\nmode = 'rbl'\n{jail}[jails.sshd]\nmode = 'normal'\n")
    assert tree.mistakes() == [f'banagent.toml:2: defaults.mode = "rbl": jail any: {text}']
    # a jail that does not run does no harm
    tree.admin(f"{jail}mode = 'rbl'\n".replace("true", "false"))
    tree.load()
    rbl = "[[failregex]]\nname = 'more'\nregex = '^x <HOST>'\nmode = 'rbl'\n"
    tree.filter("any", FILTER + rbl)
    tree.admin(f"{jail}mode = 'rbl'\n")
    assert tree.jail("any").mode == "rbl"
    tree.filter("any", FILTER.partition("[[failregex]]")[0] + rbl.replace("'rbl'", "'ddos'"))
    tree.admin(jail)
    assert tree.mistakes() == [f"banagent.toml:2: jails.any.enabled = true: {text.replace('normal', 'ddos')}"]


def test_a_jails_own_value_wins_over_later_defaults(tree: Tree) -> None:
    tree.admin("[jails.sshd]\nmaxretry = 2\n")
    tree.write("etc/banagent/conf.d/a.toml", "[defaults]\nmaxretry = 9\n")
    assert (tree.jail("sshd").maxretry, tree.jail("web").maxretry) == (2, 9)


@pytest.mark.parametrize(
    ("first", "second", "bantime"),
    [
        # a value alone is the table's `time`
        ("bantime = '2h'", "", 2 * HOUR),
        ("bantime = { time = '2h' }", "", 2 * HOUR),
        ("bantime.time = '2h'", "", 2 * HOUR),
        # and merges with it
        ("bantime = { time = '2h' }", "bantime = '3h'", 3 * HOUR),
        ("bantime = '2h'", "bantime = { time = 'permanent' }", None),
        ("bantime = '2h'", "bantime = {}", 2 * HOUR),
        ("bantime = -1", "", None),
    ],
)
def test_bantime(tree: Tree, first: str, second: str, bantime: int | None) -> None:
    tree.admin(f"[defaults]\n{first}\n[jails.sshd]\n{second}\n")
    assert tree.jail("sshd").bantime == bantime


def test_lists_replace(tree: Tree) -> None:
    tree.admin(
        "defaults.ignoreip = ['192.0.2.1/24', '2001:db8::1']\njails.sshd.ignoreip = ['::ffff:198.51.100.7']\n"
        "jails.web.ignoreip = []\njails.other.filter = 'web'\n"
    )
    assert tree.jail("sshd").ignoreip == (parse_network("198.51.100.7"),)
    assert tree.jail("web").ignoreip == ()
    assert tree.jail("other").ignoreip == (parse_network("192.0.2.0/24"), parse_network("2001:db8::1"))


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        # sorted, and joined where they touch or overlap
        ('["ssh"]', ((22, 22),)),
        ('[443, "http", 2222, "8000-8100", "8050-8200", 8201]', ((80, 80), (443, 443), (2222, 2222), (8000, 8201))),
        ('["65535", 1]', ((1, 1), (65535, 65535))),
        ('["1-65535"]', ((1, 65535),)),
        ('"all"', None),
    ],
)
def test_ports(tree: Tree, written: str, ports: tuple[tuple[int, int], ...] | None) -> None:
    tree.admin(f"[jails.web]\nports = {written}\n")
    assert tree.jail("web").ports == ports
    assert tree.jail("sshd").ports == ((22, 22),)


def test_a_service_that_nobody_knows_matters_only_to_a_jail_that_runs(tree: Tree) -> None:
    tree.filter("odd", FILTER_WITH_ODD_PORTS)
    assert tree.jail("odd").ports == ((22, 22),)
    tree.admin("jails.odd.enabled = true\n")
    assert tree.mistakes() == [
        (
            'filters/odd.toml:3: ports[1] = "no-such-service": must be a number from 1 to 65535, a range such as '
            '"8000-8100" or the name of a service; /etc/services has no "no-such-service"'
        )
    ]


FILTER_WITH_ODD_PORTS = """
description = "odd"
units = ["odd.service"]
ports = ["ssh", "no-such-service"]
[[failregex]]
name = "one"
regex = "^<HOST>$"
"""


# --- where files are looked for --------------------------------------------------------------------------------------


def test_another_config_replaces_the_admins_files_but_not_the_vendors(tree: Tree) -> None:
    tree.admin("defaults.maxretry = 2\n")
    tree.write("etc/banagent/conf.d/a.toml", "defaults.bantime = 2\n")
    tree.filter("mine")
    tree.write("other.toml", "defaults.findtime = 2\n")
    config = tree.load(config="other.toml")
    assert [(jail.name, jail.enabled) for jail in config.jails] == [("mine", False), ("sshd", True), ("web", False)]
    assert {(jail.maxretry, jail.bantime, jail.findtime) for jail in config.jails} == {(5, HOUR, 2)}


def test_the_last_filter_of_a_name_is_taken_whole_and_the_others_are_not_read(tree: Tree) -> None:
    tree.write("usr/lib/banagent/filters/web.toml", "broken")
    tree.filter("web")
    assert tree.jail("web").filter.file == str(tree.root / "etc/banagent/filters/web.toml")
    tree.write("more/web.toml", FILTER_WITH_ODD_PORTS)
    config = tree.load(filters="more")
    assert {jail.name: jail.filter.description for jail in config.jails} == {"sshd": "a service", "web": "odd"}


def test_hidden_files_and_others_are_left_alone(tree: Tree) -> None:
    for name in ("conf.d/.#a.toml", "conf.d/a.toml~", "conf.d/README", "filters/.web.toml.swp"):
        tree.write(f"etc/banagent/{name}", "broken")
    assert len(tree.load().files) == 3


def test_what_was_asked_for_must_exist(tree: Tree) -> None:
    assert tree.mistakes(config="no.toml", filters="no") == [
        "no.toml: can't be read: No such file or directory",
        "no: does not exist; a directory of filters is expected here",
    ]


# --- files that can't be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        # no TOML
        (
            b"[defaults]\nmaxretry 3\n",
            "banagent.toml:2: is not TOML: Expected '=' after a key in a key/value pair (column 10)",
        ),
        (b"a = 1\na = 2\n", "banagent.toml:2: is not TOML: Cannot overwrite a value (column 6); a key stands once"),
        (b"a = '\0'\n", "banagent.toml:1: is not TOML: Found invalid character '\\x00' (column 6)"),
        (b"a = 2024-02-30\n", "banagent.toml:1: is not TOML: Invalid date or datetime (column 5)"),
        (b"\xef\xbb\xbfa = 1\n", "banagent.toml:1: begins with a byte order mark; save it as UTF-8 without one"),
        (b"# \xe9t\xe9\n", "banagent.toml:1: is not UTF-8: byte 0xe9; save the file as UTF-8"),
        (b"\n\n\xff", "banagent.toml:3: is not UTF-8: byte 0xff; save the file as UTF-8"),
        # without bounds
        (b"#" * 10_000_000, "banagent.toml: is larger than 1 MiB, the most that is read; split it into several files"),
        (b"a = " + b"[" * 100_000, "banagent.toml: is nested too deep"),
        (b"a = " + b"{a = " * 100_000, "banagent.toml: is nested too deep"),
        (b"a." * 100_000 + b"a = 1", "banagent.toml: is nested too deep"),
        (b"a = " + b"9" * 5000, "banagent.toml: holds a number of more than 4300 digits"),
    ],
)
def test_a_file_that_is_no_toml(tree: Tree, content: bytes, mistake: str) -> None:
    tree.admin(content)
    assert tree.mistakes() == [mistake]


def test_a_directory_a_fifo_and_a_link_to_nothing(tree: Tree) -> None:
    (tree.root / "etc/banagent/banagent.toml").mkdir(parents=True)
    (tree.root / "etc/banagent/conf.d").mkdir()
    os.mkfifo(tree.root / "etc/banagent/conf.d/1.toml")
    (tree.root / "etc/banagent/conf.d/2.toml").symlink_to("nothing")
    (tree.root / "etc/banagent/filters").touch()
    assert tree.mistakes() == [
        "banagent.toml: is a directory; a file is expected here",
        "conf.d/1.toml: is not a regular file",
        "conf.d/2.toml: can't be read: No such file or directory",
        "filters: can't be listed: Not a directory",
    ]


def test_a_file_that_may_not_be_read(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.admin("")
    (tree.root / "etc/banagent/banagent.toml").chmod(0)
    tree.root.chmod(0o755)
    monkeypatch.chdir(tree.root)  # the directories above are root's own
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigError) as caught:
            load(root=Path())
    finally:
        os.seteuid(user)
    assert str(caught.value) == "etc/banagent/banagent.toml: can't be read: Permission denied"


def test_a_name_that_is_unfit_for_a_terminal(tree: Tree) -> None:
    tree.write("etc/banagent/conf.d/a\x1b[31m\n.toml", "x")
    (name,) = tree.mistakes()
    assert name.startswith("conf.d/a\\u001b[31m\\n.toml:1: is not TOML: ")


# --- whatever stands in a file -----------------------------------------------------------------------------------

_KEYS = ["defaults", "jails", "sshd", "bantime", "time", "ports", "enabled", "ignoreip", "filter", "mode", "x y", "a.b"]
_VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.text(max_size=10)
    | st.sampled_from(["1h", "all", "ssh", "192.0.2.1", "sshd", "normal", "permanent"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=20,
)


@given(table=st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_nothing_but_mistakes_come_of_any_toml(tree: Tree, table: dict[str, object]) -> None:
    text = "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in table.items())
    assert tomli.loads(text) == table or "nan" in text
    _load(tree, text.encode())


@given(content=st.binary() | st.text("[]{}=.\"'\n# ab1-").map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_nothing_but_mistakes_come_of_any_bytes(tree: Tree, content: bytes) -> None:
    _load(tree, content)


def _load(tree: Tree, content: bytes) -> None:
    tree.admin(content)
    tree.filter("any", content)
    with pytest.raises(ConfigError) as caught:  # as a filter it is never right
        tree.load()
    for mistake in caught.value.mistakes:
        assert str(mistake).isprintable()
        assert 0 <= mistake.line <= content.count(b"\n") + 1


def _toml(value: object) -> str:
    """Write TOML, each character of a text as an escape."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    if is_list(value):
        return f"[{', '.join(map(_toml, value))}]"
    if is_table(value):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)
