# SPDX-License-Identifier: LGPL-2.1-or-later
"""The documentation says what the program does, no less and no more, and its examples work."""

from __future__ import annotations

import ast
import io
import re
import shlex
import signal
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import pytest
import tomli

from banagent import cli, config, daemon, log
from banagent.config import extending, filters, keys, patterns, probe, toml
from banagent.config.table import Values, rows
from banagent.control import client
from banagent.core import duration, links, recognise, session
from banagent.core.address import parse_address
from banagent.core.bans import Bans
from banagent.core.events import SECOND, Entry, Offence
from banagent.core.filter import FORMATS, MODES, PROVENANCES, SESSIONS, SOURCES, Filter
from banagent.core.formula import Formula
from banagent.core.jail import Jail, Rule
from banagent.core.never import Never
from banagent.core.recognise import Recogniser, View
from banagent.sinks import history
from banagent.sinks.nft import netlink, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from banagent.config.table import Key, Keys

    Function = ast.FunctionDef | ast.AsyncFunctionDef

ROOT: Final = Path(__file__).parents[1]
AGENT: Final = ROOT / "agent/banagent"
PAGES: Final = sorted((ROOT / "man").iterdir())
MARKDOWN: Final = sorted(ROOT.glob("*.md"))
CATALOG: Final = (ROOT / "units/banagent.catalog").read_text()
ESCAPES: Final = {
    r"\e": "\\",
    r"\-": "-",
    r"\&": "",
    r"\(aq": "'",
    r"\(dq": '"',
    r"\(ha": "^",
    r"\(ti": "~",
    r"\(ga": "`",
}
# commands of others that examples may use
OTHERS: Final = {"cat", "echo", "journalctl", "nft", "systemctl", "varlinkctl"}


class Item(NamedTuple):
    """An item of a list in a man page."""

    section: str  # "EXAMPLES", or the subsection
    depth: int  # 1: of a list that is in no other
    head: str  # the rest of its .It line
    text: str  # its lines up to the next item or the end of the list

    @property
    def names(self) -> list[str]:
        """What it is about: `Ic a , b` names a and b."""
        return [name for name in self.head.split()[1:] if name != ","]


class Block(NamedTuple):
    """Something to be typed or written as it stands."""

    place: str
    text: str


def unescaped(line: str) -> str:
    return re.sub(r"\\(?:\(..|.)", lambda match: ESCAPES[match[0]], line)


def items(page: str) -> Iterator[Item]:
    """Give all items of a page; the text of one holds those within it."""
    section = ""
    opened: list[list[str]] = []  # for each list the lines of its item so far, its head first
    for line in [*(ROOT / "man" / page).read_text().splitlines(), ".Sh"]:
        macro, _, rest = line.partition(" ")
        if macro in (".It", ".El") and opened[-1]:
            yield Item(section, len(opened), opened[-1][0], "\n".join(opened[-1][1:]))
        if macro in (".Sh", ".Ss"):
            section = rest
        for lines in opened:
            lines.append(line)
        if macro == ".It":
            opened[-1] = [rest]
        elif macro == ".Bl":
            opened.append([])
        elif macro == ".El":
            opened.pop()


def named(page: str, section: str, macro: str, depth: int = 1) -> dict[str, Item]:
    """Give the items of a section whose head begins with `macro`, by name; each name has one."""
    found = [item for item in items(page) if item.section == section and item.depth == depth]
    pairs = [(name, item) for item in found if item.head.split()[0] == macro for name in item.names]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def blocks() -> Iterator[Block]:
    """Give all literal displays of the man pages and all fenced blocks of the other documents."""
    for path in PAGES:
        found = re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed$", path.read_text(), re.MULTILINE)
        yield from (Block(f"{path.name}-{number}", unescaped(text)) for number, text in enumerate(found))
    for path in MARKDOWN:
        found = re.findall(r"^```(?:toml|console)\n((?:.*\n)*?)```$", path.read_text(), re.MULTILINE)
        yield from (Block(f"{path.name}-{number}", text) for number, text in enumerate(found))


def kind(block: Block) -> str:
    if block.text.startswith(("$ ", "# ")):
        return "transcript"
    return "counted" if all(line[-1].isdigit() for line in block.text.splitlines()) else "toml"


