"""Convolutions and their gradients as contractions.

With x: [N, G*C, *S], w: [G*O, C, *K], y: [N, G*O, *T], and x zero outside its bounds:

    y[n, g*O+o, t]  = sum over c, k of x[n, g*C+c, t*stride + k*dilation - padding] * w[g*O+o, c, k]
    dx[n, g*C+c, s] = sum over o, k of dy[n, g*O+o, (s + padding - k*dilation) / stride] * w[g*O+o, c, k]
    dw[g*O+o, c, k] = sum over n, t of x[n, g*C+c, t*stride + k*dilation - padding] * dy[n, g*O+o, t]

where the division leaves a remainder, dx gets nothing. Zero borders, and for dx zeros between the elements of dy
where stride > 1, are copied into scratch, which makes every access linear.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Node, Value
from .contraction import Access, Axis, Contraction, Window
from .contraction_operands import Operands, zero_bordered
from .indexing import IndexTuple

_SPATIAL = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


def conv_contraction(node: Node, operands: Operands) -> Contraction:
    match node.op.name:
        case "conv":
            return _forward(node, operands)
        case "conv_input_grad":
            return _input_grad(node, operands)
        case "conv_weight_grad":
            return _weight_grad(node, operands)
    raise NotImplementedError(f"no contraction for op {node.op.name!r}")


def _forward(node: Node, operands: Operands) -> Contraction:
    x, w = node.inputs
    (y,) = node.outputs
    stride, padding, dilation, groups = _geometry(node)
    batch, group, out, inner, space, kernel = _axes(y.type.shape, w.type.shape, groups, y.type.shape[2:])
    where = tuple(t.var * s + k.var * d for t, s, k, d in zip(space, stride, kernel, dilation, strict=True))
    channel = group.var * inner.extent + inner.var
    left = _padded(operands, x, (batch.var, channel, *where), padding)
    out_channel = group.var * out.extent + out.var
    right = operands.read(w, (out_channel, inner.var, *(k.var for k in kernel)))
    return Contraction(
        "conv",
        (batch, group, out, *space),
        (inner, *kernel),
        left,
        right,
        (batch.var, out_channel, *(t.var for t in space)),
        y.type.dtype,
        _inside(space, kernel, x.type.shape[2:], stride, padding, dilation),
    )


def _weight_grad(node: Node, operands: Operands) -> Contraction:
    x, dy = node.inputs
    (dw,) = node.outputs
    stride, padding, dilation, groups = _geometry(node)
    batch, group, out, inner, space, kernel = _axes(dy.type.shape, dw.type.shape, groups, dy.type.shape[2:])
    where = tuple(t.var * s + k.var * d for t, s, k, d in zip(space, stride, kernel, dilation, strict=True))
    channel = group.var * inner.extent + inner.var
    left = _padded(operands, x, (batch.var, channel, *where), padding)
    out_channel = group.var * out.extent + out.var
    right = operands.read(dy, (batch.var, out_channel, *(t.var for t in space)))
    return Contraction(
        "conv_weight_grad",
        (group, out, inner, *kernel),
        (batch, *space),
        left,
        right,
        (out_channel, inner.var, *(k.var for k in kernel)),
        dw.type.dtype,
    )


def _input_grad(node: Node, operands: Operands) -> Contraction:
    dy, w = node.inputs
    (dx,) = node.outputs
    stride, padding, dilation, groups = _geometry(node)
    batch, group, out, inner, space, kernel = _axes(dy.type.shape, w.type.shape, groups, dx.type.shape[2:])
    out_channel = group.var * out.extent + out.var
    low: list[int] = []
    where: list[DimLike] = []
    padded: list[DimLike] = []
    windows: dict[str, Window] = {}
    direct = True
    for s, k, t, step, pad, spread in zip(
        space, kernel, dy.type.shape[2:], stride, padding, dilation, strict=True
    ):
        reach = _static(k.extent, "a kernel's size") - 1
        border = max(0, reach * spread - pad)
        low.append(border)
        where.append(s.var + (pad + border) - k.var * spread)
        needed = s.extent + (pad + border)
        # Where the padding is wider than the kernel's reach, dy goes on beyond what dx reads.
        padded.append(needed + max(0, pad - reach * spread))
        if border:
            first = _at_least_zero(dims.floordiv(s.var + pad - (t - 1) * step + (spread - 1), spread))
            last = dims.minimum(reach, dims.floordiv(s.var + pad, spread))
            windows[k.name] = Window(s.name, first, last, up=True)
        direct = direct and border == 0 and step == 1 and needed == t
    index = (batch.var, out_channel, *where)
    if direct:
        left = operands.read(dy, index)
    else:
        left = Access(zero_bordered(operands, dy, low, stride, padded), index)
    channel = group.var * inner.extent + inner.var
    right = operands.read(w, (out_channel, inner.var, *(k.var for k in kernel)))
    return Contraction(
        "conv_input_grad",
        (batch, group, inner, *space),
        (out, *kernel),
        left,
        right,
        (batch.var, channel, *(s.var for s in space)),
        dx.type.dtype,
        windows,
    )


def _inside(
    space: Sequence[Axis],
    kernel: Sequence[Axis],
    source: Sequence[DimLike],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> dict[str, Window]:
    """Where kernel positions fall inside a padded source: 0 <= t*stride + k*dilation - padding < size."""
    windows: dict[str, Window] = {}
    for t, k, size, s, pad, d in zip(space, kernel, source, stride, padding, dilation, strict=True):
        if pad:
            first = _at_least_zero(dims.floordiv(pad - t.var * s + (d - 1), d))
            last = dims.minimum(k.extent - 1, dims.floordiv(size - 1 + pad - t.var * s, d))
            windows[k.name] = Window(t.name, first, last, up=False)
    return windows


def _at_least_zero(value: DimLike) -> DimLike:
    return value - dims.minimum(value, 0)


def _geometry(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    attrs = node.attrs
    return attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"]


def _axes(
    y: Sequence[DimLike], w: Sequence[DimLike], groups: int, space: Sequence[DimLike]
) -> tuple[Axis, Axis, Axis, Axis, tuple[Axis, ...], tuple[Axis, ...]]:
    """Batch, group, output channel of a group, input channel of a group, positions, kernel positions."""
    names = _SPATIAL[len(w) - 2]
    return (
        Axis("n", y[0]),
        Axis("g", groups),
        Axis("o", dims.floordiv(w[0], groups)),
        Axis("c", w[1]),
        tuple(Axis(name, size) for name, size in zip(names, space, strict=True)),
        tuple(Axis("k" + name, size) for name, size in zip(names, w[2:], strict=True)),
    )


def _padded(operands: Operands, x: Value, index: IndexTuple, padding: Sequence[int]) -> Access:
    if not any(padding):
        return operands.read(x, index)
    shape = [size + 2 * pad for size, pad in zip(x.type.shape[2:], padding, strict=True)]
    return Access(zero_bordered(operands, x, padding, (1,) * len(padding), shape), index)


def _static(size: DimLike, what: str) -> int:
    if not isinstance(size, int):
        raise NotImplementedError(f"{what} must be a number to lower its gradient, it is {size}")
    return size
