# SPDX-License-Identifier: LGPL-2.1-or-later
"""fail2ban's `bantime.formula`: an arithmetic expression over ban.Time, ban.Count and banFactor.

It is parsed as Python, as fail2ban has it, and never executed as such: what is known here is computed here, and within
bounds, so that no formula takes long or much memory.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Number = int | float
Variables = dict[str, Number]
Computed = Callable[[Variables], Number]

LONGEST: Final = 1000  # characters
DEEPEST: Final = 50  # levels of operations within operations
BITS: Final = 4096  # of a whole number on the way; a duration has some 30
_DIGITS: Final = 20  # that round() is asked for

TIME: Final = "ban.Time"  # how long a first ban lasts, in seconds
COUNT: Final = "ban.Count"  # how many bans there were before
FACTOR: Final = "banFactor"
_VARIABLES: Final = (TIME, COUNT, FACTOR)
_BRACKET: Final = re.compile(r"[()]")


class FormulaError(ValueError):
    """A formula that can't be computed, and the character at which that shows, from 1."""

    def __init__(self, text: str, at: int, what: str) -> None:
        super().__init__(f'{what}, at character {at}: "{text[at - 1 : at + 19]}"' if text[at - 1 :] else what)
        self.at = at


class _Function(NamedTuple):
    """What may be called, and with how many numbers."""

    act: Callable[..., Number]
    least: int = 1
    most: int = 1


def _shifted(left: Number, right: Number) -> Number:
    """Shift to the left, as far as `BITS` reach."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right > BITS:
        raise OverflowError
    return _whole(left) << _whole(right)


def _times(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > BITS:
        raise OverflowError
    return left * right


def _absolute(value: Number) -> Number:
    return abs(value)


def _power(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > BITS:
        raise OverflowError
    result: complex = left**right
    if not isinstance(result, int | float):  # a root of a negative number
        raise ValueError("math domain error")  # noqa: TRY004 - so says Python of other roots
    return result


def _rounded(value: Number, digits: Number = 0) -> Number:
    if not -_DIGITS <= digits <= _DIGITS:
        raise ValueError(f"more than {_DIGITS} digits to round to")
    return round(value, _whole(digits))


def _whole(value: Number) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value} is no whole number; write int(…)")  # noqa: TRY004 - the number is at fault
    return value


_UNARY: Final[Mapping[type[ast.unaryop], Callable[[Number], Number]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
_BINARY: Final[Mapping[type[ast.operator], Callable[[Number, Number], Number]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.LShift: _shifted,
    ast.RShift: lambda left, right: _whole(left) >> _whole(right),
}
_COMPARED: Final[Mapping[type[ast.cmpop], Callable[[Number, Number], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: Final[Mapping[str, _Function]] = {
    "min": _Function(min, 2, 20),
    "max": _Function(max, 2, 20),
    "int": _Function(int),
    "float": _Function(float),
    "abs": _Function(_absolute),
    "round": _Function(_rounded, 1, 2),
    "pow": _Function(_power, 2, 2),
    "math.exp": _Function(math.exp),
    "math.log": _Function(math.log, 1, 2),
    "math.sqrt": _Function(math.sqrt),
    "math.pow": _Function(math.pow, 2, 2),
    "math.floor": _Function(math.floor),
    "math.ceil": _Function(math.ceil),
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula, checked. Raises FormulaError: it is none, or has what is not known here."""

    text: str
    _compute: Computed = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compute", _Parser(self.text).parse())

    def __call__(self, time: Number, count: int, factor: Number) -> Number:
        """Compute it. Raises OverflowError: too large; ZeroDivisionError, or ValueError, as of a root of -1."""
        return self._compute({TIME: time, COUNT: count, FACTOR: factor})

    def constant(self) -> Number:
        """Compute it without a ban. Raises FormulaError if it needs one, and what computing raises."""
        try:
            return self._compute({})
        except KeyError as error:
            at = self.text.find(error.args[0]) + 1
            raise FormulaError(self.text, at, "must be numbers alone") from None


