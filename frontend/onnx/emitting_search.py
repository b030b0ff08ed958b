"""What shifts, searches and the like become in ONNX."""

from __future__ import annotations

from ..ir import dtypes
from ..ir.graph import Node
from .emitting import Emitted, Writer, attributes, emits
from .table import ONNXError

_UNSIGNED = {dtypes.i8: dtypes.u8, dtypes.i16: dtypes.u16, dtypes.i32: dtypes.u32, dtypes.i64: dtypes.u64}


@emits("bitwise_left_shift", "bitwise_right_shift")
def _shift(w: Writer, node: Node) -> Emitted:
    """`BitShift` is of unsigned numbers. Left, those have the same bits; right, a negative number is shifted as its
    complement is. Shifts by the width and more are undefined there: 0 is what is left of the bits."""
    a, b = node.inputs
    dtype = a.type.dtype
    plain = _UNSIGNED.get(dtype, dtype)
    x, by, zero = w.name(a), w.name(b), w.scalar(0, dtype)
    choose = lambda condition, one, other: str(w.node("Where", condition, one, other))
    inside = w.node("Less", by, w.scalar(dtype.itemsize * 8, dtype))
    signed = plain is not dtype
    if signed:
        inside = w.node("And", inside, w.node("GreaterOrEqual", by, zero))
    by = choose(inside, by, zero)

    def shifted(name: str, direction: str) -> str:
        if signed:
            name = w.node("BitShift", w.cast(name, plain), w.cast(by, plain), direction=direction)
            return choose(inside, w.cast(name, dtype), zero)
        return choose(inside, w.node("BitShift", name, by, direction=direction), zero)

    if node.op.name == "bitwise_left_shift":
        return shifted(x, "LEFT")
    if not signed:
        return shifted(x, "RIGHT")
    negative = w.node("Less", x, zero)
    found = shifted(choose(negative, w.node("BitwiseNot", x), x), "RIGHT")
    return choose(negative, w.node("BitwiseNot", found), found)


@emits("atan2")
def _atan2(w: Writer, node: Node) -> Emitted:
    y, x = map(w.name, node.inputs)
    return w.angle(y, x, node.outputs[0].type.dtype)


@emits("linalg_det")
def _det(w: Writer, node: Node) -> Emitted:
    return str(w.node("Det", w.name(node.inputs[0])))


@emits("searchsorted")
def _searchsorted(w: Writer, node: Node) -> Emitted:
    """How many numbers of its row are below each element: all are compared."""
    rows, x = node.inputs
    shape = rows.type.shape
    own = len(shape) > 1
    spread = w.reshape(w.name(rows), [*shape[:-1], *([1] if own else []), shape[-1]])
    column = w.reshape(w.name(x), [*x.type.shape, 1])
    below = w.node("LessOrEqual" if node.attrs["right"] else "Less", spread, column)
    count = w.node("ReduceSum", w.cast(str(below), dtypes.i64), w.ints([-1]), keepdims=0)
    return str(count) if node.attrs["dtype"] is dtypes.i64 else w.cast(str(count), node.attrs["dtype"])


@emits("unique")
def _unique(w: Writer, node: Node) -> Emitted:
    x, dim = node.inputs[0], node.attrs["dim"]
    found, _, inverse, counts = w.node("Unique", w.name(x), axis=dim, sorted=1, outputs=4)
    return found, inverse if dim is not None else w.reshape(inverse, x.type.shape), counts


@emits("repeated_positions")
def _repeated_positions(w: Writer, node: Node) -> Emitted:
    """Of each place in the result how many positions end before it."""
    counts = w.cast(w.name(node.inputs[0]), dtypes.i64)
    ends = w.node("CumSum", counts, w.scalar(0, dtypes.i64))
    total = w.node("ReduceSum", counts, keepdims=0)
    places = w.node("Range", w.scalar(0, dtypes.i64), total, w.scalar(1, dtypes.i64))
    before = w.node("LessOrEqual", ends, w.node("Unsqueeze", places, w.ints([1])))
    return str(w.node("ReduceSum", w.cast(str(before), dtypes.i64), w.ints([1]), keepdims=0))


@emits("max_pool_gather")
def _max_pool_gather(w: Writer, node: Node) -> Emitted:
    """`MaxPool` says where in the whole tensor each maximum is."""
    x, taken = node.inputs
    kernel, stride, padding, dilation, ceil = attributes(
        node, "kernel", "stride", "padding", "dilation", "ceil_mode"
    )
    if ceil:
        raise ONNXError("places of maxima with ceil_mode")
    _, places = w.node(
        "MaxPool",
        w.name(x),
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=[*padding, *padding],
        dilations=list(dilation),
        outputs=2,
    )
    return str(w.node("Gather", w.node("Reshape", w.name(taken), w.ints([-1])), places, axis=0))
