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

from ..ir import dims
from ..ir.dims import DimLike
from ..ir.graph import Node, Value

Index = tuple[DimLike, ...]


@dataclass(frozen=True)
class Space:
    """What a group's kernel walks: `shape`, and for a reduce group the dims that are reduced. `linear`:
    values of another shape with as many elements belong to it too."""

    shape: tuple[DimLike, ...]
    reduced: tuple[int, ...] | None = None
    linear: bool = False

    @cached_property
    def point(self) -> Index:
        return tuple(
            dims.symbol(f".{d}", 0, max(dims.bounds(size)[1] - 1, 0)) for d, size in enumerate(self.shape)
        )

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
        if shape == self.shape:
            return normal(self.point, shape)
        if self.reduced is not None:
            if shape == self.row_shapes[0]:
                kept = tuple(i for d, i in enumerate(self.point) if d not in self.reduced)
                return normal(kept, shape)
            if shape == self.row_shapes[1]:
                return normal(self.point, shape)
        if self.linear and dims.product(shape) == self.numel:
            return normal(reindexed(self.point, self.shape, shape), shape)
        return None

    def holds(self, value: Value) -> bool:
        return self.natural(value) is not None


def normal(index: Index, shape: Sequence[DimLike]) -> Index:
    """The index with 0 wherever the dim leaves no choice."""
    return tuple(0 if size == 1 else i for i, size in zip(index, shape, strict=True))


def reindexed(index: Index, shape: Sequence[DimLike], other: Sequence[DimLike]) -> Index:
    """The index into shape `other` of the element at `index` of `shape`, in row-major order."""
    position: DimLike = 0
    for size, i in zip(shape, index, strict=True):
        position = position * size + i
    if not other:
        return ()
    result: list[DimLike] = []
    for size in reversed(other[1:]):
        result.append(dims.mod(position, size) if size != 1 else 0)
        position = dims.floordiv(position, size)
    return (position, *reversed(result))


def reads(
    node: Node, index: Index, enter: Callable[[Value], Node | None]
) -> Iterator[tuple[Value, Index]]:
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
            cases = node.op.index_map(
                [v.type for v in node.inputs], node.outputs[0].type, index, **node.attrs
            )
            for case in cases if isinstance(cases, list) else [cases]:
                if isinstance(case, tuple):
                    operand, where, _ = case
                    yield node.inputs[operand], where
        case "constant":
            return
        case other:
            raise ValueError(f"{node}: a node with lowering {other!r} is not read element by element")
