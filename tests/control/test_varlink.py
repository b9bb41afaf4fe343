# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import json
import re
import time
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banagent.control import INTERFACE, READING
from banagent.control.service import STANDARD, read_interface
from banagent.control.varlink import (
    DEPTH,
    LONGEST,
    DefinitionError,
    Framer,
    MessageError,
    Mismatch,
    Request,
    decode,
    encode,
    parse_interface,
    parse_request,
)

unhurried: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared

# frames


@unhurried
@given(st.lists(st.binary(max_size=20).map(lambda frame: frame.replace(b"\0", b"")), max_size=5), st.data())
def test_a_stream_is_cut_the_same_however_it_comes(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame + b"\0" for frame in frames) + b"half"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer = Framer()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [frame for piece in pieces for frame in framer.feed(piece)] == frames


def test_a_frame_is_bounded() -> None:
    assert Framer(10).feed(b"x" * 10 + b"\0") == [b"x" * 10]
    with pytest.raises(MessageError, match="longer than 10 bytes"):
        Framer(10).feed(b"x" * 11 + b"\0")
    framer = Framer(10)
    for _ in range(10):
        framer.feed(b"x")
    with pytest.raises(MessageError):  # it does not wait for the end
        framer.feed(b"x")


# messages

HOSTILE: Final = {
    # no JSON
    b"": "not JSON",
    b"{": "not JSON",
    b"}{": "not JSON",
    b'{"method": "a.B"} {}': "not JSON",
    b'{"method": "a.B",}': "not JSON",
    b'\xef\xbb\xbf{"method": "a.B"}': "not JSON",
    b"{'method': 'a.B'}": "not JSON",
    b'{"method": "a.B\n"}': "not JSON",
    # what Python's parser would take
    b'{"method": "a.B", "parameters": {"x": NaN}}': "NaN is not JSON",
    b'{"method": "a.B", "parameters": {"x": -Infinity}}': "-Infinity is not JSON",
    b'{"method": "a.B", "parameters": {"x": 1e999}}': "too large",
    b'{"method": "a.B", "method": "a.C"}': "twice",
    b'{"method": "a.B", "parameters": {"x": {"y": 1, "y": 2}}}': "twice",
    b'{"method": "a.B", "parameters": {"x": ' + b"9" * 5000 + b"}}": "not JSON",
    # text that is none
    b'{"method": "a.\xff"}': "UTF-8",
    b'{"method": "a.\xed\xa0\x80"}': "UTF-8",
    b'{"method": "a.\\ud800"}': "UTF-8",
    b'{"method": "a.B", "parameters": {"\\udfff": 1}}': "UTF-8",
    # too deep
    b"[" * 10_000: "levels",
    b"[" * 10_000 + b"]" * 10_000: "levels",
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000: "levels",
    b'{"a":[' * 10_000 + b"]}" * 10_000: "levels",
    b'"\\\\",' + b"[" * 10_000: "levels",
    b'"\\"' + b"[" * 10_000: "not JSON",  # all of it is in a string without an end
    # JSON, but no call
    b"null": "must be an object",
    b"[]": "must be an object",
    b'"a.B"': "must be an object",
    b"{}": "must have a method",
    b'{"method": 1}': "must have a method",
    b'{"method": "a.B", "parameters": []}': "must be an object",
    b'{"method": "a.B", "more": 1}': "more must be true or false",
    b'{"method": "a.B", "oneway": "yes"}': "oneway must be true or false",
    b'{"method": "a.B", "more": true, "oneway": true}': "either",
    b'{"method": "a.B", "upgrade": true}': "upgrade",
    b'{"method": "a.B", "id": 1}': "'id'",
}


