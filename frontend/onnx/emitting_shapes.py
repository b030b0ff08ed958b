"""What moves, gathers and scatters become in ONNX."""

from __future__ import annotations

import numpy as np

from ..ir import dtypes
from ..ir.dims import DimLike
from ..ir.graph import Node
from .emitting import Emitted, Writer, attributes, emits

_LAST = -(2**63)  # `Slice` backwards to the first element


@emits("reshape")
def _reshape(w: Writer, node: Node) -> Emitted:
    (value,) = node.inputs
    same = value.type.shape == node.outputs[0].type.shape
    return w.name(value) if same else w.reshape(w.name(value), node.attrs["shape"])


@emits("permute")
def _permute(w: Writer, node: Node) -> Emitted:
    return str(w.node("Transpose", w.name(node.inputs[0]), perm=list(node.attrs["dims"])))


@emits("expand")
def _expand(w: Writer, node: Node) -> Emitted:
    return w.expand(w.name(node.inputs[0]), node.attrs["shape"])


@emits("slice")
def _slice(w: Writer, node: Node) -> Emitted:
    shape = node.inputs[0].type.shape
    cut: list[tuple[int, DimLike, DimLike, int]] = [
        (axis, start, stop, step)
        for axis, (start, stop, step) in enumerate(zip(*attributes(node, "starts", "stops", "steps")))
        if (start, stop, step) != (0, shape[axis], 1)
    ]
    if not cut:
        return w.name(node.inputs[0])
    axes, starts, stops, steps = zip(*cut)
    return str(
        w.node("Slice", w.name(node.inputs[0]), w.ints(starts), w.ints(stops), w.ints(axes), w.ints(steps))
    )


@emits("flip")
def _flip(w: Writer, node: Node) -> Emitted:
    dims = node.attrs["dims"]
    last = w.ints([-1] * len(dims))
    return str(w.node("Slice", w.name(node.inputs[0]), last, w.ints([_LAST] * len(dims)), w.ints(dims), last))


@emits("pad")
def _pad(w: Writer, node: Node) -> Emitted:
    value = w.scalar(node.attrs["value"], node.inputs[0].type.dtype)
    return str(
        w.node("Pad", w.name(node.inputs[0]), w.ints([*node.attrs["low"], *node.attrs["high"]]), value)
    )


@emits("concat")
def _concat(w: Writer, node: Node) -> Emitted:
    names = [w.name(v) for v in node.inputs]
    return names[0] if len(names) == 1 else str(w.node("Concat", *names, axis=node.attrs["dim"]))


@emits("unfold")
def _unfold(w: Writer, node: Node) -> Emitted:
    """Windows: `Gather` at the places of each window's elements, whose dim is then the last."""
    dim, size, step = attributes(node, "dim", "size", "step")
    count = node.outputs[0].type.shape[dim]
    if not isinstance(count, int):
        return None
    places = np.arange(count)[:, None] * step + np.arange(size)
    taken = w.node("Gather", w.name(node.inputs[0]), w.constant(places, np.int64), axis=dim)
    rank = len(node.outputs[0].type.shape)
    order = [i for i in range(rank) if i != dim + 1] + [dim + 1]
    return str(w.node("Transpose", taken, perm=order))


@emits("strided")
def _strided(w: Writer, node: Node) -> Emitted:
    size, stride, offset = attributes(node, "size", "stride", "offset")
    if not all(isinstance(n, int) for n in size):
        return None
    places = np.full(size, offset, np.int64)
    for axis, (n, by) in enumerate(zip(size, stride)):
        places += (np.arange(n) * by).reshape([-1 if i == axis else 1 for i in range(len(size))])
    return str(w.node("Gather", w.name(node.inputs[0]), w.constant(places), axis=0))


@emits("update_slice")
def _update_slice(w: Writer, node: Node) -> Emitted:
    """The new part padded to the whole, chosen where a mask says so."""
    base, new = node.inputs
    starts, stops, steps = attributes(node, "starts", "stops", "steps")
    shape, dtype = base.type.shape, new.type.dtype
    if starts == (0,) * len(shape) and stops == shape and set(steps) <= {1}:
        return w.name(new)
    if set(steps) - {1}:
        if not all(isinstance(n, int) for n in (*shape, *starts, *stops)):
            return None
        mask = np.zeros([int(n) for n in shape], bool)
        mask[tuple(slice(*part) for part in zip(starts, stops, steps))] = True
        flat = w.node("Reshape", w.name(new), w.ints([-1]))
        return str(w.node("ScatterND", w.name(base), w.constant(np.argwhere(mask), np.int64), flat))
    around = w.ints([*starts, *(n - stop for n, stop in zip(shape, stops))])
    padded = w.node("Pad", w.name(new), around, w.scalar(0, dtype))
    inside = w.node("Pad", w.filled(new.type.shape, 1, dtypes.i32), around, w.scalar(0, dtypes.i32))
    return str(w.node("Where", w.cast(inside, dtypes.bool_), padded, w.name(base)))


@emits("gather")
def _gather(w: Writer, node: Node) -> Emitted:
    return str(w.node("GatherElements", *map(w.name, node.inputs), axis=node.attrs["dim"]))


@emits("index_select")
def _index_select(w: Writer, node: Node) -> Emitted:
    return str(w.node("Gather", *map(w.name, node.inputs), axis=node.attrs["dim"]))


@emits("scatter_add", "scatter_update", "scatter_combine")
def _scatter(w: Writer, node: Node) -> Emitted:
    how = {"scatter_add": "add", "scatter_update": None}.get(node.op.name, node.attrs.get("combine"))
    return str(w.node("ScatterElements", *map(w.name, node.inputs), axis=node.attrs["dim"], reduction=how))


@emits("index_add", "index_update")
def _index_put(w: Writer, node: Node) -> Emitted:
    """The index, one number for a slice, repeated over the slices' elements."""
    base, index, source = node.inputs
    dim = node.attrs["dim"]
    if len(index.type.shape) != 1:
        return None
    rank = len(source.type.shape)
    column = w.reshape(w.name(index), [index.type.shape[0] if i == dim else 1 for i in range(rank)])
    places = w.expand(column, source.type.shape)
    how = "add" if node.op.name == "index_add" else None
    return str(w.node("ScatterElements", w.name(base), places, w.name(source), axis=dim, reduction=how))


@emits("check_index")
def _check_index(w: Writer, node: Node) -> Emitted:
    """Runtimes check indices themselves."""
    return w.name(node.inputs[0])


@emits("argsort")
def _argsort(w: Writer, node: Node) -> Emitted:
    (x,) = node.inputs
    dim = node.attrs["dim"]
    count = w.dim(x.type.shape[dim])
    descending = int(node.attrs["descending"])
    return str(w.node("TopK", w.name(x), count, axis=dim, largest=descending, sorted=1, outputs=2)[1])


@emits("nonzero")
def _nonzero(w: Writer, node: Node) -> Emitted:
    return str(w.node("NonZero", w.name(node.inputs[0])))
