"""Numbers among a function's arguments that change from call to call: inputs of the program, not constants in it.

A number is a constant of the first trace. Where a later call brings another one in its place, the function is traced
with a stand-in for it, as PyTorch's compiler does at its second compile. With a tensor, a stand-in is a 0-d input of the
graph. Arithmetic of stand-ins and numbers gives stand-ins, whose numbers each call computes anew, in Python; a
comparison gives this call's answer, and the trace is good for calls in which the answer is the same. Whatever else wants
the number (an index, a text, `math.exp`) gets it, and the trace is good for that number alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .tensor import Tensor

Compute = Callable[[Sequence[Any]], Any]

# Exactly these: of another class the arithmetic is not known. numpy.float64 is what schedules are often made of.
KINDS = (float, int, np.float64)
_OPERANDS = (*KINDS, bool)
# Up to here integers are what they are as float64, which is how numbers enter a program.
EXACT = 1 << 53


@dataclass(frozen=True)
class Outcome:
    """What code asked of a number, and the answer that the trace is good for; equal where the same was asked."""

    question: str
    answer: bool
    compute: Compute

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and (self.question, self.answer) == (other.question, other.answer)

    def __hash__(self) -> int:
        return hash((self.question, self.answer))


class ArgumentNumbers:
    """The stand-ins of one trace: `kinds` are their numbers' classes, by position; `pinned` are the positions of the
    arguments for whose number alone the trace is good, `outcomes` what was asked of the others."""

    def __init__(self) -> None:
        self.kinds: dict[int, type] = {}
        self.pinned: set[int] = set()
        self.outcomes: dict[Outcome, None] = {}
        self.tracing = True

    def stand_in(self, position: int, number: Any, path: str) -> Number:
        """For the argument leaf at this position."""
        self.kinds[position] = type(number)
        return Number(self, operator.itemgetter(position), number, frozenset((position,)), path)

    @property
    def free(self) -> dict[int, type]:
        """The positions where any number of the class will do."""
        return {position: kind for position, kind in self.kinds.items() if position not in self.pinned}

    def ask(self, question: str, answer: bool, compute: Compute) -> bool:
        """The answer, which the trace relies on from now on."""
        if self.tracing:
            self.outcomes.setdefault(Outcome(question, answer, compute))
        return answer


class Number:
    """A stand-in: the number `compute` makes of a call's argument leaves, `plain` in the call being traced. It passes
    for an instance of that one's class, but not with C code, which asks for the number. Once the trace is over it is as
    good as the number."""

    __slots__ = ("_numbers", "compute", "plain", "positions", "text")

    def __init__(
        self, numbers: ArgumentNumbers, compute: Compute, plain: Any, positions: frozenset[int], text: str
    ):
        self._numbers = numbers
        self.compute = compute
        self.plain = plain
        self.positions = positions
        self.text = text

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.plain)

    def pin(self) -> Any:
        """The number itself."""
        self._numbers.pinned |= self.positions
        return self.plain

    def is_exact(self) -> bool:
        """Whether it is what it is as float64, which the trace then relies on."""
        if isinstance(self.plain, float):
            return True
        compute = self.compute
        return self._numbers.ask(
            f"abs({self.text}) <= 2**53",
            abs(self.plain) <= EXACT,
            lambda leaves: abs(compute(leaves)) <= EXACT,
        )

    def _with(self, how: Callable[[Any, Any], Any], sign: str, other: Any, reflected: bool) -> Any:
        """`how` of it and the other operand, which is on the left if `reflected`."""
        if isinstance(other, Tensor):
            return NotImplemented
        is_number = type(other) is Number
        left, right = self.plain, other.plain if is_number else other
        result = how(right, left) if reflected else how(left, right)
        if not self._numbers.tracing:
            return result
        known = is_number or type(other) in _OPERANDS
        # The class of a power depends on the numbers, but for such exponents.
        steady = how is not operator.__pow__ or (not reflected and type(other) is int and other >= 0)
        if not known or not steady or type(result) not in KINDS:
            if is_number:
                other.pin()
            self.pin()
            return result
        text = f"({other!r} {sign} {self.text})" if reflected else f"({self.text} {sign} {_text(other)})"
        positions = self.positions | other.positions if is_number else self.positions
        return Number(self._numbers, _computing(how, self, other, reflected), result, positions, text)

    def _compared(self, how: Callable[[Any, Any], Any], sign: str, other: Any) -> Any:
        if isinstance(other, Tensor) or other is None or isinstance(other, str):
            return NotImplemented
        is_number = type(other) is Number
        answer = how(self.plain, other.plain if is_number else other)
        if not is_number and type(other) not in _OPERANDS:
            self.pin()
            return answer
        compute = _computing(how, self, other, False)
        return self._numbers.ask(
            f"{self.text} {sign} {_text(other)}", bool(answer), lambda leaves: bool(compute(leaves))
        )

    def _alone(self, how: Callable[[Any], Any], name: str) -> Any:
        result, compute = how(self.plain), self.compute
        if not self._numbers.tracing:
            return result
        return Number(
            self._numbers, lambda leaves: how(compute(leaves)), result, self.positions, f"{name}({self.text})"
        )

    def __bool__(self) -> bool:
        compute = self.compute
        return self._numbers.ask(f"bool({self.text})", bool(self.plain), lambda leaves: bool(compute(leaves)))

    def __neg__(self) -> Any:
        return self._alone(operator.neg, "-")

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self._alone(abs, "abs")

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self.plain, name):
            raise AttributeError(f"{type(self.plain).__name__!r} object has no attribute {name!r}")
        return getattr(self.pin(), name)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return np.asarray(self.pin(), *args)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        given = [x.pin() if type(x) is Number else x for x in inputs]
        return getattr(ufunc, method)(*given, **kwargs)

    def __round__(self, *digits: Any) -> Any:
        return round(self.pin(), *digits)

    def __format__(self, spec: str) -> str:
        return format(self.pin(), spec)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.pin().__reduce_ex__(protocol)


def _text(operand: Any) -> str:
    return operand.text if type(operand) is Number else repr(operand)


def _computing(how: Callable[[Any, Any], Any], number: Number, other: Any, reflected: bool) -> Compute:
    """What `Number._with` makes of a call's leaves."""
    own = number.compute
    if type(other) is Number:
        its = other.compute
        return lambda leaves: how(own(leaves), its(leaves))
    if reflected:
        return lambda leaves: how(other, own(leaves))
    return lambda leaves: how(own(leaves), other)