@pytest.mark.parametrize("frame", HOSTILE, ids=lambda frame: repr(frame[:40]))
def test_what_is_no_call(frame: bytes) -> None:
    with pytest.raises(MessageError, match=HOSTILE[frame]) as caught:
        parse_request(frame)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        (b'{"method": "a.B"}', Request("a.B", {})),
        (b' {"method":"a.B","parameters":null,"more":null} ', Request("a.B", {})),
        (b'{"method":"a.B","parameters":{"x":[1]},"more":true}', Request("a.B", {"x": [1]}, more=True)),
        (b'{"method":"a.B","oneway":true,"upgrade":false}', Request("a.B", {}, oneway=True)),
        # a pair of surrogates is a character, and a NUL is one
        (b'{"method":"a.B","parameters":{"x":"\\ud83d\\ude00\\u0000"}}', Request("a.B", {"x": "\U0001f600\0"})),
        # brackets in strings are no levels
        (b'{"method":"a.B","parameters":{"x":"\\\\\\"' + b"[" * 99 + b'"}}', Request("a.B", {"x": '\\"' + "[" * 99})),
    ],
)
def test_what_is_a_call(frame: bytes, request_: Request) -> None:
    assert parse_request(frame) == request_


JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('[]{}"\\a'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\'), inner, max_size=3),
    max_leaves=20,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return 0


@unhurried
@given(JSON, st.integers(0, DEPTH + 3), st.booleans())
def test_depth_is_bounded_and_the_rest_goes_through(value: Any, levels: int, escaped: bool) -> None:  # noqa: FBT001 - drawn
    for _ in range(levels):
        value = [value]
    message = {"x": value}
    frame = json.dumps(message, ensure_ascii=escaped).encode()
    if depth(message) > DEPTH:
        with pytest.raises(MessageError, match="levels"):
            decode(frame)
    else:
        assert decode(frame) == message


@pytest.mark.parametrize(
    "piece",
    [b"[", b"[]", b"{},", b'"', b'\\"', b'"\\', b"\\", b'"[', b"[{", b'"":', b'"a",', b"\\ud800", b"1", b"-", b"1,"],
)
def test_hostile_megabytes_take_no_time(piece: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(MessageError):
        decode((piece * LONGEST)[:LONGEST])
    assert time.process_time() - begin < 20  # what is not linear takes hours


def test_what_systemd_can_not_read_is_replaced() -> None:
    text = "\0\\u0000\\\0\ud800\x1b\n"
    assert json.loads(encode({"x": text})[:-1])["x"] == "\ufffd\\u0000\\\ufffd?\x1b\n"
    assert encode({"x": "a"}) == b'{"x":"a"}\0'


@unhurried
@given(st.dictionaries(st.text(st.characters(exclude_characters="\0", codec="utf-8")), JSON))
def test_what_is_encoded_is_decoded_the_same(message: dict[str, Any]) -> None:
    frame = encode(message)
    assert frame.count(0) == 1
    if depth(message) <= DEPTH:
        assert decode(frame[:-1]) == message


# types

SHAPES: Final = parse_interface("""
interface org.example.shapes  # a comment

type Colour (red, dark_red)
type Point (x: int, y: ?int)
type Tree (leaf: ?string, branches: ?[]Tree)
method Take(flag: ?bool, int: ?int, float: ?float, text: ?string, any: ?object, colour: ?Colour, points: ?[]Point,
    named: ?[string]int, tree: ?Tree, inline: ?(a: int), word: ?(one, two), rows: ?[][]int) -> ()
method Need(a: int, b: []string) -> ()
error Wrong (why: string)
""")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"flag": True, "int": -(1 << 63), "float": 1, "text": "", "any": {"x": [None]}},
        {"float": 1.5, "int": (1 << 63) - 1, "colour": "dark_red", "points": [{"x": 1}, {"x": 1, "y": None}]},
        {"points": [], "named": {"": 1, "a b": 2}, "tree": {"branches": [{"leaf": "l"}, {}]}},
        {"inline": {"a": 1}, "word": "two", "rows": [[], [1]], "text": None},
    ],
)
def test_what_fits(parameters: dict[str, Any]) -> None:
    fields = SHAPES.methods["Take"].parameters
    assert fields.fill(parameters) == dict.fromkeys(fields.fields) | parameters


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"flag": 1}, "flag"),
        ({"flag": "true"}, "flag"),
        ({"int": True}, "int"),
        ({"int": 1.0}, "int"),
        ({"int": "1"}, "int"),
        ({"int": 1 << 63}, "int"),
        ({"float": True}, "float"),
        ({"float": 1 << 70}, "float"),
        ({"text": 1}, "text"),
        ({"text": ["a"]}, "text"),
        ({"any": []}, "any"),
        ({"colour": "blue"}, "colour"),
        ({"colour": 1}, "colour"),
        ({"colour": ["red"]}, "colour"),
        ({"points": {"x": 1}}, "points"),
        ({"points": [{"x": 1}, {"y": 1}]}, "points[1].x"),
        ({"points": [None]}, "points[0]"),
        ({"points": [{"x": 1, "z": 1}]}, "points[0].z"),
        ({"named": {"a": 1, "b c": "1"}}, 'named["b c"]'),
        ({"named": [1]}, "named"),
        ({"tree": {"branches": [{"branches": [{}, {"leaf": 1}]}]}}, "tree.branches[0].branches[1].leaf"),
        ({"inline": {}}, "inline.a"),
        ({"word": "three"}, "word"),
        ({"rows": [[1], [1, None]]}, "rows[1][1]"),
        ({"no_such": None}, "no_such"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(parameters: dict[str, Any], path: str) -> None:
    with pytest.raises(Mismatch) as caught:
        SHAPES.methods["Take"].parameters.fill(parameters)
    assert caught.value.path == path


def test_what_is_missing_is_named() -> None:
    need = SHAPES.methods["Need"].parameters
    with pytest.raises(Mismatch, match=r"^a: is missing$"):
        need.fill({"b": []})
    with pytest.raises(Mismatch, match=r"^b: must be an array$"):
        need.fill({"a": 1, "b": None})


# definitions


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "line 1: 'interface' must be here, not the end"),
        ("interface example", "line 1: 'example' can't be the name of a interface"),
        ("interface a.b\nmethod foo() -> ()", "line 2: 'foo' can't be the name of a method"),
        ("interface a.b\nmethod F()", "line 2: '->' must be here, not the end"),
        ("interface a.b\nmethod F(a) -> ()", "line 2: must have fields with types"),
        ("interface a.b\n\nerror F (a__b: int)", "line 3: 'a__b' can't be the name of a field"),
        ("interface a.b\nerror F (a: int, a: int)", "line 2: a is there twice"),
        ("interface a.b\nerror F (a: int b: int)", "line 2: ',' must be here, not 'b'"),
        ("interface a.b\nerror F (a: int,)", "line 2: ')' can't be the name of a field"),
        ("interface a.b\ntype F (a, b: int)", "line 2: either all have a type, or none has"),
        ("interface a.b\ntype F (a: int, b)", "line 2: either all have a type, or none has"),
        ("interface a.b\ntype F (a: ??int)", "line 2: ? is there twice"),
        ("interface a.b\ntype F (a: integer)", "line 2: 'integer' is no type"),
        ("interface a.b\ntype F (a: []G)\ntype H ()", "line 2: there is no type G"),
        ("interface a.b\ntype F ()\nerror F ()", "line 3: F is there twice"),
        ("interface a.b\nstruct F ()", "line 2: 'struct' is none of type, method and error"),
        ("interface a.b\ntype F (a: int;)", "line 2: ';' means nothing here"),
        ("interface a.b\ntype F (a: int", "line 2: ',' must be here, not the end"),
    ],
)
def test_mistakes_in_definitions(text: str, error: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_interface(text)
    assert str(caught.value) == error


def test_the_interface_has_the_verbs() -> None:
    interface = read_interface(INTERFACE)
    assert interface.name == INTERFACE
    assert set(interface.methods) == {
        *("Status", "Jails", "List", "History", "Events", "Why", "GetConfig"),
        *("Ban", "Unban", "Off", "On", "Reload", "Resume"),
        *("Allowed", "Allow", "Disallow", "Reset", "Get", "Set"),
    }
    assert set(read_interface(STANDARD).methods) == {"GetInfo", "GetInterfaceDescription"}


def test_each_member_is_documented_and_says_who_may_call_it() -> None:
    interface = read_interface(INTERFACE)
    comments = dict(re.findall(r"\n((?:#.*\n)+)(?:interface|type|method|error) ([\w.]+)", interface.text))
    documented = {member: comment for comment, member in comments.items()}
    assert documented.keys() == {interface.name, *interface.types, *interface.methods, *interface.errors}
    reading = {member for member, text in documented.items() if re.search(r"\(reading[),]", text)}
    assert reading - {interface.name} == READING
    assert all(len(line) <= 80 for line in interface.text.splitlines())
