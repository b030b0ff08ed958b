"""At which index does one node of a group read another's value?

A group has a space: the shape its kernel walks. The *natural* index of a value of the group is where it
stands when the kernel is at a point of that space: the point itself for a value of the space's shape, the
row for a value that has been reduced. A value may be computed inside the group if everything in the group
reads it at its natural index: then it is in a register when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..ir import dims, dtypes
from ..ir.dims import DimLike
from ..ir.graph import Node, Value
from ..ir.op import op_named
from ..ir.types import TensorType

Index = tuple[DimLike, ...]
# Where a reshape among symbolic dims reads its operand: no index can say it.
UNKNOWN = dims.symbol(".unknown")


@dataclass(frozen=True)
class Space:
    """What a group's kernel walks: `shape`, and for a reduce group the dims that are reduced. `linear`:
    values of another shape with as many elements belong to it too."""

    shape: tuple[DimLike, ...]
    reduced: tuple[int, ...] | None = None
    linear: bool = False

    @cached_property
    def point(self) -> Index:
        return point_of(self.shape)

    @property
    def numel(self) -> DimLike:
        return dims.product(self.shape)

    @cached_property
    def row_shapes(self) -> tuple[tuple[DimLike, ...], ...]:
        """The shapes of a value that has been reduced, without and with the reduced dims as 1s."""
        if self.reduced is None:
            return ()
        kept = tuple(n for d, n in enumerate(self.shape) if d not in self.reduced)
        return kept, tuple(1 if d in self.reduced else n for d, n in enumerate(self.shape))

    def natural(self, value: Value) -> Index | None:
        """The value's natural index; None for a value that has no place in the space."""
        shape = value.type.shape
        if shape not in self._naturals:
            self._naturals[shape] = self._natural(shape)
        return self._naturals[shape]

    @cached_property
    def _naturals(self) -> dict[tuple[DimLike, ...], Index | None]:
        return {}

    def _natural(self, shape: tuple[DimLike, ...]) -> Index | None:
        if shape == self.shape:
            return normal(self.point, shape)
        if self.reduced is not None:
            if shape == self.row_shapes[0]:
                kept = tuple(i for d, i in enumerate(self.point) if d not in self.reduced)
                return normal(kept, shape)
            if shape == self.row_shapes[1]:
                return normal(self.point, shape)
        if self.linear and dims.product(shape) == self.numel:
            return reindexed(self.point, self.shape, shape)
        return None

    def holds(self, value: Value) -> bool:
        return self.natural(value) is not None


def normal(index: Index, shape: Sequence[DimLike]) -> Index:
    """The index with 0 wherever the dim leaves no choice."""
    return tuple(0 if size == 1 else i for i, size in zip(index, shape, strict=True))


def point_of(shape: Sequence[DimLike]) -> Index:
    """An index of symbols, one for each dim, 0 where the dim leaves no choice."""
    return tuple(
        0 if size == 1 else dims.symbol(f".{d}", 0, max(dims.bounds(size)[1] - 1, 0))
        for d, size in enumerate(shape)
    )


def reindexed(index: Index, shape: Sequence[DimLike], other: Sequence[DimLike]) -> Index | None:
    """The index into shape `other` of the element at `index` of `shape`, in row-major order; None where
    symbolic dims do not let that be said."""
    reshape = op_named("reshape")
    old, new = TensorType(tuple(other), dtypes.f32), TensorType(tuple(shape), dtypes.f32)
    assert reshape.index_map is not None
    try:
        ((_, where, _),) = reshape.index_map([old], new, index, shape=new.shape)
    except ValueError:
        return None
    return normal(where, other)


def needs_memory(node: Node) -> bool:
    """Whether a view can only read an operand that lies in memory, in row-major order: a reshape among
    symbolic dims whose index map cannot be written down."""
    if node.op.name != "reshape":
        return False
    shape = node.outputs[0].type.shape
    return reindexed(point_of(shape), shape, node.inputs[0].type.shape) is None


def reads(node: Node, index: Index, enter: Callable[[Value], Node | None]) -> Iterator[tuple[Value, Index]]:
    """The values that element `index` of a node's result is computed from, and at which index each.

    `enter` gives the producer of a value that is computed on the spot, through which the walk goes on; None
    for a value to stop at. Each (value, index) pair comes once.
    """
    seen: set[tuple[Value, Index]] = set()
    stack = list(_operands(node, index))
    while stack:
        value, where = stack.pop()
        where = normal(where, value.type.shape)
        if (value, where) in seen:
            continue
        seen.add((value, where))
        inner = enter(value)
        if inner is None:
            yield value, where
        else:
            stack.extend(_operands(inner, where))


def _operands(node: Node, index: Index) -> Iterator[tuple[Value, Index]]:
    """One step: operands of a node and where element `index` of its result reads them."""
    match node.op.lowering:
        case "pointwise":
            for value in node.inputs:
                tail = index[len(index) - value.type.rank :]
                yield value, tuple(0 if n == 1 else i for i, n in zip(tail, value.type.shape))
        case "view":
            assert node.op.index_map is not None
            if dims.product(node.outputs[0].type.shape) == 0:
                return
            types = [v.type for v in node.inputs]
            try:
                cases = node.op.index_map(types, node.outputs[0].type, index, **node.attrs)
            except ValueError:
                yield node.inputs[0], (UNKNOWN,) * types[0].rank
                return
            for case in cases:
                if isinstance(case, tuple):
                    operand, where, _ = case
                    yield node.inputs[operand], where
        case "constant":
            return
        case other:
            raise ValueError(f"{node}: a node with lowering {other!r} is not read element by element")