TRANSCRIPTS: Final = [block for block in blocks() if kind(block) == "transcript"]
COUNTED: Final = [block for block in blocks() if kind(block) == "counted"]
TOMLS: Final = [block for block in blocks() if kind(block) == "toml"]
COMMANDS: Final = [
    pytest.param(line[2:], id=f"{block.place}:{line}")
    for block in TRANSCRIPTS
    for line in block.text.splitlines()
    if line.startswith(("$ ", "# "))
]


def test_there_are_examples_of_each_kind() -> None:
    assert len(TOMLS) >= 5
    assert len(TRANSCRIPTS) >= 8
    assert len(COUNTED) == 1


# --- the command line ---


def help_of(*verb: str) -> str:
    """Give what --help prints."""
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as ended:
        cli.main([*verb, "--help"])
    assert ended.value.code == 0
    return said.getvalue()


def verbs() -> list[str]:
    return re.findall(r"^    ([a-z]+) ", help_of(), re.MULTILINE)


def usage(verb: str) -> set[str]:
    """Give options with what they take, and arguments, from the usage of a verb."""
    text = " ".join(help_of(verb).partition("\n\n")[0].split()).partition(f"banagent {verb} ")[2]
    text = re.sub(r"(?<=--journal) \[(DIR)\]", r" \1", text)  # the one option whose argument may be left out
    optional = re.findall(r"\[(-[^\]]+)\]", text)
    others = re.sub(r"\[[^\]]*\]", "", text).split()
    return {option.lower() for option in optional if option != "-h"} | {word.lower() for word in others}


def synopsis() -> dict[str, set[str]]:
    """Give the same from the page, by verb; "" has those that take none."""
    page = (ROOT / "man/banagent.8").read_text()
    found: dict[str, set[str]] = {}
    for part in page.partition(".Sh SYNOPSIS\n")[2].partition(".Sh")[0].split(".Nm banagent\n")[1:]:
        words = part.replace("Fl -", "--").replace("Fl ", "-").replace(" Op Ar", "").replace(" Ar", "").splitlines()
        verb = next((line.removeprefix(".Cm ") for line in words if line.startswith(".Cm ")), "")
        optional = {line.removeprefix(".Op ") for line in words if line.startswith(".Op ")}
        others = {line.split()[1] for line in words if line.startswith(".Ar ")}
        found[verb] = optional | others if verb else {re.sub(r"^-(?=-)", "", w) for w in words}
    return found


def test_verbs_are_those_of_the_page() -> None:
    assert [verb for verb in synopsis() if verb] == verbs()
    assert [item.names[0] for item in items("banagent.8") if item.head.startswith("Cm ")] == verbs()


@pytest.mark.parametrize("verb", verbs())
def test_synopsis_is_the_usage(verb: str) -> None:
    assert synopsis()[verb] == usage(verb)


@pytest.mark.parametrize("verb", verbs())
def test_head_of_a_verb_is_its_synopsis(verb: str) -> None:
    (head,) = (item.head for item in items("banagent.8") if re.match(rf"Cm {verb}\b", item.head))
    found = re.findall(r"Fl -([a-z-]+)(?:(?: Oo)? Ar ([a-z]+))?", head)
    options = {f"--{name} {value}".strip() for name, value in found}
    assert options == {option for option in usage(verb) if option.startswith("-")}


def test_each_option_is_explained() -> None:
    explained = [item.head.replace("Fl -", "--").replace("Ar ", "") for item in items("banagent.8")]
    options = {option for verb in verbs() for option in usage(verb) if option.startswith("-")}
    assert sorted(head for head in explained if head.startswith("--")) == sorted(options)


def test_options_without_a_verb() -> None:
    (line,) = (line for line in (ROOT / "man/banagent.8").read_text().splitlines() if line.startswith(".Fl h |"))
    documented = {"-" + word for word in line.removeprefix(".Fl ").split(" | ")}
    assert documented == set(re.findall(r"(?<!\S)(-[-a-z]+)(?=,| {2})", help_of()))


def test_exit_statuses() -> None:
    interrupted = 128 + signal.SIGINT  # as shells have it
    documented = {int(item.head) for item in items("banagent.8") if item.section == "EXIT STATUS"}
    assert documented == {cli.DONE, cli.REFUSED, cli.USAGE, cli.NOT_RUNNING, cli.NOT_PERMITTED, interrupted}
    with redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as ended:
        cli.main(["run", "--no-such-option"])
    assert ended.value.code == cli.USAGE  # argparse gives it by itself


# --- what the source says of itself ---


