"""The op declarations, by family. Importing this package fills the registry of `ir/op.py`."""

from . import (
    constants,
    contraction,
    convolution,
    gather,
    losses,
    normalization,
    pointwise_binary,
    pointwise_composite,
    pointwise_unary,
    random,
    rearrangement,
    reduce,
    structure,
    views,
    window,
)

__all__ = [
    "constants",
    "contraction",
    "convolution",
    "gather",
    "losses",
    "normalization",
    "pointwise_binary",
    "pointwise_composite",
    "pointwise_unary",
    "random",
    "rearrangement",
    "reduce",
    "structure",
    "views",
    "window",
]
