"""Index expressions as instructions.

An index is a polynomial (`ir/dims.py`). Under the loops that are open it falls apart into a constant, terms that are
the same in every lane, a stride of the vector loop's variable, and, rarely, terms that vary from lane to lane in some
other way (quotients, remainders, indices read from memory).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from ...ir import dims, dtypes
from ...ir.dims import DimLike, Quotient, Remainder, Symbol
from ...ir.dtypes import DType
from .scalar_ops import ScalarOps
from .text import Value, Writer, const, splat, vector_const

# Half the range: what is left of an index when its uniform part is taken out must fit as well.
_I32_MAX = (1 << 30) - 1


@dataclass(slots=True)
class VectorLoop:
    """The vector loop being emitted. `mask` is None where every lane is known to be inside the extent."""

    var: str
    lanes: int
    mask: Value | None


@dataclass(slots=True)
class Position:
    """constant + the uniform terms + stride * lane + the varying terms; a term is a factor and what it multiplies."""

    constant: int = 0
    uniform: list[tuple[int, tuple[Value, ...]]] = field(default_factory=list)
    stride: int = 0
    uniform_strides: list[tuple[int, tuple[Value, ...]]] = field(default_factory=list)
    varying: list[tuple[int, tuple[Value, ...]]] = field(default_factory=list)

    @property
    def is_uniform(self) -> bool:
        return not (self.stride or self.uniform_strides or self.varying)

    @property
    def fixed_stride(self) -> int | None:
        """The stride per lane if that is a known number."""
        return None if self.uniform_strides or self.varying else self.stride


@lru_cache(maxsize=16384)
def _terms(expr: dims.Expr) -> tuple[tuple[int, tuple[str, ...], tuple[dims.Atom, ...]], ...]:
    """The terms as factor, names of plain symbols, other atoms."""
    return tuple(
        (
            factor,
            tuple(a.name for a in monomial if isinstance(a, Symbol)),
            tuple(a for a in monomial if not isinstance(a, Symbol)),
        )
        for monomial, factor in expr.terms
    )


@lru_cache(maxsize=4096)
def fits_i32(value: DimLike) -> bool:
    low, high = dims.bounds(value)
    return low >= -_I32_MAX and high <= _I32_MAX


class IndexEmitter:
    """Evaluates index expressions where the writer stands. `env` binds loop variables, dims and i64 lets."""

    def __init__(self, writer: Writer, ops: ScalarOps):
        self.w = writer
        self.ops = ops
        self.env: dict[str, int | Value] = {}
        self.vector: VectorLoop | None = None
        # Whether quotients of 32 bits are cheaper than of 64; a CPU does not mind.
        self.narrow_quotients = False

    def decompose(self, expr: DimLike) -> Position:
        position = Position()
        if isinstance(expr, int):
            position.constant = expr
            return position
        env = self.env
        lane = self.vector.var if self.vector else None
        for factor, names, others in _terms(expr):
            uniform: list[Value] = []
            varying: list[Value] = []
            lanes = 0
            for name in names:
                if name == lane:
                    lanes += 1
                    continue
                bound = env.get(name)
                if bound is None:
                    raise KeyError(f"index {expr}: {name!r} is not bound here")
                if isinstance(bound, int):
                    factor *= bound
                elif bound.lanes:
                    varying.append(bound)
                else:
                    uniform.append(bound)
            for atom in others:
                bound = self._atom(atom)
                if isinstance(bound, int):
                    factor *= bound
                elif bound.lanes:
                    varying.append(bound)
                else:
                    uniform.append(bound)
            if factor == 0:
                continue
            if varying or lanes > 1:
                assert self.vector is not None or not lanes
                position.varying.append((factor, (*uniform, *varying, *(self._lane() for _ in range(lanes)))))
            elif lanes:
                if uniform:
                    position.uniform_strides.append((factor, tuple(uniform)))
                else:
                    position.stride += factor
            elif uniform:
                position.uniform.append((factor, tuple(uniform)))
            else:
                position.constant += factor
        return position

    def value(self, expr: DimLike) -> Value:
        """The index as a number: a scalar i64, or a vector of i32 where its bounds fit, else of i64."""
        position = self.decompose(expr)
        if position.is_uniform:
            return self.uniform(position)
        return self.vector_offset(position, dtypes.i32 if fits_i32(expr) else dtypes.i64)

    def i64(self, expr: DimLike) -> Value:
        """The index as an i64 scalar or vector."""
        return self.ops.convert(self.value(expr), dtypes.i64)

    def uniform(self, position: Position) -> Value:
        """The part that is the same in every lane, summed from the outermost loop inwards so that it hoists."""
        total: Value | None = None
        for term in self.by_level(position.uniform):
            total = term if total is None else self._binary("add", total, term)
        if total is None:
            return const(position.constant, dtypes.i64)
        if position.constant:
            total = self._binary("add", total, const(position.constant, dtypes.i64))
        return total

    def by_level(self, terms: list[tuple[int, tuple[Value, ...]]]) -> list[Value]:
        """The sum of the terms of each scope level, outermost first."""
        levels: dict[int, Value] = {}
        for factor, values in terms:
            term = self._product(factor, values)
            known = levels.get(term.level)
            levels[term.level] = term if known is None else self._binary("add", known, term)
        return [levels[level] for level in sorted(levels)]

    def vector_offset(self, position: Position, dtype: DType) -> Value:
        """All of the position as a vector of `dtype`."""
        assert self.vector is not None
        lanes = self.vector.lanes
        base = Position(position.constant, position.uniform)
        total = splat(self.w, self.ops.convert(self.uniform(base), dtype), lanes)
        parts: list[Value] = []
        if position.stride:
            parts.append(vector_const([position.stride * i for i in range(lanes)], dtype))
        for factor, values in position.uniform_strides:
            scalar = self.ops.convert(self._product(factor, values), dtype)
            parts.append(self._binary("mul", splat(self.w, scalar, lanes), self._iota(dtype)))
        for factor, values in position.varying:
            product: Value | None = const(factor, dtype, lanes) if factor != 1 else None
            for v in values:
                v = splat(self.w, self.ops.convert(v, dtype), lanes)
                product = v if product is None else self._binary("mul", product, v)
            assert product is not None
            parts.append(product)
        for part in parts:
            total = part if total.text.endswith(" 0)") else self._binary("add", total, part)
        return total

    def _product(self, factor: int, values: tuple[Value, ...]) -> Value:
        result: Value | None = None
        for v in sorted(values, key=lambda v: v.level):
            result = v if result is None else self._binary("mul", result, v)
        if result is None:
            return const(factor, dtypes.i64)
        return result if factor == 1 else self._binary("mul", result, const(factor, dtypes.i64))

    def _binary(self, name: str, a: Value, b: Value) -> Value:
        return self.w.pure(
            f"{name} {a.type} {a.text}, {b.text}", max(a.level, b.level), a.dtype, a.lanes, cheap=True
        )

    def _lane(self) -> Value:
        return self._iota(dtypes.i64)

    def _iota(self, dtype: DType) -> Value:
        assert self.vector is not None
        return vector_const(list(range(self.vector.lanes)), dtype)

    def _atom(self, atom: dims.Atom) -> int | Value:
        """A quotient, remainder or minimum, with the unrolled loops' variables put in."""
        numbers = {name: v for name, v in self.env.items() if isinstance(v, int)}
        expr = dims.substitute(dims.Expr((((atom,), 1),)), numbers)
        if isinstance(expr, int):
            return expr
        if len(expr.terms) != 1 or len(expr.terms[0][0]) != 1 or isinstance(expr.terms[0][0][0], Symbol):
            return self.value(expr)
        (((atom,), factor),) = expr.terms
        if factor != 1:
            return self.value(expr)
        if isinstance(atom, Quotient):
            return self._divide("div", atom.expr, atom.divisor)
        if isinstance(atom, Remainder):
            return self._divide("rem", atom.expr, atom.divisor)
        assert not isinstance(atom, Symbol)
        a, b = self.value(atom.left), self.value(atom.right)
        if a.lanes or b.lanes:
            a, b = self.ops.convert(a, dtypes.i64), self.ops.convert(b, dtypes.i64)
        return self.ops.apply("min", [a, b], a.dtype)

    def _divide(self, name: str, expr: dims.Expr, divisor: int) -> Value:
        x = self.value(expr)
        if self.narrow_quotients and not x.lanes and dims.bounds(expr)[0] >= 0 and fits_i32(expr):
            narrow = self.ops.convert(x, dtypes.i32)
            return self.ops.convert(self._binary(f"u{name}", narrow, const(divisor, dtypes.i32)), dtypes.i64)
        by = const(divisor, x.dtype, x.lanes)
        if dims.bounds(expr)[0] >= 0:
            return self._binary(f"u{name}", x, by)
        if divisor & (divisor - 1) == 0:
            if name == "rem":
                return self._binary("and", x, const(divisor - 1, x.dtype, x.lanes))
            return self._binary("ashr", x, const(divisor.bit_length() - 1, x.dtype, x.lanes))
        return self.ops.apply("floordiv" if name == "div" else "mod", [x, by], x.dtype)
