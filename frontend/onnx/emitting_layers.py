"""What reductions, products, windows, normalizations and recurrent layers become in ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import dtypes
from ..ir.dims import DimLike
from ..ir.graph import Node, Value
from .emitting import Emitted, Writer, attributes, emits
from .table import ONNXError

_REDUCED = {
    "sum": "ReduceSum", "mean": "ReduceMean", "amax": "ReduceMax", "amin": "ReduceMin", "prod": "ReduceProd",
    "any": "ReduceMax", "all": "ReduceMin",
}  # fmt: skip


@emits(*_REDUCED)
def _reduce(w: Writer, node: Node) -> Emitted:
    (value,) = node.inputs
    x, dtype = w.name(value), value.type.dtype
    dims, keep = attributes(node, "dims", "keepdim")
    if not dims:
        return x if node.outputs[0].type == value.type else w.cast(x, node.outputs[0].type.dtype)
    counted = node.op.name in ("any", "all") or dtype is dtypes.bool_
    if counted:
        x = w.cast(x if dtype is dtypes.bool_ else w.cast(x, dtypes.bool_), dtypes.i32)
    found = str(w.node(_REDUCED[node.op.name], x, w.ints(dims), keepdims=int(keep)))
    return w.cast(found, node.outputs[0].type.dtype) if counted else found


@emits("argmax", "argmin")
def _arg(w: Writer, node: Node) -> Emitted:
    op_type = "ArgMax" if node.op.name == "argmax" else "ArgMin"
    dim, keep = attributes(node, "dim", "keepdim")
    return str(w.node(op_type, w.name(node.inputs[0]), axis=dim, keepdims=int(keep)))


@emits("softmax", "log_softmax")
def _softmax(w: Writer, node: Node) -> Emitted:
    op_type = "Softmax" if node.op.name == "softmax" else "LogSoftmax"
    return str(w.node(op_type, w.name(node.inputs[0]), axis=node.attrs["dim"]))


@emits("cumsum")
def _cumsum(w: Writer, node: Node) -> Emitted:
    dim, reverse = attributes(node, "dim", "reverse")
    return str(w.node("CumSum", w.name(node.inputs[0]), w.constant(dim, np.int64), reverse=int(reverse)))


@emits("matmul")
def _matmul(w: Writer, node: Node) -> Emitted:
    return str(w.node("MatMul", *map(w.name, node.inputs)))


@emits("addmm")
def _addmm(w: Writer, node: Node) -> Emitted:
    """A linear layer's weight is turned by `Gemm` itself."""
    bias, a, b = node.inputs
    straight = _turned(w, b)
    second = w.name(b) if straight is None else w.name(straight)
    return str(w.node("Gemm", w.name(a), second, w.name(bias), transB=None if straight is None else 1))


def _turned(w: Writer, value: Value) -> Value | None:
    """The matrix of which the value is the transpose, if it is one."""
    made = w.producers.get(value)
    if made is not None and made.op.name == "permute" and made.attrs["dims"] == (1, 0):
        return made.inputs[0]
    return None


def _narrow(w: Writer, value: Value) -> Value:
    """The 8-bit numbers that the value holds."""
    made = w.producers.get(value)
    if made is None or made.op.name != "convert" or made.inputs[0].type.dtype not in (dtypes.i8, dtypes.u8):
        raise ONNXError("of integers that were not 8-bit numbers before")
    return made.inputs[0]


@emits("conv", "convolution")
def _conv(w: Writer, node: Node) -> Emitted:
    """Sums of integers are those of 8-bit numbers that were widened."""
    stride, padding, dilation, groups = attributes(node, "stride", "padding", "dilation", "groups")
    whole = node.outputs[0].type.dtype is dtypes.i32
    factors = [_narrow(w, value) for value in node.inputs] if whole else node.inputs
    return str(
        w.node(
            "ConvInteger" if whole else "Conv",
            *map(w.name, factors),
            strides=list(stride),
            pads=[*padding, *padding],
            dilations=list(dilation),
            group=groups,
        )
    )


@emits("conv_transpose")
def _conv_transpose(w: Writer, node: Node) -> Emitted:
    stride, padding, dilation, groups = attributes(node, "stride", "padding", "dilation", "groups")
    return str(
        w.node(
            "ConvTranspose",
            *map(w.name, node.inputs),
            strides=list(stride),
            pads=[*padding, *padding],
            dilations=list(dilation),
            group=groups,
            output_padding=list(node.attrs["output_padding"]),
        )
    )


@emits("max_pool")
def _max_pool(w: Writer, node: Node) -> Emitted:
    kernel, stride, padding, dilation = attributes(node, "kernel", "stride", "padding", "dilation")
    return str(
        w.node(
            "MaxPool",
            w.name(node.inputs[0]),
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*padding, *_ends(node, kernel, stride, padding, dilation)],
            dilations=list(dilation),
        )
    )


