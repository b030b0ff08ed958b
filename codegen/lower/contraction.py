"""Contractions, matmul and convolutions alike: sums over some axes of products of two operands.

    result[index(p)] = epilogue(sum over r of left[index(p, r)] * right[index(p, r)])

with parallel axes p and reduction axes r, and operand indices linear in them. A transpose is another stride,
a convolution an index such as `y*2 + ky`; padding is copied into zero-bordered scratch first, so no access is
masked.

`gemm.py` and `conv.py` bring the ops to this form (reading operands through `contraction_operands.py`),
`tiling.py` chooses how to walk it, `contraction_pack.py` copies operands into layouts that the walk wants,
and `contraction_nest.py` writes the loops. `lower_contraction` in `contraction_lower.py` is the way in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, IRError, Node, Value
from ..loops.nodes import Buffer, Expr, Load
from .indexing import IndexTuple
from .spaces import linear
from .template import index_values, instantiate


@dataclass(frozen=True)
class Axis:
    """A dimension of the iteration space; `var` stands for the position along it in indices."""

    name: str
    extent: DimLike

    @property
    def var(self) -> DimLike:
        if self.extent == 1:
            return 0
        return dims.symbol(self.name, 0, max(0, dims.bounds(self.extent)[1] - 1))


@dataclass(frozen=True)
class Access:
    """An operand: the element of `buffer` that a point of the iteration space reads. The index is over axis
    names."""

    buffer: Buffer
    index: IndexTuple

    @property
    def position(self) -> DimLike:
        """The linear position in the buffer."""
        return self.buffer.offset(self.index)

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        return Load(self.buffer, tuple(dims.substitute(i, bindings) for i in self.index))

    def over(self, bindings: Mapping[str, DimLike]) -> Access:
        """The operand over other axes, which stand for these."""
        return replace(self, index=tuple(dims.substitute(i, bindings) for i in self.index))

    def stride(self, axis: str) -> DimLike:
        """Elements between neighbours along an axis; 0 where the operand does not depend on it."""
        found = dims.coefficient(self.position, axis)
        if found is None:
            raise IRError(f"{self.buffer.name}[{self.index}] is not linear in {axis}")
        return found[0]

    def depends_on(self, axis: str) -> bool:
        return any(s.name == axis for i in self.index for s in dims.symbols(i))


@dataclass(frozen=True)
class Reading:
    """An operand as an expression over axis names, which may hold tests on indices: nothing is copied for it."""

    value: Expr

    def at(self, bindings: Mapping[str, DimLike]) -> Expr:
        return instantiate(self.value, bindings)

    def depends_on(self, axis: str) -> bool:
        return any(s.name == axis for i in index_values([self.value]) for s in dims.symbols(i))


O = TypeVar("O")
O_co = TypeVar("O_co", covariant=True)


class Reader(Protocol[O_co]):
    """How a target reads a group's operands."""

    def read(self, value: Value, index: IndexTuple) -> O_co:
        """The operand at an index over the axes."""
        ...

    def bordered(
        self,
        value: Value,
        low: Sequence[int],
        step: Sequence[int],
        space: Sequence[DimLike],
        index: IndexTuple,
    ) -> O_co:
        """At an index of `[N, C, *space]`, which is zero but for the elements of `value` at `low + step * position`."""
        ...

    def step(self, value: Value) -> int:
        """How many elements along a sum it is better to add at a time, though some are zeros; 1 if that is no matter."""
        ...

    @property
    def has_phases(self) -> bool:
        """Whether rows are better read in `phased` copies than with a stride."""
        ...

    def phased(
        self, value: Value, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple
    ) -> O_co:
        """At an index of `[N, C, *space[:-1], phases, space[-1] / phases]`: the same with steps of 1, where each row is
        in so many parts of every so many positions."""
        ...


@dataclass(frozen=True)
class Window:
    """Positions of a reduction axis, `first` to `last`, outside of which the products are known to be zeros
    (one factor lies in a zero border). Both move with the parallel axis `along`: up with it, or down."""

    along: str
    first: DimLike
    last: DimLike
    up: bool

    def of(self, start: DimLike, size: int) -> tuple[DimLike, DimLike]:
        """First position and extent for `size` neighbours along the parallel axis."""
        ends = start, start + (size - 1)
        low, high = (
            dims.substitute(bound, {self.along: at})
            for bound, at in zip((self.first, self.last), ends if self.up else ends[::-1], strict=True)
        )
        return low, high - low + 1


@dataclass(frozen=True)
class Contraction(Generic[O]):
    """The sum of products of `left` and `right` over the `reduction` axes, for each point of the `parallel`
    axes.

    `result` is the index of the contraction's result, over parallel axes, in `shape`. `dtype` is the result's
    element type, `accumulator` that of the sum. `windows` narrows reduction axes to where products are not
    zero. `resident` numbers the operands that are the same in every turn of a loop around the kernel, which are packed
    once for all of them. `dot`: the operation that adds the products of two words to a sum, where operands are read in
    words (`contraction_words.py`). `added`: what is added to each sum, over parallel axes. `work`: its operations, where
    axes have positions besides, of zeros."""

    name: str
    parallel: tuple[Axis, ...]
    reduction: tuple[Axis, ...]
    left: O
    right: O
    result: IndexTuple
    shape: tuple[DimLike, ...]
    dtype: DType
    windows: Mapping[str, Window] = field(default_factory=dict)
    resident: frozenset[int] = frozenset()
    dot: str = ""
    added: Access | None = None
    work: DimLike | None = None

    @property
    def accumulator(self) -> DType:
        return dtypes.f32 if self.dtype in (dtypes.f16, dtypes.bf16) else self.dtype

    @property
    def position(self) -> DimLike:
        """The linear position of a point's sum in the result."""
        return linear(self.result, self.shape)

    @property
    def operands(self) -> tuple[O, O]:
        return self.left, self.right

    @property
    def axes(self) -> dict[str, Axis]:
        return {a.name: a for a in (*self.parallel, *self.reduction)}

    @property
    def flops(self) -> DimLike:
        return 2 * dims.product(a.extent for a in self.axes.values()) if self.work is None else self.work

    def with_operands(self, left: O, right: O) -> Contraction[O]:
        return replace(self, left=left, right=right)


def is_linear(value: DimLike) -> bool:
    """Whether the expression is a sum of symbols times factors that hold no quotient, remainder or minimum of
    loop variables. Dims may stand anywhere."""
    if isinstance(value, int):
        return True
    return all(isinstance(atom, dims.Symbol) for monomial, _ in value.terms for atom in monomial)


def contraction_node(body: Graph) -> Node:
    """The one contraction of a group's body; IRError for another count."""
    found = [n for n in body.nodes if n.op.lowering == "contraction"]
    if len(found) != 1:
        names = ", ".join(n.op.name for n in found) or "none"
        raise IRError(f"a contraction group holds one contraction, {body.name} holds {names}")
    return found[0]
