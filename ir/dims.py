"""Integer expressions over named symbols: tensor dims that are not known yet, and loop indices.

A dim is a Python int or an `Expr`. An `Expr` is a polynomial with integer coefficients over atoms, kept in one
normal form, so that equal expressions compare equal and the coefficient of a loop variable (its stride) can be
read off. An atom is a bounded symbol (`Dim("batch", 1, 256)`), or a floor division, remainder or minimum that
did not simplify away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce as _fold
from typing import Union

INFINITY = 1 << 62


@dataclass(frozen=True)
class Symbol:
    """A named integer with inclusive bounds."""

    name: str
    low: int = 0
    high: int = INFINITY

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Quotient:
    """floor(expr / divisor), divisor > 0."""

    expr: Expr
    divisor: int

    def __str__(self) -> str:
        return f"({self.expr} // {self.divisor})"


@dataclass(frozen=True)
class Remainder:
    """expr mod divisor, in [0, divisor)."""

    expr: Expr
    divisor: int

    def __str__(self) -> str:
        return f"({self.expr} % {self.divisor})"


@dataclass(frozen=True)
class Minimum:
    """min(left, right)."""

    left: Expr
    right: Expr

    def __str__(self) -> str:
        return f"min({self.left}, {self.right})"


Atom = Union[Symbol, Quotient, Remainder, Minimum]
Monomial = tuple[Atom, ...]  # sorted by text; the empty product is the constant term
DimLike = Union[int, "Expr"]


class Expr:
    """A polynomial over atoms. Build it with the operators; a constant result is returned as an int."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self._hash == other._hash and self.terms == other.terms

    def __add__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Expr):
            return NotImplemented
        total = dict(self.terms)
        for monomial, coefficient in _terms(other):
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return self * -1

    def __sub__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Expr):
            return NotImplemented
        return self + other * -1

    def __rsub__(self, other: DimLike) -> DimLike:
        return -self + other

    def __mul__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Expr):
            return NotImplemented
        if isinstance(other, int):
            return Expr(tuple((m, c * other) for m, c in self.terms)) if other else 0
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                monomial = tuple(sorted(m1 + m2, key=str))
                total[monomial] = total.get(monomial, 0) + c1 * c2
        return _normal(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return floordiv(self, other)

    def __mod__(self, other: DimLike) -> DimLike:
        return mod(self, other)

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            product = "*".join(map(str, monomial))
            size = abs(coefficient)
            text = str(size) if not monomial else product if size == 1 else f"{size}*{product}"
            sign = "-" if coefficient < 0 else "+"
            parts.append(f"{sign}{text}" if parts else (f"-{text}" if coefficient < 0 else text))
        return "".join(parts)

    def __repr__(self) -> str:
        return str(self)

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of the symbolic dim {self} is not known; compare it with provably_equal")

    def __int__(self) -> int:
        raise TypeError(
            f"the dim {self} is symbolic and has no fixed value here; code that needs the number pins it"
        )


def Dim(name: str, low: int = 1, high: int = INFINITY) -> Expr:
    """A symbolic dim between `low` and `high`, both included; ValueError if that range is empty or negative."""
    if not name.isidentifier():
        raise ValueError(f"Dim name must be an identifier, got {name!r}")
    if not 0 <= low <= high:
        raise ValueError(f"Dim({name!r}, {low}, {high}): bounds must satisfy 0 <= low <= high")
    return symbol(name, low, high)


def symbol(name: str, low: int = 0, high: int = INFINITY) -> Expr:
    return Expr((((Symbol(name, low, high),), 1),))


def _terms(value: DimLike) -> Iterable[tuple[Monomial, int]]:
    if isinstance(value, Expr):
        return value.terms
    return (((), value),) if value else ()


def _normal(total: Mapping[Monomial, int]) -> DimLike:
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    # Longest products first, then by text; the constant comes last, as one writes it.
    kept.sort(key=lambda term: (-len(term[0]), [str(a) for a in term[0]]))
    return Expr(tuple(kept))


def _atom(atom: Atom) -> Expr:
    return Expr((((atom,), 1),))


def _as_expr(value: DimLike) -> Expr:
    return value if isinstance(value, Expr) else Expr((((), value),))


def product(values: Iterable[DimLike]) -> DimLike:
    return _fold(lambda a, b: a * b, values, 1)


def bounds(value: DimLike) -> tuple[int, int]:
    """Inclusive bounds of the value, from its symbols' bounds (interval arithmetic: sound, not always tight)."""
    if isinstance(value, int):
        return value, value
    low = high = 0
    for monomial, coefficient in value.terms:
        a, b = coefficient, coefficient
        for atom in monomial:
            x, y = _atom_bounds(atom)
            corners = (a * x, a * y, b * x, b * y)
            a, b = min(corners), max(corners)
        low, high = low + a, high + b
    return max(low, -INFINITY), min(high, INFINITY)


def _atom_bounds(atom: Atom) -> tuple[int, int]:
    if isinstance(atom, Symbol):
        return atom.low, atom.high
    if isinstance(atom, Quotient):
        low, high = bounds(atom.expr)
        return low // atom.divisor, high // atom.divisor
    if isinstance(atom, Remainder):
        low, high = bounds(atom.expr)
        return (0, min(high, atom.divisor - 1)) if low >= 0 else (0, atom.divisor - 1)
    (a, b), (c, d) = bounds(atom.left), bounds(atom.right)
    return min(a, c), min(b, d)


def floordiv(value: DimLike, divisor: DimLike) -> DimLike:
    """floor(value / divisor). A symbolic divisor must divide exactly; ValueError otherwise."""
    if isinstance(divisor, Expr):
        return exact_div(value, divisor)
    if divisor <= 0:
        raise ValueError(f"division of a dim by {divisor}: the divisor must be positive")
    if isinstance(value, int):
        return value // divisor
    if divisor == 1:
        return value
    whole = {m: c // divisor for m, c in value.terms if c % divisor == 0}
    rest = _normal({m: c for m, c in value.terms if c % divisor})
    # A constant in the rest splits too: (16*i + 18) // 16 is i + 1 + (2 // 16).
    if isinstance(rest, Expr):
        constant = dict(rest.terms).get((), 0)
        whole[()] = whole.get((), 0) + constant // divisor
        rest = rest - (constant - constant % divisor)
    else:
        whole[()] = whole.get((), 0) + rest // divisor
        return _normal(whole)
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return _normal(whole) + low // divisor
    if len(rest.terms) == 1 and rest.terms[0][1] == 1 and len(rest.terms[0][0]) == 1:
        inner = rest.terms[0][0][0]
        if isinstance(inner, Quotient):  # (x // a) // b == x // (a*b)
            return _normal(whole) + floordiv(inner.expr, inner.divisor * divisor)
    return _normal(whole) + _atom(Quotient(rest, divisor))


def mod(value: DimLike, divisor: DimLike) -> DimLike:
    """value mod divisor, non-negative for a positive divisor."""
    if isinstance(divisor, Expr):
        exact_div(value, divisor)
        return 0
    if divisor <= 0:
        raise ValueError(f"remainder of a dim by {divisor}: the divisor must be positive")
    if isinstance(value, int):
        return value % divisor
    rest = _normal({m: c % divisor for m, c in value.terms})
    if isinstance(rest, int):
        return rest % divisor
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return rest - (low // divisor) * divisor
    return _atom(Remainder(rest, divisor))


def minimum(a: DimLike, b: DimLike) -> DimLike:
    (a_low, a_high), (b_low, b_high) = bounds(a), bounds(b)
    if a == b or a_high <= b_low:
        return a
    if b_high <= a_low:
        return b
    return _atom(Minimum(_as_expr(a), _as_expr(b)))


def exact_div(value: DimLike, divisor: DimLike) -> DimLike:
    """value / divisor where that has no remainder for every value of the symbols; ValueError otherwise."""
    if isinstance(value, int) and isinstance(divisor, int):
        if divisor and value % divisor == 0:
            return value // divisor
    elif value == divisor:
        return 1
    elif isinstance(value, int):
        if value == 0:
            return 0
    else:
        lead_monomial, lead = _as_expr(divisor).terms[0]
        quotient: DimLike = 0
        rest: DimLike = value
        while isinstance(rest, Expr) or rest:
            monomial, coefficient = _as_expr(rest).terms[0]
            factor = _divide_monomial(monomial, lead_monomial)
            if factor is None or coefficient % lead:
                break
            step = _normal({factor: coefficient // lead})
            quotient = quotient + step
            rest = rest - step * divisor
        else:
            return quotient
    raise ValueError(f"{value} is not divisible by {divisor} for every value of its dims")


def _divide_monomial(monomial: Monomial, by: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in by:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def provably_equal(a: DimLike, b: DimLike) -> bool:
    return a == b


def symbols(value: DimLike) -> tuple[Symbol, ...]:
    """The symbols that occur in the value, each once, by name."""
    found: dict[str, Symbol] = {}

    def visit(expr: DimLike) -> None:
        for monomial, _ in _terms(expr):
            for atom in monomial:
                if isinstance(atom, Symbol):
                    found[atom.name] = atom
                elif isinstance(atom, Minimum):
                    visit(atom.left)
                    visit(atom.right)
                else:
                    visit(atom.expr)

    visit(value)
    return tuple(found[name] for name in sorted(found))


def substitute(value: DimLike, bindings: Mapping[str, DimLike]) -> DimLike:
    """The value with symbols replaced by name; names without a binding stay."""
    if isinstance(value, int):
        return value
    total: DimLike = 0
    for monomial, coefficient in value.terms:
        term: DimLike = coefficient
        for atom in monomial:
            term = term * _substitute_atom(atom, bindings)
        total = total + term
    return total


def _substitute_atom(atom: Atom, bindings: Mapping[str, DimLike]) -> DimLike:
    if isinstance(atom, Symbol):
        return bindings.get(atom.name, _atom(atom))
    if isinstance(atom, Quotient):
        return floordiv(substitute(atom.expr, bindings), atom.divisor)
    if isinstance(atom, Remainder):
        return mod(substitute(atom.expr, bindings), atom.divisor)
    return minimum(substitute(atom.left, bindings), substitute(atom.right, bindings))


def evaluate(value: DimLike, bindings: Mapping[str, int]) -> int:
    """The value as an int; KeyError names a symbol without a binding."""
    result = substitute(value, bindings)
    if isinstance(result, Expr):
        missing = ", ".join(s.name for s in symbols(result))
        raise KeyError(f"no value for {missing} in {value}")
    return result


def coefficient(value: DimLike, name: str) -> tuple[DimLike, DimLike] | None:
    """`(stride, rest)` with value == stride * name + rest, or None where the value is not linear in `name`."""
    stride: DimLike = 0
    rest: DimLike = 0
    for monomial, c in _terms(value):
        inside = [a for a in monomial if isinstance(a, Symbol) and a.name == name]
        others = tuple(a for a in monomial if not (isinstance(a, Symbol) and a.name == name))
        if any(s.name == name for a in others if not isinstance(a, Symbol) for s in symbols(_atom(a))):
            return None
        if len(inside) > 1:
            return None
        term = _normal({others: c})
        if inside:
            stride = stride + term
        else:
            rest = rest + term
    return stride, rest