def calls() -> Iterator[ast.Call]:
    for path in AGENT.rglob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


class Logged(NamedTuple):
    """A place in the source where an event is logged."""

    kinds: set[str]  # what followers call it: of an event that is told to them; one place can tell of several
    message_ids: set[str]  # the names of its MESSAGE_ID, if it has one
    fields: set[str]  # of the journal


def logged() -> Iterator[Logged]:
    """Give the places that log by themselves, and those that leave it to `tell` or `stage`."""
    for call in calls():
        if re.fullmatch(r"log\.(debug|info|warning|error|exception|critical)", ast.unparse(call.func)):
            given = keywords(call)
            message_id = given.pop("message_id", None)
            names = set[str]() if message_id is None else texts(message_id)
            assert names <= log.MESSAGE_IDS.keys()
            trace = ast.unparse(call.func) == "log.exception" or "exc_info" in given
            fields = journal_names(given.keys() - {"exc_info"})
            yield Logged(set(), names, fields | ({"BANAGENT_EXCEPTION"} if trace else set()))
    for function, call in telling():
        kinds = texts(call.args[0], function)
        yield Logged(kinds, kinds & log.MESSAGE_IDS.keys(), journal_names(keywords(call)))


def telling() -> Iterator[tuple[Function, ast.Call]]:
    """Give the calls that tell an event, its kind first, and the functions that they are in."""
    for path in AGENT.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in ast.walk(function):
                    if not isinstance(call, ast.Call) or not re.search(r"\.(tell|stage)$", ast.unparse(call.func)):
                        continue
                    if not hands_on(function, call):
                        yield function, call


def hands_on(function: Function, call: ast.Call) -> bool:
    """Whether a function tells what it was told itself, and nothing of its own."""
    taken = [argument.arg for argument in function.args.args[1:]]
    facts = function.args.kwarg
    return facts is not None and ast.unparse(call).endswith(f"({', '.join(taken)}, **{facts.arg})")


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    """Give what is passed by name; with a mapping the names would be hidden."""
    given = {word.arg: word.value for word in call.keywords}
    assert None not in given, ast.unparse(call)
    return {str(name): value for name, value in given.items()}


def texts(value: ast.expr, function: ast.AST | None = None) -> set[str]:
    """Give the texts that an expression can be; of a name, what it is set to in its function."""
    values = [value]
    if isinstance(value, ast.Name) and function is not None:
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and value.id in map(ast.unparse, node.targets)
        ]
    found = {node.value for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)}
    assert found, ast.unparse(value)
    return {text for text in found if isinstance(text, str)}


def journal_names(names: Iterable[str]) -> set[str]:
    return {f"BANAGENT_{name.upper()}" for name in names}


def journal_fields() -> set[str]:
    return {field for event in logged() for field in event.fields}


def test_journal_fields_are_those_of_the_page() -> None:
    assert named("banagent.8", "Log", "Dv").keys() == journal_fields()


@pytest.mark.parametrize("path", [*PAGES, *MARKDOWN], ids=lambda path: path.name)
def test_journal_fields_in_passing(path: Path) -> None:
    assert set(re.findall(r"\bBANAGENT_[A-Z_]+", path.read_text())) <= journal_fields()


def test_message_ids_are_those_of_the_page() -> None:
    rows_of_page = (item.head.split(" Ta ") for item in items("banagent.8") if item.section == "Log")
    documented = {row[0]: row[1].removeprefix("Li ") for row in rows_of_page if len(row) > 1 and " Li " in f" {row[1]}"}
    assert documented == log.MESSAGE_IDS


@pytest.mark.parametrize("path", [*PAGES, *MARKDOWN], ids=lambda path: path.name)
def test_message_ids_in_passing(path: Path) -> None:
    assert set(re.findall(r"\b[0-9a-f]{32}\b", path.read_text())) <= set(log.MESSAGE_IDS.values())


def test_catalog_has_the_message_ids() -> None:
    assert sorted(re.findall(r"^-- ([0-9a-f]{32})$", CATALOG, re.MULTILINE)) == sorted(log.MESSAGE_IDS.values())


@pytest.mark.parametrize("kind", log.MESSAGE_IDS)
def test_catalog_fills_in_fields_that_are_there(kind: str) -> None:
    _, _, text = CATALOG.partition(f"-- {log.MESSAGE_IDS[kind]}\n")
    wanted = set(re.findall(r"@([A-Z_]+)@", text.partition("\n-- ")[0])) - {"MESSAGE"}
    events = [event for event in logged() if kind in event.message_ids]
    assert events
    assert [sorted(wanted - event.fields) for event in events] == [[]] * len(events)


