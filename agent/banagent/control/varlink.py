# SPDX-License-Identifier: LGPL-2.1-or-later
"""Varlink without sockets: frames, messages, and the interface definition language (varlink.org).

A message is a JSON object and ends with a NUL. What comes from a peer is hostile until it went through `Framer`,
`parse_request` and `Struct.check`; none of them takes more than linear time, or recurses deeper than `DEPTH`.

VarlinkError
├── MessageError    what came is no message; the connection can't go on
├── Mismatch        a value that the interface does not allow; it carries the path to it
└── DefinitionError an interface definition with a mistake
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LONGEST: Final = 1 << 20  # bytes of a message
DEPTH: Final = 32  # of objects and arrays in one another

Object = dict[str, Any]  # of JSON


class VarlinkError(ValueError):
    """What was read is not as Varlink or the interface has it."""


class MessageError(VarlinkError):
    """What came is no message: its text says why, in a line."""


class Mismatch(VarlinkError):  # noqa: N818 - it is what is found, and often no error of ours
    """A value that its type does not allow: where it is (`addresses[3].port`; empty: the whole), and what is wrong."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        """Give `PATH: REASON`."""
        return f"{self.path or 'the parameters'}: {self.reason}"

    def within(self, step: str) -> Mismatch:
        """Give the same seen from one level further out."""
        return Mismatch(self.reason, step + self.path)


class DefinitionError(VarlinkError):
    """An interface definition with a mistake, and the line it is on."""


# frames


class Framer:
    """Cuts a stream of bytes into the frames between NULs, of up to `longest` bytes."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._begun = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Give the frames that `data` completes, without their NULs. Raises MessageError: one is too long."""
        first, *others = data.split(b"\0")
        self._begun += first
        frames: list[bytes] = []
        for rest in others:
            frames.append(bytes(self._begun))
            self._begun = bytearray(rest)
        if len(self._begun) > self._longest or any(len(frame) > self._longest for frame in frames):
            raise MessageError(f"a message must not be longer than {self._longest} bytes")
        return frames


# messages


class Request(NamedTuple):
    """A call as it came; its parameters are not yet checked against anything."""

    method: str  # with its interface: `org.banagent.List`
    parameters: Object
    more: bool = False  # the caller takes several replies
    oneway: bool = False  # the caller takes none


def parse_request(frame: bytes) -> Request:
    """Parse a frame into a call. Raises MessageError."""
    message = decode(frame)
    if unknown := message.keys() - {"method", "parameters", "more", "oneway", "upgrade"}:
        raise MessageError(f"{min(unknown)!r} is nothing that a call has")
    method = message.get("method")
    if not isinstance(method, str):
        raise MessageError("a call must have a method, a string")
    parameters: object = message.get("parameters")
    if parameters is None:
        parameters = {}
    if not _is_object(parameters):
        raise MessageError("the parameters must be an object")
    more, oneway, upgrade = (_flag(message, name) for name in ("more", "oneway", "upgrade"))
    if upgrade:
        raise MessageError("no method of this service upgrades the connection to another protocol")
    if more and oneway:
        raise MessageError("a call is either more or oneway")
    return Request(method, parameters, more, oneway)


def decode(frame: bytes) -> Object:
    """Parse a frame into an object whose strings are all valid UTF-8. Raises MessageError."""
    if _is_deep(frame):
        raise MessageError(f"the message is not JSON, or deeper than {DEPTH} levels")
    try:
        message = _DECODER.decode(frame.decode())
        if _ESCAPED_SURROGATE.search(frame):
            _ENCODER.encode(message).encode()
    except MessageError:
        raise
    except UnicodeError:
        raise MessageError("the message is not UTF-8, or half of a surrogate pair is in it") from None
    except ValueError as error:  # JSONDecodeError, or an integer of thousands of digits
        raise MessageError(f"the message is not JSON: {error}") from None
    if not _is_object(message):
        raise MessageError("the message must be an object")
    return message


def encode(message: Mapping[str, Any]) -> bytes:
    """Give a message as a frame with its NUL.

    A log may hold anything: half a surrogate pair becomes `?`, and a NUL in a string U+FFFD, because systemd's JSON
    parser takes it for an error and gives up.
    """
    text = _ENCODER.encode(message)
    if r"\u0000" in text:
        text = _ESCAPE.sub(_without_nul, text)
    return text.encode(errors="replace") + b"\0"