class _Parser:
    """Turns a text into a function; all that it can do is known then."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._indent = len(text) - len(text.lstrip())  # Python takes it for the indentation of a block
        self._starts = [0]  # bytes before each line; the tree counts in bytes of UTF-8
        for line in text.encode()[self._indent :].splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def parse(self) -> Computed:
        if len(self._text) > LONGEST:
            raise FormulaError("", 1, f"is longer than {LONGEST} characters")
        self._check_brackets()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what may become a mistake in a later Python
                tree = ast.parse(self._text.lstrip(), mode="eval")
        except SyntaxError as error:
            if not error.offset:
                raise FormulaError(self._text, len(self._text) + 1, "is no formula: its end is missing") from None
            before = self._text.lstrip().splitlines(keepends=True)[: (error.lineno or 1) - 1]
            at = self._indent + sum(map(len, before)) + max(error.offset, 1)
            raise FormulaError(self._text, at, "is no formula") from None
        except (RecursionError, MemoryError, ValueError):  # ValueError: a NUL
            raise FormulaError("", 1, "is no formula") from None
        return self._make(tree.body, DEEPEST)

    def _check_brackets(self) -> None:
        """Say of a bracket that it has no other half: what Python says of it, and where, differs by version."""
        opened: list[int] = []
        for bracket in _BRACKET.finditer(self._text):
            if bracket[0] == "(":
                opened.append(bracket.start())
            elif not opened:
                raise FormulaError(self._text, bracket.start() + 1, "has a ) that no ( belongs to")
            else:
                opened.pop()
        if opened:
            raise FormulaError(self._text, opened[-1] + 1, "has a ( that is never closed")

    def _make(self, node: ast.expr, levels: int) -> Computed:
        if not levels:
            raise self._error(node, "is too deeply nested")
        made = self._operation(node, levels - 1) or self._choice(node, levels - 1)
        if made is not None:
            return made
        match node:
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() as value):
                return lambda _: value
            case ast.Name() | ast.Attribute():
                return self._variable(node)
            case ast.Call(func=func, args=args, keywords=[]):
                return self._call(func, args, levels - 1)
            case _:
                pass
        raise self._error(node, "has what is neither a number nor arithmetic")

    def _operation(self, node: ast.expr, levels: int) -> Computed | None:
        match node:
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _unary(_UNARY[type(op)], self._make(operand, levels))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _binary(_BINARY[type(op)], self._make(left, levels), self._make(right, levels))
            case _:
                return None

    def _choice(self, node: ast.expr, levels: int) -> Computed | None:
        match node:
            case ast.BoolOp(op=op, values=values):
                return _junction([self._make(value, levels) for value in values], until=isinstance(op, ast.Or))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARED for op in ops):
                sides = [self._make(side, levels) for side in (left, *others)]
                return _chain(sides, [_COMPARED[type(op)] for op in ops])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                when, then, otherwise = (self._make(part, levels) for part in (test, body, orelse))
                return lambda known: then(known) if when(known) else otherwise(known)
            case _:
                return None

    def _variable(self, node: ast.expr) -> Computed:
        name = ast.unparse(node)
        if name not in _VARIABLES:
            raise self._error(node, f"has a name that is none of {', '.join(_VARIABLES)}")
        return lambda known: known[name]

    def _call(self, func: ast.expr, args: list[ast.expr], levels: int) -> Computed:
        function = FUNCTIONS.get(ast.unparse(func))
        if function is None:
            raise self._error(func, f"calls what is none of {', '.join(FUNCTIONS)}")
        if not function.least <= len(args) <= function.most:
            wanted = str(function.least) if function.least == function.most else f"{function.least} or more"
            raise self._error(func, f"gives {len(args)} numbers where {wanted} are wanted")
        given = [self._make(argument, levels) for argument in args]
        return lambda known: function.act(*(argument(known) for argument in given))

    def _error(self, node: ast.expr, what: str) -> FormulaError:
        before = self._text.encode()[self._indent :][: self._starts[node.lineno - 1] + node.col_offset]
        return FormulaError(self._text, self._indent + len(before.decode()) + 1, what)


def _unary(act: Callable[[Number], Number], inner: Computed) -> Computed:
    return lambda known: act(inner(known))


def _binary(act: Callable[[Number, Number], Number], left: Computed, right: Computed) -> Computed:
    return lambda known: act(left(known), right(known))


def _junction(parts: list[Computed], *, until: bool) -> Computed:
    """Give what `and` and `or` give: the first that decides it, else the last."""

    def junction(known: Variables) -> Number:
        value: Number = 0
        for part in parts:
            value = part(known)
            if bool(value) is until:
                break
        return value

    return junction


def _chain(sides: list[Computed], compared: list[Callable[[Number, Number], bool]]) -> Computed:
    """Give what `a < b < c` gives."""

    def chain(known: Variables) -> Number:
        values = [side(known) for side in sides]
        return all(holds(*pair) for holds, pair in zip(compared, pairwise(values), strict=True))

    return chain