def test_kinds_of_events_are_those_of_the_interface() -> None:
    interface = (AGENT / "control/org.banagent.varlink").read_text()
    (listed,) = re.findall(r"^  # ((?:\w+,(?: |\n  # ))+\w+)\.\n(?:  #.*\n)*  kind: string", interface, re.MULTILINE)
    assert sorted(re.findall(r"\w+", listed)) == sorted({kind for event in logged() for kind in event.kinds})


def test_environment_is_that_of_the_page() -> None:
    read = {"NOTIFY_SOCKET", "TZ"}  # by libsystemd, and by the C library's localtime(3)
    for call in calls():
        if ast.unparse(call.func) == "os.environ.get":
            read.add(ast.literal_eval(call.args[0]))
    assert named("banagent.8", "ENVIRONMENT", "Ev").keys() == read


def test_signals_are_those_of_the_page() -> None:
    handled = {
        ast.unparse(call.args[0]).removeprefix("signal.")
        for call in calls()
        if "add_signal_handler" in ast.unparse(call.func)
    }
    assert named("banagent.8", "Signals", "Dv").keys() == handled


def test_firewall_is_that_of_the_page() -> None:
    jail = "jail"
    messages = [
        *skeleton.table(("ports", "all")),
        *skeleton.dport(jail, ((22, 22),)),
        *(message for length in skeleton.LENGTHS for message in skeleton.jail(jail, length, "ports")),
    ]
    name_at = {netlink.NEWSET: 2, netlink.NEWCHAIN: 3}
    made = {
        netlink.text(netlink.attributes(memoryview(message.attributes))[name_at[message.kind]])
        for message in messages
        if message.kind in name_at
    }
    documented = named("banagent.8", "Firewall", "Va")
    assert {name.replace("JAIL", jail) for name in documented} == made


# --- the keys of the configuration ---


def documented_keys() -> dict[str, Item]:
    return named("banagent.toml.5", "Keys", "Ic")


def coded_keys(above: str) -> dict[str, Key[object]]:
    """Give the keys that there are below a table, with their dotted names."""
    return {name.removeprefix(above): key for name, key in now(keys.FILE) if name.startswith(above)}


def now(table: Keys, above: str = "") -> Iterator[tuple[str, Key[object]]]:
    """Give the rows of the keys that this version takes."""
    refused = tuple(name for name, key in rows(table) if key.since != "now")
    return (
        (f"{above}{name}", key)
        for name, key in rows(table)
        if not f"{name}.".startswith(tuple(f"{n}." for n in refused))
    )


def test_tables_of_the_file() -> None:
    assert named("banagent.toml.5", "Tables", "Ic").keys() == {name for name, _ in now(keys.FILE) if "." not in name}


def test_keys_of_a_jail() -> None:
    assert documented_keys().keys() == coded_keys("jails.NAME.").keys()


def test_keys_that_defaults_lack() -> None:
    lacking = coded_keys("jails.NAME.").keys() - coded_keys("defaults.").keys()
    told = {name for name, item in documented_keys().items() if "Not allowed in\n.Ic defaults" in item.text}
    assert told == lacking
    assert coded_keys("defaults.").keys() < coded_keys("jails.NAME.").keys()


def test_keys_that_are_refused() -> None:
    section = named("banagent.toml.5", "What is said of mistakes", "Ic")
    misplaced = {"counts", "filter", *(key.name for key in keys.OF_FILTER)}
    defaults = {key.name for key in keys.DEFAULTS.keys if key.since == "never"} - misplaced
    jails = {key.name for key in keys.JAILS.keys if key.since == "never"}
    assert section.keys() == defaults == jails


def filter_keys() -> dict[str, Item]:
    """Give what the page says of each key of a filter; what tables have that are like others is told in a sentence."""
    page = "banagent-filter.5"
    found = named(page, "The file", "Ic")
    for section, table in (("Patterns", "failregex."), ("Samples", "failregex.samples."), ("Sequences", "sequence.")):
        found |= {table + name: item for name, item in named(page, section, "Ic").items()}
    text = (ROOT / "man" / page).read_text()
    for table in ("link", "success", "ignoreregex", "nomatch"):
        _, _, sentence = text.partition(f".Pp\nA{'n' if table == 'ignoreregex' else ''}\n.Ql [[{table}]]\nhas\n")
        names = re.findall(r"^\.Ic (\w+)", sentence.partition(".Pp")[0].partition(".Ss")[0], re.MULTILINE)
        found |= {f"{table}.{name}": Item("", 1, name, "Required.") for name in names}
    return found