def _flag(message: Object, name: str) -> bool:
    value = message.get(name)
    if value is not None and not isinstance(value, bool):
        raise MessageError(f"{name} must be true or false")
    return bool(value)


def _is_deep(frame: bytes) -> bool:
    """Whether the JSON in it is deeper than `DEPTH`, or its brackets don't match.

    This must be known before it is parsed, because the parser recurses. Each round takes the innermost pairs away, at
    C's speed; a backslash outside of a string is an error at which the parser stops.
    """
    outside = b"".join(frame.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    brackets = outside.translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _object(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageError("a name occurs twice in one object")
    return found


def _without_nul(escape: re.Match[str]) -> str:
    return "\ufffd" if escape[0] == r"\u0000" else escape[0]


def _no_constant(name: str) -> NoReturn:
    raise MessageError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MessageError("a number is too large")
    return value


_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(r"\\(?:u0000|.)")
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


# types


class Type(Protocol):
    """What a value may be."""

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` is allowed."""


class Primitive(NamedTuple):
    """`bool`, `int`, `float`, `string`, `object`."""

    allows: Callable[[object], bool]
    words: str  # for what it allows

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` is one."""
        if not self.allows(value):
            raise Mismatch(f"must be {self.words}")


class Array(NamedTuple):
    """`[]TYPE`."""

    of: Type

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` is a list of such values."""
        if not _is_array(value):
            raise Mismatch("must be an array")
        for index, item in enumerate(value):
            try:
                self.of.check(item)
            except Mismatch as found:
                raise found.within(f"[{index}]") from None


class Map(NamedTuple):
    """`[string]TYPE`."""

    of: Type

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` is an object with such values."""
        if not _is_object(value):
            raise Mismatch("must be an object")
        for key, item in value.items():
            try:
                self.of.check(item)
            except Mismatch as found:
                raise found.within(f"[{json.dumps(key)}]") from None


class Nullable(NamedTuple):
    """`?TYPE`."""

    of: Type

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` is None or such a value."""
        if value is not None:
            self.of.check(value)


class Enum(NamedTuple):
    """`(one, two)`: a string out of these."""

    words: tuple[str, ...]

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` is one of the words."""
        if value not in self.words:
            raise Mismatch(f"must be one of {', '.join(self.words)}")


class Struct:
    """`(name: TYPE, other: TYPE)`: an object with these fields and no others; those that may be null may be missing."""

    def __init__(self, fields: Mapping[str, Type]) -> None:
        self.fields = fields
        self._needed = {name for name, kind in fields.items() if not isinstance(kind, Nullable)}

    def check(self, value: object) -> None:
        """Raise Mismatch unless `value` has all that is needed, nothing else, and all as it must be."""
        if not _is_object(value):
            raise Mismatch("must be an object")
        if unknown := value.keys() - self.fields.keys():
            raise Mismatch(f"is unknown; there are {', '.join(self.fields) or 'none'}", f".{min(unknown)}")
        if missing := self._needed - value.keys():
            raise Mismatch("is missing", f".{min(missing)}")
        for name, item in value.items():
            try:
                self.fields[name].check(item)
            except Mismatch as found:
                raise found.within(f".{name}") from None

    def fill(self, parameters: Object) -> Object:
        """Check the parameters of a call or a reply; give them with None for each that is missing. Raises Mismatch."""
        try:
            self.check(parameters)
        except Mismatch as found:
            raise Mismatch(found.reason, found.path.removeprefix(".")) from None
        return dict.fromkeys(self.fields) | parameters


class Named(NamedTuple):
    """A type that the interface gives a name, perhaps further below."""

    name: str
    among: Mapping[str, Type]

    def check(self, value: object) -> None:
        """Raise Mismatch unless the type of this name allows `value`."""
        self.among[self.name].check(value)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_int(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _is_float(value: object) -> bool:
    return isinstance(value, float) or _is_int(value)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> TypeGuard[Object]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


PRIMITIVES: Final[Mapping[str, Type]] = {
    "bool": Primitive(_is_bool, "true or false"),
    "int": Primitive(_is_int, "a whole number of 64 bits"),
    "float": Primitive(_is_float, "a number"),
    "string": Primitive(_is_string, "a string"),
    "object": Primitive(_is_object, "an object"),
}


# the interface definition language


class Method(NamedTuple):
    """What a method takes and gives."""

    parameters: Struct
    reply: Struct


class Interface(NamedTuple):
    """An interface as its definition has it; the names of its members are without the interface's."""

    name: str  # org.banagent
    text: str  # the definition itself
    types: Mapping[str, Type]
    methods: Mapping[str, Method]
    errors: Mapping[str, Struct]


def parse_interface(text: str) -> Interface:
    """Parse the definition of an interface. Raises DefinitionError."""
    return _Parser(text).interface()


_INTERFACE_NAME: Final = re.compile(r"[A-Za-z](-*[A-Za-z0-9])*(\.[A-Za-z0-9](-*[A-Za-z0-9])*)+")
_MEMBER_NAME: Final = re.compile(r"[A-Z][A-Za-z0-9]*")
_FIELD_NAME: Final = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
_TOKEN: Final = re.compile(r"(?P<space>\s+|#[^\n]*)|->|\[\]|\[string\]|[A-Za-z][\w.-]*|[():,?]|(?P<wrong>.)", re.ASCII)


class _Parser:
    """Goes through the tokens of a definition, one ahead; each method takes one thing of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan(text)
        self._line = 1
        self._ahead, self._ahead_line = next(self._tokens)
        self._types: dict[str, Type] = {}
        self._uses: list[tuple[str, int]] = []  # of names of types, and where

    def interface(self) -> Interface:
        methods: dict[str, Method] = {}
        errors: dict[str, Struct] = {}
        self._take("interface")
        name = self._name(_INTERFACE_NAME, "interface")
        while self._ahead:
            keyword = self._next()
            if keyword not in ("type", "method", "error"):
                self._fail(f"{keyword!r} is none of type, method and error")
            member = self._name(_MEMBER_NAME, keyword)
            if member in self._types or member in methods or member in errors:
                self._fail(f"{member} is there twice")
            if keyword == "type":
                self._types[member] = self._body()
            elif keyword == "method":
                parameters = self._struct()
                self._take("->")
                methods[member] = Method(parameters, self._struct())
            else:
                errors[member] = self._struct()
        for used, line in self._uses:
            if used not in self._types:
                raise DefinitionError(f"line {line}: there is no type {used}")
        return Interface(name, self._text, self._types, methods, errors)

    def _struct(self) -> Struct:
        body = self._body()
        if not isinstance(body, Struct):
            self._fail("must have fields with types")
        return body

    def _body(self) -> Struct | Enum:
        """Take fields or words in parentheses."""
        fields: dict[str, Type] = {}
        words: list[str] = []
        self._take("(")
        while self._ahead != ")":
            if fields or words:
                self._take(",")
            name = self._name(_FIELD_NAME, "field")
            if name in fields or name in words:
                self._fail(f"{name} is there twice")
            if self._ahead == ":":
                self._take(":")
                fields[name] = self._type()
            else:
                words.append(name)
            if words and fields:
                self._fail("either all have a type, or none has")
        self._take(")")
        return Enum(tuple(words)) if words else Struct(fields)

    def _type(self) -> Type:
        if self._ahead == "(":
            return self._body()
        word = self._next()
        if word == "?":
            if self._ahead == "?":
                self._fail("? is there twice")
            return Nullable(self._type())
        if word == "[]":
            return Array(self._type())
        if word == "[string]":
            return Map(self._type())
        if word in PRIMITIVES:
            return PRIMITIVES[word]
        if not _MEMBER_NAME.fullmatch(word):
            self._fail(f"{word!r} is no type")
        self._uses.append((word, self._line))
        return Named(word, self._types)

    def _name(self, pattern: re.Pattern[str], what: str) -> str:
        token = self._next()
        if not pattern.fullmatch(token):
            self._fail(f"{token!r} can't be the name of a {what}")
        return token

    def _take(self, expected: str) -> None:
        token = self._next()
        if token != expected:
            self._fail(f"{expected!r} must be here, not {repr(token) if token else 'the end'}")

    def _next(self) -> str:
        token, self._line = self._ahead, self._ahead_line
        self._ahead, self._ahead_line = next(self._tokens, ("", self._line))
        return token

    def _fail(self, text: str) -> NoReturn:
        raise DefinitionError(f"line {self._line}: {text}")

    def _scan(self, text: str) -> Iterator[tuple[str, int]]:
        """Give the tokens with their lines, and at the end an empty one."""
        line = 1
        for found in _TOKEN.finditer(text):
            if found["wrong"]:
                raise DefinitionError(f"line {line}: {found['wrong']!r} means nothing here")
            if not found["space"]:
                yield found[0], line
            line += found[0].count("\n")
        yield "", line
