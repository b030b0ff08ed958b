"""Integer expressions over named symbols: tensor dims that are not known yet, and loop indices.

A dim is a Python int or an `Expr`. An `Expr` is a polynomial with integer coefficients over atoms, kept in
one normal form, so that equal expressions compare equal and the coefficient of a loop variable (its stride)
can be read off. An atom is a bounded symbol (`Dim("batch", 1, 256)`), or a floor division, remainder or
minimum that did not simplify away.

Divisions are split first, `x = whole * divisor + rest`, and a common factor of rest and divisor is taken out,
so (18*i + 6*j) // 12 is i + (i + j) // 2. A quotient and the remainder that belongs to it find each other
again: d * (x // d) + x % d is x. That is how the linear offset of a reshaped index comes out as the offset it
was.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Union

INFINITY = 1 << 62


class _Atom:
    """What a product multiplies. Immutable; the hash and the text are worked out once, since every sum looks
    its products up and sorts them."""

    __slots__ = ("_hash", "_parts", "text")

    def _freeze(self, text: str, *parts: Any) -> None:
        self.text = text
        self._parts = parts
        self._hash = hash((type(self).__name__, parts))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, _Atom) and type(self) is type(other) and self._parts == other._parts

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._parts))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts


class Symbol(_Atom):
    """A named integer with inclusive bounds."""

    __slots__ = ("high", "low", "name")

    def __init__(self, name: str, low: int = 0, high: int = INFINITY):
        self.name, self.low, self.high = name, low, high
        self._freeze(name, name, low, high)


class _Division(_Atom):
    __slots__ = ("divisor", "expr")
    sign = ""

    def __init__(self, expr: Expr, divisor: int):
        self.expr, self.divisor = expr, divisor
        inner = str(expr)
        if len(expr.terms) > 1 or inner.startswith("-"):
            inner = f"({inner})"
        self._freeze(f"({inner} {self.sign} {divisor})", expr, divisor)


class Quotient(_Division):
    """floor(expr / divisor), divisor > 0."""

    __slots__ = ()
    sign = "//"


class Remainder(_Division):
    """expr mod divisor, in [0, divisor)."""

    __slots__ = ()
    sign = "%"


class Minimum(_Atom):
    """min(left, right)."""

    __slots__ = ("left", "right")

    def __init__(self, left: Expr, right: Expr):
        self.left, self.right = left, right
        self._freeze(f"min({left}, {right})", left, right)


Atom = Symbol | Quotient | Remainder | Minimum
Monomial = tuple[Atom, ...]  # sorted by text; the empty product is the constant term
DimLike = Union[int, "Expr"]


class Expr:
    """A polynomial over atoms. Build it with the operators; a constant result is returned as an int."""

    __slots__ = ("_bounds", "_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)
        self._bounds: tuple[int, int] | None = None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        """The same polynomial. Only about a dim that a run tells may user code ask more (`set_oracle`)."""
        if isinstance(other, Expr) and self._hash == other._hash and self.terms == other.terms:
            return True
        if _oracle is not None and isinstance(other, int | Expr):
            return _oracle.compare("eq", self, other) or False
        return False

    def __lt__(self, other: DimLike) -> bool:
        return _compared("lt", self, other)

    def __le__(self, other: DimLike) -> bool:
        return _compared("le", self, other)

    def __gt__(self, other: DimLike) -> bool:
        return _compared("gt", self, other)

    def __ge__(self, other: DimLike) -> bool:
        return _compared("ge", self, other)

    def __reduce__(self) -> tuple[Any, ...]:
        return Expr, (self.terms,)  # a hash of text differs from one process to the next

    def __add__(self, other: DimLike) -> DimLike:
        if isinstance(other, int):
            return self._plus(other)
        if not isinstance(other, Expr):
            return NotImplemented
        total = dict(self.terms)
        for monomial, coefficient in other.terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        return _normal(total)

    __radd__ = __add__

    def _plus(self, number: int) -> DimLike:
        if not number:
            return self
        monomial, constant = self.terms[-1]  # the constant term comes last
        if monomial:
            return Expr((*self.terms, ((), number)))
        rest = self.terms[:-1]
        if not rest:
            return constant + number
        return Expr((*rest, ((), constant + number))) if constant + number else Expr(rest)

    def __neg__(self) -> DimLike:
        return self * -1

    def __sub__(self, other: DimLike) -> DimLike:
        if not isinstance(other, int | Expr):
            return NotImplemented
        return self + other * -1

    def __rsub__(self, other: DimLike) -> DimLike:
        return -self + other

    def __mul__(self, other: DimLike) -> DimLike:
        if isinstance(other, int):
            if other == 1:
                return self
            return Expr(tuple((m, c * other) for m, c in self.terms)) if other else 0
        if not isinstance(other, Expr):
            return NotImplemented
        total: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                monomial = _times(m1, m2)
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
            product = "*".join(map(_text, monomial))
            size = abs(coefficient)
            text = str(size) if not monomial else product if size == 1 else f"{size}*{product}"
            sign = "-" if coefficient < 0 else "+"
            parts.append(f"{sign}{text}" if parts else (f"-{text}" if coefficient < 0 else text))
        return "".join(parts)

    def __repr__(self) -> str:
        return str(self)

    def __bool__(self) -> bool:
        low, high = bounds(self)
        if low > 0 or high < 0:
            return True
        zero = None if _oracle is None else _oracle.compare("eq", self, 0)
        if zero is not None:
            return not zero
        raise TypeError(f"the truth of the symbolic dim {self} is not known; compare it with provably_equal")

    def __int__(self) -> int:
        found = None if _oracle is None else _oracle.value(self)
        if found is not None:
            return found
        raise TypeError(
            f"the dim {self} is symbolic and has no fixed value here; code that needs the number pins it"
        )

    __index__ = __int__

    def __float__(self) -> float:
        return float(int(self))

    def __truediv__(self, other: float) -> float:
        return int(self) / other

    def __rtruediv__(self, other: float) -> float:
        return other / int(self)


class Oracle(Protocol):
    """Who can say more about a dim than its bounds: None where it cannot."""

    def compare(self, how: str, a: Expr, b: DimLike) -> bool | None: ...

    def at_most(self, a: DimLike, b: DimLike) -> bool | None: ...

    def value(self, a: Expr) -> int | None: ...


_oracle: Oracle | None = None


def set_oracle(oracle: Oracle) -> None:
    """Whom to ask about dims that a run tells."""
    global _oracle
    _oracle = oracle


def _compared(how: str, a: Expr, b: DimLike) -> bool:
    """`answer`; TypeError where nobody knows."""
    if not isinstance(b, int | Expr):
        return NotImplemented
    found = answer(how, a, b)
    if found is None:
        raise TypeError(f"whether {a} is {how} {b} is not known: the dim is symbolic")
    return found


def answer(how: str, a: DimLike, b: DimLike) -> bool | None:
    """Whether a < b (lt, le, gt, ge), from the bounds or by asking the oracle; None where nobody knows."""
    if type(a) is int and type(b) is int:
        return bool(getattr(operator, how)(a, b))
    low, high = bounds(a - b)
    always, never = {
        "lt": (high < 0, low >= 0),
        "le": (high <= 0, low > 0),
        "gt": (low > 0, high <= 0),
        "ge": (low >= 0, high < 0),
    }[how]
    if always or never:
        return always
    return None if _oracle is None or not isinstance(a, Expr) else _oracle.compare(how, a, b)


def Dim(name: str, low: int = 1, high: int = INFINITY) -> Expr:
    """A symbolic dim between `low` and `high`, both included; ValueError if that range is empty or
    negative."""
    if not name.isidentifier():
        raise ValueError(f"Dim name must be an identifier, got {name!r}")
    if type(low) is not int or type(high) is not int:
        raise TypeError(
            f"Dim({name!r}, {low!r}, {high!r}): bounds must be ints; leave the upper one out for none"
        )
    if not 0 <= low <= high:
        raise ValueError(f"Dim({name!r}, {low}, {high}): bounds must satisfy 0 <= low <= high")
    return symbol(name, low, high)


def symbol(name: str, low: int = 0, high: int = INFINITY) -> Expr:
    return _atom(Symbol(name, low, high))


def _text(atom: Atom) -> str:
    return atom.text


def _terms(value: DimLike) -> Iterable[tuple[Monomial, int]]:
    if isinstance(value, Expr):
        return value.terms
    return (((), value),) if value else ()


def _order(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    """Longest products first, then by text; the constant comes last, as one writes it."""
    return -len(term[0]), [atom.text for atom in term[0]]


def _normal(total: dict[Monomial, int]) -> DimLike:
    """The sum of the products, as an int where that is what it is. Takes `total` for its own."""
    if any(type(atom) is Remainder for monomial in total for atom in monomial):
        _recombine(total)
    kept = [(m, c) for m, c in total.items() if c]
    if not kept:
        return 0
    if len(kept) == 1:
        return Expr(tuple(kept)) if kept[0][0] else kept[0][1]
    kept.sort(key=_order)
    return Expr(tuple(kept))


def _recombine(total: dict[Monomial, int]) -> None:
    """Write d * (x // d) + x % d, both times the same factors, as x, until no such pair is left."""
    found = True
    while found:
        remainders = [m for m, c in total.items() if c and any(type(atom) is Remainder for atom in m)]
        found = any(_recombine_one(total, monomial) for monomial in remainders)


def _recombine_one(total: dict[Monomial, int], monomial: Monomial) -> bool:
    for position, part in enumerate(monomial):
        if type(part) is not Remainder:
            continue
        quotient = floordiv(part.expr, part.divisor)
        if not isinstance(quotient, Expr) or len(quotient.terms) != 1:
            continue
        ((factors, one),) = quotient.terms
        others = monomial[:position] + monomial[position + 1 :]
        partner = _times(others, factors)
        if one != 1 or total.get(partner) != total[monomial] * part.divisor:
            continue
        c = total.pop(monomial)
        del total[partner]
        for inner, factor in part.expr.terms:
            product = _times(others, inner)
            total[product] = total.get(product, 0) + c * factor
        return True
    return False


def _times(a: Monomial, b: Monomial) -> Monomial:
    return tuple(sorted(a + b, key=_text)) if a and b else a or b


def _atom(atom: Atom) -> Expr:
    return Expr((((atom,), 1),))


def _as_expr(value: DimLike) -> Expr:
    return value if isinstance(value, Expr) else Expr((((), value),))


def product(values: Iterable[DimLike]) -> DimLike:
    result: DimLike = 1
    for value in values:
        result = result * value
    return result


def bounds(value: DimLike) -> tuple[int, int]:
    """Inclusive bounds of the value, from its symbols' bounds (interval arithmetic: sound, not always
    tight)."""
    if isinstance(value, int):
        return value, value
    if value._bounds is None:
        low = high = 0
        for monomial, coefficient in value.terms:
            a, b = coefficient, coefficient
            for atom in monomial:
                x, y = _atom_bounds(atom)
                corners = (a * x, a * y, b * x, b * y)
                a, b = min(corners), max(corners)
            low, high = low + a, high + b
        value._bounds = max(low, -INFINITY), min(high, INFINITY)
    return value._bounds


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


def _split(value: Expr, divisor: int) -> tuple[DimLike, DimLike, int, DimLike]:
    """`(whole, rest, common, below)`: value == whole * divisor + rest * common + below, where `common`
    divides the divisor and 0 <= below < common. Coefficients go to the whole as far as they exceed the
    divisor, toward zero, so that -i stays -i; the constant leaves a number that is not negative. Below stand a
    constant and terms that stay small: 64*i + j divided by 512 is i divided by 8, for j < 64."""
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    constant = 0
    for monomial, coefficient in value.terms:
        if not monomial:
            whole[monomial], constant = divmod(coefficient, divisor)
            continue
        times = coefficient // divisor if coefficient > 0 else -(-coefficient // divisor)
        if times:
            whole[monomial] = times
        if coefficient != times * divisor:
            rest[monomial] = coefficient - times * divisor
    common = math.gcd(divisor, *rest.values())
    small: dict[Monomial, int] = {}
    for step in sorted({math.gcd(divisor, c) for c in rest.values()}, reverse=True):
        if step <= common:
            break
        small = {m: c for m, c in rest.items() if c % step}
        low, high = bounds(_normal(dict(small)))
        if low >= 0 and high + constant % step < step:
            common = step
            break
        small = {}
    rest = {m: c // common for m, c in rest.items() if m not in small}
    if constant // common:
        rest[()] = constant // common
    if constant % common:
        small[()] = constant % common
    return _normal(whole), _normal(rest), common, _normal(small)


def _only_atom(value: DimLike) -> Atom | None:
    """The atom that the value is, if it is nothing more."""
    if isinstance(value, Expr) and len(value.terms) == 1:
        ((monomial, factor),) = value.terms
        if factor == 1 and len(monomial) == 1:
            return monomial[0]
    return None


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
    whole, rest, common, _ = _split(value, divisor)
    divisor //= common
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return whole + low // divisor
    inner = _only_atom(rest)
    if type(inner) is Quotient:  # (x // a) // b is x // (a*b)
        return whole + floordiv(inner.expr, inner.divisor * divisor)
    if type(inner) is Remainder and inner.divisor % divisor == 0:  # (x % (a*b)) // a is (x // a) % b
        return whole + mod(floordiv(inner.expr, divisor), inner.divisor // divisor)
    return whole + _atom(Quotient(_as_expr(rest), divisor))


def mod(value: DimLike, divisor: DimLike) -> DimLike:
    """value mod divisor, non-negative for a positive divisor."""
    if isinstance(divisor, Expr):
        exact_div(value, divisor)
        return 0
    if divisor <= 0:
        raise ValueError(f"remainder of a dim by {divisor}: the divisor must be positive")
    if isinstance(value, int):
        return value % divisor
    _, rest, common, below = _split(value, divisor)
    divisor //= common
    low, high = bounds(rest)
    if low // divisor == high // divisor:
        return (rest - (low // divisor) * divisor) * common + below
    inner = _only_atom(rest)
    if type(inner) is Remainder and inner.divisor % divisor == 0:  # (x % (a*b)) % a is x % a
        return mod(inner.expr, divisor) * common + below
    return _atom(Remainder(_as_expr(rest), divisor)) * common + below


def minimum(a: DimLike, b: DimLike) -> DimLike:
    (a_low, a_high), (b_low, b_high) = bounds(a), bounds(b)
    if a == b or a_high <= b_low:
        return a
    if b_high <= a_low:
        return b
    difference = bounds(a - b)
    if difference[1] <= 0:
        return a
    if difference[0] >= 0:
        return b
    known = None if _oracle is None else _oracle.at_most(a, b)
    if known is not None:
        return a if known else b
    left, right = sorted(
        (_as_expr(a), _as_expr(b)), key=lambda e: (not e.terms[0][0], str(e))
    )  # a number last
    return _atom(Minimum(left, right))


def exact_div(value: DimLike, divisor: DimLike) -> DimLike:
    """value / divisor where that has no remainder for every value of the symbols; ValueError otherwise."""
    if value == divisor and not (isinstance(divisor, int) and divisor == 0):
        return 1
    if isinstance(value, int) and isinstance(divisor, int):
        if divisor and value % divisor == 0:
            return value // divisor
    elif isinstance(value, int):
        if value == 0:
            return 0
    elif isinstance(divisor, Expr) or divisor:
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
        bound = bindings.get(atom.name)
        return _atom(atom) if bound is None else bound
    if isinstance(atom, Quotient):
        return floordiv(substitute(atom.expr, bindings), atom.divisor)
    if isinstance(atom, Remainder):
        return mod(substitute(atom.expr, bindings), atom.divisor)
    return minimum(substitute(atom.left, bindings), substitute(atom.right, bindings))


def evaluate(value: DimLike, bindings: Mapping[str, int]) -> int:
    """The value as an int; KeyError names a symbol without a binding."""
    if isinstance(value, int):
        return value
    try:
        return _evaluate(value, bindings)
    except KeyError:
        missing = ", ".join(s.name for s in symbols(value) if s.name not in bindings)
        raise KeyError(f"no value for {missing} in {value}") from None


def _evaluate(value: Expr, bindings: Mapping[str, int]) -> int:
    total = 0
    for monomial, term in value.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                term *= bindings[atom.name]
            elif isinstance(atom, Quotient):
                term *= _evaluate(atom.expr, bindings) // atom.divisor
            elif isinstance(atom, Remainder):
                term *= _evaluate(atom.expr, bindings) % atom.divisor
            else:
                term *= min(_evaluate(atom.left, bindings), _evaluate(atom.right, bindings))
        total += term
    return total


def coefficient(value: DimLike, name: str) -> tuple[DimLike, DimLike] | None:
    """`(stride, rest)` with value == stride * name + rest, or None where the value is not linear in
    `name`."""
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


def of_one_symbol(value: DimLike) -> tuple[Symbol, int, int] | None:
    """(symbol, factor, plus) of a dim like batch, 2*batch or 2*batch + 1; None for another form."""
    if not isinstance(value, Expr):
        return None
    terms = dict(value.terms)
    plus = terms.pop((), 0)
    if len(terms) != 1:
        return None
    ((monomial, factor),) = terms.items()
    if len(monomial) != 1 or not isinstance(monomial[0], Symbol):
        return None
    return monomial[0], factor, plus


def solved(value: DimLike, size: int) -> tuple[Symbol, int] | None:
    """Of a dim that tells what its only symbol is: that symbol, and its value where the dim has this size, rounded down
    (whoever evaluates the dim again finds out that it does not fit)."""
    found = of_one_symbol(value)
    return None if found is None else (found[0], (size - found[2]) // found[1])


def to_data(value: DimLike) -> Any:
    """The value as nested lists of strings and ints, for JSON; `from_data` reads it back."""
    if isinstance(value, int):
        return value
    return [[[_atom_data(atom) for atom in monomial], factor] for monomial, factor in value.terms]


def from_data(data: Any) -> DimLike:
    """What `to_data` wrote; ValueError for anything else."""
    if isinstance(data, int):
        return data
    try:
        total: DimLike = 0
        for monomial, factor in data:
            total = total + product(_atom_from_data(atom) for atom in monomial) * int(factor)
        return total
    except (TypeError, IndexError) as error:
        raise ValueError(f"not a stored dim: {data!r}") from error


def _atom_data(atom: Atom) -> list[Any]:
    if isinstance(atom, Symbol):
        return ["symbol", atom.name, atom.low, atom.high]
    if isinstance(atom, Minimum):
        return ["min", to_data(atom.left), to_data(atom.right)]
    kind = "div" if isinstance(atom, Quotient) else "mod"
    return [kind, to_data(atom.expr), atom.divisor]


def _atom_from_data(data: Any) -> DimLike:
    kind, *rest = data
    if kind == "symbol":
        return symbol(str(rest[0]), int(rest[1]), int(rest[2]))
    if kind == "min":
        return minimum(from_data(rest[0]), from_data(rest[1]))
    if kind in ("div", "mod"):
        return (floordiv if kind == "div" else mod)(from_data(rest[0]), int(rest[1]))
    raise ValueError(f"not a stored dim atom: {kind!r}")