def _ends(
    node: Node, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Padding at the end of each dim, larger where `ceil_mode` lets the last window reach out. Runtimes do not agree on
    ceil_mode itself."""
    if not node.attrs["ceil_mode"]:
        return list(padding)
    found = []
    sizes: Sequence[DimLike] = node.inputs[0].type.shape[2:]
    counts: Sequence[DimLike] = node.outputs[0].type.shape[2:]
    for n, count, k, s, low, d in zip(sizes, counts, kernel, stride, padding, dilation):
        end = (count - 1) * s + d * (k - 1) + 1 - n - low
        if not isinstance(end, int):
            raise ONNXError("ceil_mode over a symbolic size")
        found.append(max(end, 0))
    return found


@emits("avg_pool")
def _avg_pool(w: Writer, node: Node) -> Emitted:
    kernel, stride, padding = attributes(node, "kernel", "stride", "padding")
    return str(
        w.node(
            "AveragePool",
            w.name(node.inputs[0]),
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*padding, *padding],
            ceil_mode=int(node.attrs["ceil_mode"]),
            count_include_pad=int(node.attrs["count_include_pad"]),
        )
    )


@emits("standardize")
def _standardize(w: Writer, node: Node) -> Emitted:
    """`LayerNormalization`, where it is over the last dims and the weight has their shape."""
    x, *affine = node.inputs
    dims = node.attrs["dims"]
    rank = len(x.type.shape)
    shape = x.type.shape[rank - len(dims) :]
    if dims != tuple(range(rank - len(dims), rank)) or any(v.type.shape != shape for v in affine):
        return None
    names = [w.name(v) for v in affine] or [w.filled(shape, 1, x.type.dtype)]
    return str(w.node("LayerNormalization", w.name(x), *names, axis=-len(dims), epsilon=node.attrs["eps"]))


# PyTorch's order of the gates to ONNX's: lstm i f g o to i o f c, gru r z n to z r h.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


@emits("lstm", "gru", "rnn")
def _recurrent(w: Writer, node: Node) -> Emitted:
    """ONNX's layers project their input themselves: the projection that stands before ours is taken into them."""
    kind = node.op.name
    projected, hidden, *rest = node.inputs
    steps = node.attrs["batch_sizes"]
    if any(n != steps[0] for n in steps) or len(node.inputs) > {"lstm": 4, "gru": 4, "rnn": 3}[kind]:
        return None
    results = {"lstm": 3, "gru": 2, "rnn": 2}[kind]
    if any(value in w.read for value in node.outputs[results:]):
        return None
    cell = rest.pop(0) if kind == "lstm" else None
    weight, *hidden_bias = rest
    size, dtype = hidden.type.shape[1], weight.type.dtype
    if not isinstance(size, int):
        return None
    rows, features, input_weight, input_bias = _projection(w, projected)
    count = len(_GATES[kind])

    def gates(name: str) -> str:
        if count == 1:
            return str(w.node("Unsqueeze", name, w.ints([0])))
        parts = w.node("Split", name, outputs=count, axis=0, num_outputs=count)
        return str(
            w.node("Unsqueeze", w.node("Concat", *(parts[i] for i in _GATES[kind]), axis=0), w.ints([0]))
        )

    zero = w.filled([count * size], 0, dtype)
    first = gates(input_bias) if input_bias else w.node("Unsqueeze", zero, w.ints([0]))
    second = gates(w.name(hidden_bias[0])) if hidden_bias else w.node("Unsqueeze", zero, w.ints([0]))
    one = lambda value: str(w.node("Unsqueeze", w.name(value), w.ints([0])))
    found = w.node(
        {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}[kind],
        w.reshape(rows, [len(steps), steps[0], features]),
        gates(input_weight),
        gates(w.name(weight)),
        w.node("Concat", first, second, axis=1),
        "",
        one(hidden),
        *([one(cell)] if cell is not None else []),
        outputs=results,
        hidden_size=size,
        direction="reverse" if node.attrs["reverse"] else "forward",
        linear_before_reset=1 if kind == "gru" else None,
        activations=["Relu"] if kind == "rnn" and node.attrs["activation"] == "relu" else None,
    )
    states = [str(w.node("Squeeze", name, w.ints([0]))) for name in found[1:]]
    shaped = [w.reshape(found[0], node.outputs[0].type.shape), *states]
    return (*shaped, *("" for _ in node.outputs[results:]))


def _projection(w: Writer, projected: Value) -> tuple[str, DimLike, str, str]:
    """What was projected, its features, the weight [gates, features] and the bias; of anything else the identity."""
    made = w.producers.get(projected)
    if made is not None and made.op.name in ("addmm", "matmul") and len(made.inputs[-1].type.shape) == 2:
        *bias, rows, turned = made.inputs
        weight = _turned(w, turned)
        name = w.name(weight) if weight is not None else str(w.node("Transpose", w.name(turned)))
        if not bias or len(bias[0].type.shape) == 1:
            return w.name(rows), rows.type.shape[-1], name, w.name(bias[0]) if bias else ""
    size = projected.type.shape[-1]
    return w.name(projected), size, w.constant(np.eye(int(size)).astype(projected.type.dtype.numpy)), ""
