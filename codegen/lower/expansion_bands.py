"""The bands of rows and blocks of channels in which an expansion is made and filtered (`expansion.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Node
from ..target import Target
from .contraction_cycles import Core, typical
from .contraction_tile import loop_var

# Bytes of the stack for a block's channels, and for all that is on it; the share of the second-level cache that this and
# the rows that channels are made of may take.
EXPANDED_BYTES, STACK_BYTES, SHARE = 1 << 17, 1 << 18, 0.75
# Channels of a block. With a projection more of them, for its sums are read and written once a block.
FEWEST_CHANNELS, FEWEST_WITH_SUMS, MOST_CHANNELS = 4, 8, 32
# Products that an element of the expanded image is the sum of, at most: larger weights are better packed.
MOST_PRODUCTS = 128
# Cycles for a byte of the expanded images that is not written and read: eight images of 96 channels of 112 x 112 took
# 9.9 ms in two kernels, 7.0 in one (AMD Zen 3).
SAVED = 0.2
# Loops: bands of an image, blocks of channels, channels of a block. Where a band's rows begin is a number by this name.
BAND, BLOCK, CHANNEL, FIRST = "band", "block", "channel", "first"


@dataclass(frozen=True)
class Bands:
    """`count` bands of `rows` of the result, which each need so many of the expanded image's `height` rows, and begin so
    many of those `apart`, the first so many rows of zeros `above` it; and so many `blocks` of so many channels."""

    count: int
    rows: int
    needed: int
    apart: int
    above: int
    height: int
    blocks: int
    channels: int

    def __str__(self) -> str:
        return f"bands of {self.rows} rows, blocks of {self.channels} channels"

    @property
    def first(self) -> DimLike:
        """The first row of the expanded image that a band makes: so that all of them are inside it, at its ends too."""
        start = loop_var(BAND, self.count) * self.apart - self.above
        return dims.minimum(start - dims.minimum(start, 0), self.height - self.needed)

    @property
    def begin(self) -> DimLike:
        """The same, as a number that the kernel has."""
        return loop_var(FIRST, self.height - self.needed + 1)

    @property
    def block(self) -> DimLike:
        """A block's first channel."""
        return loop_var(BLOCK, self.blocks) * self.channels

    @property
    def channel(self) -> DimLike:
        """The number of a channel in its block."""
        return loop_var(CHANNEL, self.channels)


def bands_of(cores: Sequence[Node], target: Target) -> Bands | None:
    """Bands and blocks that fit; None where there are none, or rows that are made twice take longer than memory does."""
    expanding, filtering, *projecting = cores
    image, kernel = filtering.inputs
    (result,) = filtering.outputs
    channels, height, *row = _numbers(image.type.shape[1:])
    rows, *short = _numbers(result.type.shape[2:])
    taps, *_ = _numbers(kernel.type.shape[2:])
    products = prod(_numbers(expanding.inputs[1].type.shape[1:]))
    projected = sum(_numbers(node.outputs[0].type.shape[1:2])[0] for node in projecting)
    stride, dilation, above = (filtering.attrs[name][0] for name in ("stride", "dilation", "padding"))
    images, dtype = typical(image.type.shape[0]), result.type.dtype
    core = Core.of(target, dtype)
    if products > MOST_PRODUCTS:
        return None
    # What an element takes to be made, and what it saves.
    most = SAVED * dtype.itemsize * core.lanes * core.per_cycle / products
    fewest = min(channels, FEWEST_WITH_SUMS if projecting else FEWEST_CHANNELS)
    best: tuple[float, Bands] | None = None
    for band in (n for n in range(1, rows + 1) if rows % n == 0):
        count = rows // band
        needed = min((band - 1) * stride + (taps - 1) * dilation + 1, height)
        line, kept = (n * dtype.itemsize for n in (needed * prod(row), band * prod(short)))
        sums, each = projected * kept, line + kept * len(projecting)
        near = min(STACK_BYTES, int(target.l2 * SHARE) - products * line) - sums
        room = min(EXPANDED_BYTES // line, near // each, MOST_CHANNELS)
        block = max((n for n in range(1, room + 1) if channels % n == 0), default=0)
        again = needed * count / height - 1
        if block < fewest or again > most or sums > EXPANDED_BYTES:
            continue
        cost = again + 1 / (images * count)  # of few tasks, cores wait for the last
        if best is None or cost < best[0]:
            best = cost, Bands(count, band, needed, band * stride, above, height, channels // block, block)
    return None if best is None else best[1]


def _numbers(shape: Sequence[DimLike]) -> list[int]:
    """Dims that fusion left to be numbers."""
    assert all(isinstance(d, int) for d in shape)
    return [d for d in shape if isinstance(d, int)]
