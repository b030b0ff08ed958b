"""The op declarations, by family. Importing this package fills the registry of `ir/op.py`."""

from . import (
    constants,
    contraction,
    gather,
    losses,
    pointwise_binary,
    pointwise_composite,
    pointwise_unary,
    random,
    reduce,
    structure,
    views,
    window,
)

__all__ = [
    "constants",
    "contraction",
    "gather",
    "losses",
    "pointwise_binary",
    "pointwise_composite",
    "pointwise_unary",
    "random",
    "reduce",
    "structure",
    "views",
    "window",
]