def test_keys_of_a_filter() -> None:
    coded = {name for name, _ in now(filters.FILE)}
    alike = {name for name in coded if name.startswith(("ignoreregex.samples.", "link.samples.", "success.samples."))}
    assert filter_keys().keys() == coded - alike
    assert {f"failregex.{name.partition('.')[2]}" for name in alike} < coded


def keys_with_items() -> Iterator[tuple[str, Key[object], Item]]:
    coded = coded_keys("jails.NAME.") | {f"filter: {name}": key for name, key in now(filters.FILE)}
    told = documented_keys() | {f"filter: {name}": item for name, item in filter_keys().items()}
    return ((name, coded[name], told[name]) for name in coded.keys() & told.keys())


EXPLAINED: Final = [
    pytest.param(key, item, id=name)
    for name, key, item in sorted(keys_with_items(), key=lambda row: row[0])
    if item.section
]


def default_as_told(key: Key[object]) -> str | None:
    """Give a key's default as a page has it; None: there is none, or it takes words to say."""
    default = key.keys[0].default if key.short else key.default
    if key.required or default in ("", None, ()) or isinstance(default, Values):
        return None
    if isinstance(default, Formula):
        return default.text
    if isinstance(default, tuple):
        return toml.notation([*cast("tuple[object, ...]", default)])
    if isinstance(default, int) and "duration" in key.type:
        return duration.format(default)
    return toml.notation(default).strip('"')


@pytest.mark.parametrize(("key", "item"), EXPLAINED)
def test_default_of_a_key(key: Key[object], item: Item) -> None:
    told = re.search(r"The default is\n\.Cm (.+?)(?: [.;,])?$", item.text, re.MULTILINE)
    of_filter = item.section == "Keys" and key in keys.OF_FILTER  # then it is the filter's
    assert (told and unescaped(told[1])) == (None if of_filter else default_as_told(key))


@pytest.mark.parametrize(("key", "item"), EXPLAINED)
def test_a_key_that_is_required(key: Key[object], item: Item) -> None:
    assert key.required == (re.search(r"^Required\b", item.text, re.MULTILINE) is not None)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (documented_keys()["mode"], MODES),
        (filter_keys()["failregex.mode"], MODES),
        (filter_keys()["provenance"], PROVENANCES),
        (filter_keys()["formats"], FORMATS),
        (filter_keys()["source"], SOURCES),
        (documented_keys()["source"], SOURCES),
    ],
    ids=["mode", "failregex.mode", "provenance", "formats", "filter's source", "jail's source"],
)
def test_words_of_a_choice(item: Item, words: Iterable[str]) -> None:
    listed = re.findall(r"Cm ([a-z].*)", item.text)
    assert {word for line in listed for word in re.findall(r"[a-z-]+", line)} == set(words)


def test_sessions() -> None:
    assert [f"\\(dq{word}\\(dq" for word in SESSIONS] == re.findall(
        r"^\.It Cm (\S+)", filter_keys()["session"].text, re.MULTILINE
    )


def test_units_of_time() -> None:
    listed = [item.head for item in items("banagent.toml.5") if item.section == "Durations"]
    told = {name: words.partition(",")[0].split() for name, words in (head.split(" Ta ") for head in listed)}
    known = duration._UNITS  # pyright: ignore[reportPrivateUsage] - so that none is forgotten
    assert {word for words in told.values() for word in words} == known.keys()
    for name, words in told.items():
        assert {known[word] for word in words} == {known[name]}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("banagent-filter.5", f"at most {patterns.MAX_LENGTH} characters"),
        ("banagent-filter.5", f"at most {patterns.MAX_STEPS} steps"),
        ("banagent-filter.5", f"more than {probe.FEW} steps"),
        ("banagent-filter.5", f"more than {probe.LIMIT} ms"),
        ("banagent-filter.5", f"up to {extending.MOST} files"),
        ("banagent-filter.5", f"first {recognise.LONGEST} bytes"),
        ("banagent-filter.5", f"{session.LIFETIME // SECOND // 60} minutes after its last line"),
        ("banagent-filter.5", f"more than {links.LIMIT} of them"),
        ("banagent.toml.5", f"{toml.MAX_BYTES >> 20} MiB"),
        ("banagent.toml.5", f"{duration.LONGEST // duration.YEAR} years"),
        ("banagent.8", f"every {daemon.CHECKPOINT:.0f} seconds while entries arrive"),
        ("banagent.8", f"tried again every {daemon.RETRY:.0f} seconds"),
        ("banagent.8", f"Pa {daemon.STATE_DIRECTORY}/{daemon.HISTORY} The history"),
        ("banagent.8", f"last {history.EVENTS} events"),
        ("banagent.8", f"Pa {client.SOCKET} The control socket"),
        ("banagent.8", f"group .Ql {daemon.GROUP}"),
        ("banagent.8", f"Ql inet {skeleton.TABLE}"),
    ],
)
def test_figures(page: str, words: str) -> None:
    assert words in " ".join((ROOT / "man" / page).read_text().split())


