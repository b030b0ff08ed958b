"""Dropout functions."""

from __future__ import annotations

from ..dispatch import apply, op_named
from ..inplace import overwrite
from ..random import random_call
from ..tensor import Tensor


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability `p` and scale the rest by 1 / (1 - p), in training; else the input
    itself.

    The mask comes from the counter-based stream (`random.random_call`), not from PyTorch's CPU generator: the
    same eager and compiled, other numbers than PyTorch's.
    """
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input

    def compute() -> Tensor:
        if p == 1.0:
            return input * 0.0
        state, stream = random_call()
        result: Tensor = apply(
            op_named("dropout"), (input, state), {"p": float(p), "stream": stream}, "MulBackward0"
        )
        return result

    return overwrite(input, compute) if inplace else compute()
