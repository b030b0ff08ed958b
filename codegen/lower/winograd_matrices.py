"""The matrices of Winograd's minimal filtering, and how to apply one with few operations.

F(m, 3) gives m neighbouring outputs of a three-tap filter from m + 2 inputs d by m + 2 multiplications:

    y = A^T [(G g) * (B^T d)]

The three evaluate and interpolate polynomials at m + 1 points and at infinity (Toom-Cook; Winograd, "Arithmetic
Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). Two
dimensions nest one in the other. The points decide the rounding error (Barabasz et al., "Error Analysis and Improving
the Accuracy of Winograd Convolution for Deep Neural Networks", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from ...ir.dtypes import DType
from ..loops.nodes import Const, Expr
from ..scalar import SCALAR

TAPS = 3
# For each m, 0 and pairs +-p. Error of the sum over 64 and 512 channels of normal numbers, as a multiple of that of
# adding the products in order: 0.6 and 0.6 for m = 2. For m = 4 the pairs +-1 +-2 give 3.8 and 3.6, +-1 +-1/2 the
# same, the points 1 -1 1/2 -2 2.5 and 2.3, these 1.9 and 1.7.
POINTS = {2: (Fraction(1),), 4: (Fraction(3, 4), Fraction(3, 2))}

Row = tuple[Fraction, ...]
Bind = Callable[[Expr], Expr]


@dataclass(frozen=True)
class Matrices:
    """Of F(m, 3): `input` is B^T, `weight` G, `output` A^T."""

    input: tuple[Row, ...]
    weight: tuple[Row, ...]
    output: tuple[Row, ...]


@cache
def matrices(m: int) -> Matrices:
    points = [Fraction(0)]
    for p in POINTS[m]:
        points += [p, -p]
    count = m + TAPS - 1
    inputs, weights = [], []
    for i, p in enumerate(points):
        others = points[:i] + points[i + 1 :]
        norm = Fraction(1)
        for q in others:
            norm *= p - q
        inputs.append(_polynomial(others, count))
        weights.append(tuple(p**k / norm for k in range(TAPS)))
    inputs.append(_polynomial(points, count))
    weights.append(_unit(TAPS - 1, TAPS))
    columns = [tuple(p**k for k in range(m)) for p in points] + [_unit(m - 1, m)]
    return Matrices(tuple(inputs), tuple(weights), tuple(zip(*columns, strict=True)))


def _polynomial(roots: Sequence[Fraction], count: int) -> Row:
    """The coefficients of the product of (x - root), lowest first."""
    found = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *found]
        found = [s - root * f for s, f in zip(shifted, [*found, Fraction(0)], strict=True)]
    return (*found, *[Fraction(0)] * (count - len(found)))


def _unit(place: int, count: int) -> Row:
    return tuple(Fraction(int(i == place)) for i in range(count))


def transformed(matrix: Sequence[Row], values: Sequence[Expr], bind: Bind, dtype: DType) -> list[Expr]:
    """`matrix @ values`, each result bound. Rows (of B^T and G) for p and -p differ in the sign of their odd columns,
    columns (of A^T) in that of their odd rows, so that a pair shares its two halves."""
    rows, columns = len(matrix), len(matrix[0])
    if rows < columns:
        return _by_columns(matrix, values, bind, dtype)
    found: list[Expr | None] = [None] * rows
    for i, row in enumerate(matrix):
        if found[i] is not None:
            continue
        mirrored = tuple(-f if k % 2 else f for k, f in enumerate(row))
        twin = next((j for j in range(i + 1, rows) if matrix[j] == mirrored), None)
        if twin is None:
            found[i] = bind(combined(row, values, dtype))
            continue
        even = bind(combined([f if k % 2 == 0 else Fraction(0) for k, f in enumerate(row)], values, dtype))
        odd_row = [f if k % 2 else Fraction(0) for k, f in enumerate(row)]
        scale = next(f for f in reversed(odd_row) if f)
        odd = bind(combined([f / scale for f in odd_row], values, dtype))
        found[i], found[twin] = (bind(_plus(even, s, odd, dtype)) for s in (scale, -scale))
    return [f for f in found if f is not None]


def _by_columns(matrix: Sequence[Row], values: Sequence[Expr], bind: Bind, dtype: DType) -> list[Expr]:
    columns = list(zip(*matrix, strict=True))
    rows: list[list[tuple[Fraction, Expr]]] = [[] for _ in matrix]
    done: set[int] = set()
    for j, column in enumerate(columns):
        if j in done:
            continue
        mirrored = tuple(-f if k % 2 else f for k, f in enumerate(column))
        twin = next((k for k in range(j + 1, len(columns)) if columns[k] == mirrored), None)
        if twin is None:
            halves = (values[j], values[j])
        else:
            done.add(twin)
            halves = (bind(SCALAR.add(values[j], values[twin])), bind(SCALAR.sub(values[j], values[twin])))
        for k, f in enumerate(column):
            if f:
                rows[k].append((f, halves[k % 2]))
    return [bind(combined([f for f, _ in row], [v for _, v in row], dtype)) for row in rows]


def combined(row: Sequence[Fraction], values: Sequence[Expr], dtype: DType) -> Expr:
    """The sum of products, beginning with a factor of 1 where there is one."""
    terms = [(f, v) for f, v in zip(row, values, strict=True) if f]
    terms.sort(key=lambda term: (term[0] != 1, abs(term[0]) != 1))
    (factor, value), *rest = terms
    total = (
        value
        if factor == 1
        else SCALAR.neg(value)
        if factor == -1
        else SCALAR.mul(value, _const(factor, dtype))
    )
    for factor, value in rest:
        total = _plus(total, factor, value, dtype)
    return total


def _plus(total: Expr, factor: Fraction, value: Expr, dtype: DType) -> Expr:
    if factor == 1:
        return SCALAR.add(total, value)
    if factor == -1:
        return SCALAR.sub(total, value)
    return SCALAR.fma(value, _const(factor, dtype), total)


def _const(value: Fraction, dtype: DType) -> Const:
    return Const(float(value), dtype)