# --- the examples ---


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty directory, on a machine that has no configuration but the vendor's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "load", partial(config.load, root=tmp_path))
    return tmp_path


@pytest.mark.parametrize("block", TOMLS, ids=lambda block: block.place)
def test_toml_is_taken(block: Block, scratch: Path) -> None:
    is_filter = not {"description", "extends"}.isdisjoint(tomli.loads(block.text))
    path = scratch / "etc/banagent" / ("filters/example.toml" if is_filter else "banagent.toml")
    path.parent.mkdir(parents=True)
    path.write_text(block.text)
    taken = config.load()
    if is_filter:
        (example,) = (jail.filter for jail in taken.jails if jail.name == "example")
        check_samples(example)
    else:
        assert any(origin.file == str(path) for jail in taken.jails for origin in jail.origins.values())


def check_samples(example: Filter) -> None:
    assert example.nomatch
    for pattern in (*example.failregexes, *example.links):
        assert pattern.samples
        for sample in pattern.samples:
            offence = recognised(example, "aggressive", sample.line)
            assert offence is not None
            assert offence.address == (sample.address and parse_address(sample.address))
            times = sample.count if pattern in example.failregexes else 0
            assert (offence.pattern, offence.user, offence.times) == (pattern.name, sample.user, times)
    assert [line.line for line in example.nomatch if recognised(example, "aggressive", line.line)] == []
    assert example.sequences or not example.links
    for sequence in example.sequences:
        jail = Jail("jail", Rule(3600, sequence.failures, None, sessions=True, links=True), Never(), Bans())
        offences = [recognised(example, "aggressive", line) for line in sequence.lines]
        bans = [ban for offence in filter(None, offences) for ban in jail.consider(offence)]
        assert [(str(ban.address), ban.user) for ban in bans] == [(sequence.address, sequence.user)]


def recognised(item: Filter, mode: str, line: str, pid: int = 1) -> Offence | None:
    """Give what a filter makes of a line that one of its units wrote."""
    mine = replace(item, units=("any.service",), uids=(0,))
    recogniser = Recogniser({"jail": View(mine, mode)})
    entry = Entry(SECOND, line.encode(), "", 0, "any.service", None, pid)
    return dict(recogniser.offences(entry, recogniser.sift(entry.message))).get("jail")


@pytest.mark.parametrize("block", COUNTED, ids=lambda block: block.place)
def test_counting_is_as_told(block: Block, scratch: Path) -> None:
    assert config.load().files[0].startswith(str(ROOT)), scratch
    (sshd,) = (jail.filter for jail in config.load().jails if jail.name == "sshd")
    never_banned = Rule(findtime=3600, maxretry=100, bantime=None, sessions=sshd.session is not None)
    jail = Jail("sshd", never_banned, Never(), Bans())
    counted: list[str] = []
    for line in block.text.splitlines():
        offence = recognised(sshd, "normal", line[:-1].rstrip())
        assert offence is not None
        jail.consider(offence)
        counted.append(f"{line[:-1]}{jail.failures}")
    assert counted == block.text.splitlines()


