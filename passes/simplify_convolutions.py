"""Rules for convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dims import DimLike
from ..ir.graph import Value
from .simplifier import Call, Simplifier


def taps_in_the_border(s: Simplifier, call: Call) -> Value | None:
    """A kernel without the taps that meet nothing but the border, wherever it stands, such as those of a wide dilation
    over a small image (L.-C. Chen et al., "Rethinking Atrous Convolution", 2017, 3.3). As many are cut off on
    both sides, so that its border stays the same on both."""
    attrs = call.attrs
    image, kernel, result = _sizes(call)
    cut = [
        _cut(*row)
        for row in zip(
            image, kernel, result, attrs["stride"], attrs["padding"], attrs["dilation"], strict=True
        )
    ]
    if not any(cut):
        return None
    size = tuple(k - 2 * c for k, c in zip(kernel, cut))
    padding = tuple(p - c * d for p, c, d in zip(attrs["padding"], cut, attrs["dilation"]))
    smaller = {**attrs, "padding": padding}
    first, second = call.inputs
    around = (0, 0, *cut)
    found: Value
    if call.op.name == "conv_weight_grad":
        channels = attrs["weight_size"][:2]
        inner = s.apply(call.op, (first, second), {**smaller, "weight_size": (*channels, *size)})
        found = s.pad(inner, low=around, high=around, value=0.0)
        return found
    shape = second.type.shape
    stops = (*shape[:2], *(k - c for k, c in zip(shape[2:], cut)))
    inner = s.slice(second, starts=around, stops=stops, steps=(1,) * len(shape))
    found = s.apply(call.op, (first, inner), smaller)
    return found


def _sizes(call: Call) -> tuple[Sequence[DimLike], Sequence[DimLike], Sequence[DimLike]]:
    """Those of the image, of the kernel and of the result in space."""
    first, second, own = (t.shape[2:] for t in (*(v.type for v in call.inputs), call.type))
    match call.op.name:
        case "conv":
            return first, second, own
        case "conv_input_grad":
            return own, second, first
        case _:
            return first, own, second


def _cut(image: DimLike, kernel: DimLike, result: DimLike, stride: int, padding: int, dilation: int) -> int:
    """How many taps at each end of one dim are inside the image for no position of the result."""
    if not (isinstance(image, int) and isinstance(kernel, int) and isinstance(result, int)):
        return 0
    count = 0
    while (
        2 * count + 1 < kernel
        and (result - 1) * stride + count * dilation < padding  # the last position of the first tap
        and (kernel - 1 - count) * dilation - padding >= image  # the first position of the last one
        and padding >= (count + 1) * dilation
    ):
        count += 1
    return count
