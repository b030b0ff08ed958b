"""Iteration spaces: where the elements of a group's outputs are stored, and how a space is cut so that the
guards of padding and concatenation are decided in each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import add
from typing import NamedTuple

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ...ir.op import op_named
from ...ir.types import TensorType
from .context import Args, LowerContext, Names
from .indexing import BodyEvaluator, Guard, Held, IndexTuple, at_least
from .template import Axis, Element, make_axes

# The elements at an index over axes of these extents, and the guards that stay undecided.
Make = Callable[[IndexTuple, Mapping[str, DimLike]], tuple[list[Element], Sequence[Guard]]]
# What a lowering holds itself, given the evaluator that reads everything else.
Hold = Callable[[BodyEvaluator], Mapping[Value, Held]]
Part = tuple[list[Axis], list[Element]]


def output_parts(
    ctx: LowerContext,
    names: Names,
    body: Graph,
    args: Args,
    outputs: Sequence[Value],
    hold: Hold | None = None,
) -> list[Part]:
    """Parts of the spaces of the outputs. Outputs with as many elements walk one space, each in its own
    shape; one that joins values of another output's space is stored with that."""
    spaces: list[list[Stored]] = []
    for stored in _stored(body, outputs):
        if stored.value.type.numel == 0:
            continue
        for space in spaces:
            if walk_alike(space[0].value.type.shape, stored.value.type.shape):
                space.append(stored)
                break
        else:
            spaces.append([stored])
    found: list[Part] = []
    for values in spaces:
        shape = values[0].value.type.shape

        def make(
            index: IndexTuple,
            extents: Mapping[str, DimLike],
            values: Sequence[Stored] = values,
            shape: tuple[DimLike, ...] = shape,
        ) -> tuple[list[Element], Sequence[Guard]]:
            evaluator = BodyEvaluator(body, {v: args[v] for v in body.inputs}, None, ctx.flat, extents)
            if hold is not None:
                evaluator.held.update(hold(evaluator))
            elements = []
            for value, output, start in values:
                own = index if value.type.shape == shape else reindex(index, shape, value.type.shape)
                if output is value:
                    offset = linear(index, shape)
                else:
                    offset = linear(tuple(map(add, own, start)), output.type.shape)
                elements.append(Element(ctx.flat(args[output]), offset, evaluator.at(value, own)))
            return elements, evaluator.undecided

        found += parts(ctx, names, make_axes(names, shape), make)
    return found


class Stored(NamedTuple):
    """A value to be stored in an output, from an index of the output on."""

    value: Value
    output: Value
    start: IndexTuple


def _stored(body: Graph, outputs: Sequence[Value]) -> list[Stored]:
    producers = body.producers()
    found: list[Stored] = []
    for output in outputs:
        node = producers.get(output)
        start = [0] * output.type.rank
        if node is None or not _is_joined(node, outputs):
            found.append(Stored(output, output, tuple(start)))
            continue
        dim = node.attrs["dim"] % output.type.rank
        place: DimLike = 0
        for value in node.inputs:
            found.append(Stored(value, output, (*start[:dim], place, *start[dim + 1 :])))
            place = place + value.type.shape[dim]
    return sorted(found, key=lambda s: s.value is not s.output)


def _is_joined(node: Node, outputs: Sequence[Value]) -> bool:
    """Whether the node puts values side by side that are walked with some output."""
    if node.op.name != "concat" or len({v.type.shape for v in node.inputs}) != 1 or len(node.inputs) < 2:
        return False
    shape = node.inputs[0].type.shape
    return any(walk_alike(v.type.shape, shape) for v in outputs)


def parts(ctx: LowerContext, names: Names, axes: Sequence[Axis], make: Make) -> list[Part]:
    """The space cut along axes until every guard is decided, as far as that goes and is worth it."""
    return _parts(names, axes, {a.var: a.index for a in axes}, make, ctx.schedules.max_parts)


def _parts(
    names: Names, axes: Sequence[Axis], origin: dict[str, DimLike], make: Make, budget: int
) -> list[Part]:
    """`origin` gives the index along each original axis in terms of this part's axes."""
    elements, undecided = make(tuple(origin.values()), {a.var: a.extent for a in axes})
    for guard in undecided:
        split = _split(guard, axes)
        if split is None:
            continue
        axis, cuts = split
        if len(cuts) - 1 > budget:
            continue
        result: list[Part] = []
        for low, high in pairwise(cuts):
            part = Axis(names("i"), high - low)
            if part.extent == 0:
                continue
            moved = {k: dims.substitute(v, {axis.var: part.index + low}) for k, v in origin.items()}
            rest = [part if a is axis else a for a in axes]
            result += _parts(names, rest, moved, make, budget // (len(cuts) - 1))
        return result
    return [(list(axes), elements)]


def _split(guard: Guard, axes: Sequence[Axis]) -> tuple[Axis, list[DimLike]] | None:
    """An axis and where to cut it (0 to its extent, ascending), each part inside or outside the guard."""
    low, index, high = guard
    for axis in axes:
        found = dims.coefficient(index, axis.var)
        if found is None:
            continue
        step, rest = found
        if not isinstance(step, int) or step < -1 or step == 0:
            continue
        if any(s.name == a.var for a in axes for s in dims.symbols(rest)):
            continue
        if step > 0:  # step * i + rest reaches an end at i = ceil((end - rest) / step)
            ends = [dims.floordiv(end - rest + (step - 1), step) for end in (low, high)]
        else:
            ends = [rest - high + 1, rest - low + 1]
        cuts: list[DimLike] = [0]
        for end in ends:
            if at_least(0, end) or at_least(end, axis.extent):
                continue
            if not (at_least(end, cuts[-1]) and at_least(axis.extent, end)):
                break
            if end != cuts[-1]:
                cuts.append(end)
        else:
            if len(cuts) > 1:
                return axis, [*cuts, axis.extent]
    return None


def linear(index: IndexTuple, shape: Sequence[DimLike]) -> DimLike:
    """The row-major position of an element."""
    position: DimLike = 0
    for size, i in zip(shape, index, strict=True):
        position = position * size + i
    return position


def reindex(index: IndexTuple, shape: Sequence[DimLike], other: Sequence[DimLike]) -> IndexTuple:
    """The index into shape `other` of the element at `index` of `shape`, in row-major order. ValueError
    where symbolic dims do not let that be said."""
    reshape = op_named("reshape")
    old, new = TensorType(tuple(other), dtypes.f32), TensorType(tuple(shape), dtypes.f32)
    assert reshape.index_map is not None
    ((_, where, _),) = reshape.index_map([old], new, index, shape=new.shape)
    return where


def walk_alike(shape: Sequence[DimLike], other: Sequence[DimLike]) -> bool:
    """Whether a loop over one shape can visit the elements of the other in order."""
    if dims.product(shape) != dims.product(other):
        return False
    try:
        reindex(tuple(a.index for a in make_axes(Names(), shape)), shape, other)
    except ValueError:
        return False
    return True