@pytest.mark.parametrize(
    "block",
    [block for block in TRANSCRIPTS if "$ banagent " in block.text],
    ids=lambda block: block.place,
)
def test_commands_print_what_is_told(block: Block, scratch: Path) -> None:
    """Play it: `cat` writes what it is said to show, `banagent` is run, `echo $?` says how that ended."""
    played = ""
    status = 0
    for part in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE)[1:]:
        command, _, told = part.partition("\n")
        played += command + "\n"
        words = shlex.split(command.removeprefix("$ "))
        if words[0] == "cat":
            (scratch / words[1]).write_text(told)
            played += told
        elif words == ["echo", "$?"]:
            played += f"{status}\n"
        else:
            assert words[0] == "banagent"
            said = io.StringIO()
            with redirect_stdout(said), redirect_stderr(said):
                status = cli.main(words[1:])
            played += said.getvalue()
    assert played == block.text


@pytest.mark.parametrize("command", COMMANDS)
def test_command_can_be_typed(command: str) -> None:
    """What needs privileges is not run here, but its words are known."""
    program, *words = shlex.split(command.removeprefix("sudo "))
    if program.endswith("banagent"):
        assert is_taken(words)
    elif program == "make":
        targets = re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words if "=" not in word} <= set(" ".join(targets).split())
    else:
        assert program in OTHERS


def is_taken(words: list[str]) -> bool:
    """Whether the command line takes these words; it says why if not."""
    with redirect_stdout(io.StringIO()):
        try:
            cli.parser().parse_args(words)
        except SystemExit as ended:
            return ended.code == 0  # --help
    return True


# --- the commands that are named in passing ---


def named_in_units() -> Iterator[Block]:
    """Give the commands that units run, and that the catalog and the vendor's configuration advise."""
    for path in sorted((ROOT / "units").glob("banagent.*")):
        text = re.sub(r"@BANAGENT_([A-Z]+)@", r"\1", path.read_text())
        found = re.findall(r"^ +banagent (.+)$|^Exec\w+=/usr/bin/banagent (.+)$|`banagent (.+?)`", text, re.MULTILINE)
        yield from (Block(path.name, "".join(alternatives)) for alternatives in found)


def named_in_source() -> Iterator[Block]:
    """Give the commands at the end of what the program says."""
    for path in sorted(AGENT.rglob("*.py")):
        for text in literals(ast.parse(path.read_text())):
            if found := re.search(r"(?:: |, then )banagent ([a-z][^:;]*)$", text):
                yield Block(path.name, found[1])


def literals(tree: ast.AST) -> Iterator[str]:
    """Give the texts in a source; for what is filled in stands a 1, which can be a name and a number."""
    parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)
        elif isinstance(node, ast.Constant) and node not in parts:
            yield str(node.value)


def named_in_documents() -> Iterator[Block]:
    """Give the commands in the sentences of the man pages and of the other documents."""
    for path in PAGES:
        found = re.findall(r"^\.[DQ]l banagent (.+?)(?: [.,;:)])*$", path.read_text(), re.MULTILINE)
        yield from (Block(path.name, unescaped(text)) for text in found)
    for path in MARKDOWN:
        yield from (Block(path.name, text) for text in re.findall(r"`(?:sudo )?banagent (.+?)`", path.read_text()))


NAMED: Final = sorted({*named_in_units(), *named_in_source(), *named_in_documents()})


@pytest.mark.parametrize("block", NAMED, ids=lambda block: f"{block.place}:{block.text}")
def test_command_that_is_named_is_there(block: Block) -> None:
    verb, *words = shlex.split(block.text)
    assert verb in verbs()
    assert is_taken([verb, *words]) or not words  # a verb alone may be meant by its name


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("banagent.catalog", "unban ADDRESS"),
        ("banagent.service", "reload"),
        ("banagent.toml", "check"),
        ("banagent.toml.5", "timespan"),
        ("daemon.py", "unban --offline --all"),
        ("listings.py", "events --follow --since 1"),
        ("README.md", "check"),
    ],
)
def test_commands_are_found_where_they_are_named(place: str, command: str) -> None:
    assert Block(place, command) in NAMED


# --- the documents for people who read the source ---


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in targets if not (ROOT / link).exists()] == []


def test_rooms_are_those_of_the_source() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    contracts = tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = re.findall(r"^\| `([a-z]+)(?:/|\.py)` \|", text, re.MULTILINE)
    assert sorted(rooms) == sorted(room for layer in layers for room in layer.split(" | "))


def test_modules_that_are_named_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = set(re.findall(r"`([a-z_/]+\.py)`", text))
    assert modules
    assert [name for name in modules if not (AGENT / name).is_file() and not (ROOT / name).is_file()] == []


def test_changelog_begins_with_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
