"""Convolutions and their gradients as contractions.

With x: [N, G*C, *S], w: [G*O, C, *K], y: [N, G*O, *T], and x zero outside its bounds:

    y[n, g*O+o, t]  = sum over c, k of x[n, g*C+c, t*stride + k*dilation - padding] * w[g*O+o, c, k]
    dx[n, g*C+c, s] = sum over o, k of dy[n, g*O+o, (s + padding - k*dilation) / stride] * w[g*O+o, c, k]
    dw[g*O+o, c, k] = sum over n, t of x[n, g*C+c, t*stride + k*dilation - padding] * dy[n, g*O+o, t]

where the division leaves a remainder, dx gets nothing: for stride > 1, positions of dx with another remainder
are contractions of their own. Zero borders are copied into scratch, which makes every access linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod
from typing import Generic

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Node, Value
from .contraction import Axis, Contraction, O, Reader, Window
from .indexing import IndexTuple

_SPATIAL = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


# Beyond so many phases of a strided convolution's input gradient, zeros between dy's elements instead.
MOST_PHASES = 16
# Along rows zeros too, where they cost no more multiply-adds for an element of dx than this: those of a vector cost less
# than to store it to every second element.
MOST_ZEROS = 16
# Of what a row is, the zeros that may be added up with it to fill whole steps.
MOST_MORE = 0.34


def conv_contractions(node: Node, operands: Reader[O]) -> list[Contraction[O]]:
    """The contractions that make up a convolution; together they fill its result once."""
    match node.op.name:
        case "conv":
            return [_forward(node, operands)]
        case "conv_input_grad":
            return _input_grad(node, operands)
        case "conv_weight_grad":
            return _weight_grad(node, operands)
    raise NotImplementedError(f"no contraction for op {node.op.name!r}")


def _forward(node: Node, operands: Reader[O]) -> Contraction[O]:
    x, w = node.inputs
    (y,) = node.outputs
    stride, padding, dilation, groups = _geometry(node)
    batch, group, out, inner, space, kernel = _axes(y.type.shape, w.type.shape, groups, y.type.shape[2:])
    where = tuple(t.var * s + k.var * d for t, s, k, d in zip(space, stride, kernel, dilation, strict=True))
    channel = group.var * inner.extent + inner.var
    out_channel = group.var * out.extent + out.var
    inside = _inside(space, kernel, x.type.shape[2:], stride, padding, dilation)
    phases = _phases(node, operands, y.type.shape[2:], w.type.shape[-1], (batch.var, channel, *where[:-1]))
    if phases is not None:
        channels = (out_channel, inner.var)
        left, right, last = _along_phases(phases, operands, w, channels, space[-1].var, kernel)
        inside.pop(kernel[-1].name, None)
        kernel = (*kernel[:-1], *last)
    else:
        left = _padded(operands, x, (batch.var, channel, *where), padding)
        right = operands.read(w, (out_channel, inner.var, *(k.var for k in kernel)))
    return Contraction(
        "conv",
        (batch, group, out, *space),
        (inner, *kernel),
        left,
        right,
        (batch.var, out_channel, *(t.var for t in space)),
        y.type.shape,
        y.type.dtype,
        inside,
    )


@dataclass(frozen=True)
class _Phases(Generic[O]):
    """A depthwise convolution's x with every row copied in `every` parts, so that neighbours in y read neighbours.
    `at(whole, part)`: the operand where a row's position is every * whole + part."""

    every: int
    at: Callable[[DimLike, DimLike], O]