def _arithmetic(how: Callable[[Any, Any], Any], sign: str, reflected: bool) -> Any:
    return lambda self, other: self._with(how, sign, other, reflected)


def _comparison(how: Callable[[Any, Any], Any], sign: str) -> Any:
    return lambda self, other: self._compared(how, sign, other)


def _asking(how: Callable[..., Any]) -> Any:
    return lambda self, *args: how(self.pin(), *args)


for _name, _sign in {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}.items():  # fmt: skip
    _how = getattr(operator, f"__{_name}__")
    setattr(Number, f"__{_name}__", _arithmetic(_how, _sign, False))
    setattr(Number, f"__r{_name}__", _arithmetic(_how, _sign, True))
for _name, _sign in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    setattr(Number, f"__{_name}__", _comparison(getattr(operator, _name), _sign))
_ASKING: dict[str, Callable[..., Any]] = {
    "float": float, "int": int, "index": operator.index, "complex": complex, "hash": hash, "repr": repr, "str": str,
    "trunc": lambda x: x.__trunc__(), "floor": lambda x: x.__floor__(), "ceil": lambda x: x.__ceil__(),
    "divmod": divmod, "rdivmod": lambda x, other: divmod(other, x), "invert": operator.invert,
}  # fmt: skip
for _name, _how in _ASKING.items():
    setattr(Number, f"__{_name}__", _asking(_how))