def _phases(
    node: Node, operands: Reader[O], y: Sequence[DimLike], taps: DimLike, index: IndexTuple
) -> _Phases[O] | None:
    """`index`: of x, the last of it left out; `y`: the positions of y; `taps`: the kernel's last size. None where there
    is no stride along the rows, or more than one channel in a group, or a size that is not a number."""
    x = node.inputs[0]
    stride, padding, dilation, groups = _geometry(node)
    every = stride[-1]
    sizes = [size + 2 * pad for size, pad in zip(x.type.shape[2:], padding, strict=True)]
    if not operands.has_phases or x.type.shape[1] != groups or every == 1 or dilation[-1] != 1:
        return None
    if not isinstance(taps, int) or taps == 1 or not all(isinstance(s, int) for s in (*y, *sizes)):
        return None
    reach = max(-(-sizes[-1] // every), y[-1] + -(-taps // every) - 1)
    space = (*sizes[:-1], reach * every)
    return _Phases(
        every, lambda whole, part: operands.phased(x, padding, space, every, (*index, part, whole))
    )


def _along_phases(
    phases: _Phases[O], operands: Reader[O], w: Value, weights: IndexTuple, x: DimLike, kernel: Sequence[Axis]
) -> tuple[O, O, tuple[Axis, Axis]]:
    """The operands of the sum over a kernel whose last axis is two, positions within a part and parts; those past its
    end count as zeros. `weights`: the index of w's channels; `x`: the position along y's rows."""
    taps, every = w.type.shape[-1], phases.every
    whole, part = Axis(kernel[-1].name, -(-taps // every)), Axis("p" + kernel[-1].name, every)
    shape = (*w.type.shape[2:-1], whole.extent * every)
    at = (*weights, *(k.var for k in kernel[:-1]), whole.var * every + part.var)
    none = (0,) * len(shape)
    steps = (1,) * len(shape)
    right = operands.read(w, at) if shape[-1] == taps else operands.bordered(w, none, steps, shape, at)
    return phases.at(x + whole.var, part.var), right, (whole, part)


def _weight_grad(node: Node, operands: Reader[O]) -> list[Contraction[O]]:
    x, dy = node.inputs
    (dw,) = node.outputs
    stride, padding, dilation, groups = _geometry(node)
    batch, group, out, inner, space, kernel = _axes(dy.type.shape, dw.type.shape, groups, dy.type.shape[2:])
    where = tuple(t.var * s + k.var * d for t, s, k, d in zip(space, stride, kernel, dilation, strict=True))
    channel = group.var * inner.extent + inner.var
    out_channel = group.var * out.extent + out.var
    places = (batch.var, out_channel, *(t.var for t in space))
    more = _more(operands, dy, stride)
    if more:
        space = (*space[:-1], Axis(space[-1].name, space[-1].extent + more))
        none, ones = (0,) * len(space), (1,) * len(space)
        right = operands.bordered(dy, none, ones, [t.extent for t in space], places)
    else:
        right = operands.read(dy, places)

    def contraction(left: O, last: Axis, position: DimLike) -> Contraction[O]:
        return Contraction(
            "conv_weight_grad",
            (group, out, inner, *kernel[:-1], last),
            (batch, *space),
            left,
            right,
            (out_channel, inner.var, *(k.var for k in kernel[:-1]), position),
            dw.type.shape,
            dw.type.dtype,
        )

    taps = dw.type.shape[-1]
    phases = _phases(node, operands, dy.type.shape[2:], taps, (batch.var, channel, *where[:-1]))
    if phases is None:
        left = _padded(operands, x, (batch.var, channel, *where), padding, more)
        made = contraction(left, kernel[-1], kernel[-1].var)
        zeros = dims.exact_div(made.flops, space[-1].extent) * more
        return [replace(made, work=made.flops - zeros) if more else made]
    found = []
    for part in range(min(phases.every, taps)):
        last = Axis(kernel[-1].name, -(-(taps - part) // phases.every))
        left = phases.at(space[-1].var + last.var, part)
        found.append(contraction(left, last, last.var * phases.every + part))
    return found


def _more(operands: Reader[O], dy: Value, stride: Sequence[int]) -> int:
    """How many positions of zeros to add up with each of dy's rows, so that a row has whole steps of the sum."""
    length, step = dy.type.shape[-1], operands.step(dy)
    if step == 1 or stride[-1] != 1 or not isinstance(length, int):
        return 0
    more = -length % step
    return more if more <= MOST_MORE * length else 0


def _input_grad(node: Node, operands: Reader[O]) -> list[Contraction[O]]:
    """One contraction for each phase: positions q*stride + phase of dx read the same kernel positions."""
    dy, w = node.inputs
    (dx,) = node.outputs
    stride, padding, dilation, groups = _geometry(node)
    step = (1,) * len(stride)
    length = dy.type.shape[2:]
    if prod(stride) > MOST_PHASES:
        step, stride = stride, step
    elif operands.has_phases and stride[-1] > 1 and _zeros(w.type.shape, stride, groups) <= MOST_ZEROS:
        step, stride = (*step[:-1], stride[-1]), (*stride[:-1], 1)
    length = tuple((t - 1) * s + 1 for t, s in zip(length, step, strict=True))
    low: list[int] = []
    space: list[DimLike] = []
    for s, size, k, pad, d, every in zip(
        stride, dx.type.shape[2:], w.type.shape[2:], padding, dilation, step, strict=True
    ):
        reach = (_static(k, "a kernel's size") - 1) * d
        low.append(max(0, -((pad - reach) // s)))
        last = every - 1  # zeros behind the last element
        space.append(low[-1] + dims.floordiv(size + pad + s - 1 + max(0, pad - reach), s) + last)
    bordered = any(low) or max(step) > 1 or tuple(space) != tuple(length)
    found = []
    for phases in product(*map(range, stride)):
        names = _SPATIAL[len(stride)]
        dimensions = [
            _phase(*row)
            for row in zip(
                names, phases, stride, dx.type.shape[2:], w.type.shape[2:], padding, dilation, length, low
            )
        ]
        batch, group, out, inner, _, _ = _axes(dy.type.shape, w.type.shape, groups, length)
        out_channel, channel = group.var * out.extent + out.var, group.var * inner.extent + inner.var
        at = tuple(
            d.position + (border if bordered else 0) for d, border in zip(dimensions, low, strict=True)
        )
        index = (batch.var, out_channel, *at)
        found.append(
            Contraction(
                "conv_input_grad",
                (batch, group, inner, *(d.along for d in dimensions)),
                (out, *(d.kernel for d in dimensions)),
                operands.bordered(dy, low, step, space, index) if bordered else operands.read(dy, index),
                operands.read(w, (out_channel, inner.var, *(d.kernel_position for d in dimensions))),
                (
                    batch.var,
                    channel,
                    *(d.along.var * s + p for d, s, p in zip(dimensions, stride, phases, strict=True)),
                ),
                dx.type.shape,
                dx.type.dtype,
                {d.kernel.name: d.window for d in dimensions if d.window is not None},
            )
        )
    return [c for c in found if all(a.extent != 0 for a in c.parallel)]


def _zeros(w: Sequence[DimLike], stride: Sequence[int], groups: int) -> float:
    """Products with zeros for an element of dx where zeros stand between dy's elements along its rows."""
    products = dims.bounds(dims.floordiv(w[0], groups) * dims.product(w[2:]))[1]
    return products * (stride[-1] - 1) / prod(stride)


@dataclass(frozen=True)
class _Phase:
    """One dimension of one phase of dx: position q of the axis `along` takes, for position j of the axis
    `kernel`, the kernel at `kernel_position` and dy at `position`."""

    along: Axis
    kernel: Axis
    position: DimLike
    kernel_position: DimLike
    window: Window | None


def _phase(
    name: str,
    phase: int,
    stride: int,
    size: DimLike,
    kernel: int,
    padding: int,
    dilation: int,
    length: DimLike,
    low: int,
) -> _Phase:
    """dy's position is (q*stride + phase + padding - k*dilation) / stride, which is whole for every k that is
    `first` more than a multiple of `every`."""
    every = stride // gcd(stride, dilation)
    first = next(
        (k for k in range(min(every, kernel)) if (phase + padding - k * dilation) % stride == 0), kernel
    )
    along = Axis(name, dims.floordiv(size - phase + stride - 1, stride))
    taps = Axis("k" + name, -(-(kernel - first) // every))
    spread = every * dilation // stride
    offset = (phase + padding - first * dilation) // stride
    start = along.var + offset
    window = None
    if low or offset > 0:
        begin = _at_least_zero(dims.floordiv(start - (length - 1) + (spread - 1), spread))
        window = Window(name, begin, dims.minimum(taps.extent - 1, dims.floordiv(start, spread)), up=True)
    return _Phase(along, taps, start - taps.var * spread, first + taps.var * every, window)


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


def _padded(operands: Reader[O], x: Value, index: IndexTuple, padding: Sequence[int], more: int = 0) -> O:
    """With `more` zeros behind each row."""
    if not any(padding) and not more:
        return operands.read(x, index)
    shape = [size + 2 * pad for size, pad in zip(x.type.shape[2:], padding, strict=True)]
    shape[-1] += more
    return operands.bordered(x, padding, (1,) * len(padding), shape, index)


def _static(size: DimLike, what: str) -> int:
    if not isinstance(size, int):
        raise NotImplementedError(f"{what} must be a number to lower its gradient, it is {size}")
    return size
