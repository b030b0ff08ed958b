"""`torch.nn.attention.bias`: causal masks of rectangles."""

from __future__ import annotations

import enum

from ...creation import ones
from ...functional_shape import tril
from ...ir import dtypes
from ...tensor import Tensor
from ...torch_function import disabled_torch_function


class CausalVariant(enum.IntEnum):
    """Where the diagonal of the mask ends: at the rectangle's upper left or its lower right corner."""

    UPPER_LEFT = 1
    LOWER_RIGHT = 2


def _mask(variant: CausalVariant, rows: int, columns: int) -> Tensor:
    diagonal = 0 if variant is CausalVariant.UPPER_LEFT else columns - rows
    return tril(ones(rows, columns, dtype=dtypes.bool_), diagonal=diagonal)


class CausalBias(Tensor):
    """bool[seq_len_q, seq_len_kv], True where a query may look. A tensor, to be given as `attn_mask`."""

    __torch_function__ = staticmethod(disabled_torch_function)

    variant: CausalVariant
    seq_len_q: int
    seq_len_kv: int

    def __new__(cls, variant: CausalVariant, seq_len_q: int, seq_len_kv: int) -> CausalBias:
        if not isinstance(variant, CausalVariant):
            raise AssertionError("variant must be a CausalVariant")
        made: CausalBias = Tensor._make_subclass(cls, _mask(variant, seq_len_q, seq_len_kv))
        made.variant, made.seq_len_q, made.seq_len_kv = variant, seq_len_q, seq_len_kv
        return made


def causal_upper_left(*size: int) -> CausalBias:
    """A query sees its own and earlier places, counted from the first."""
    if len(size) != 2:
        raise RuntimeError("causal_upper_left only supports 2D tensors")
    return CausalBias(CausalVariant.UPPER_LEFT, *size)


def causal_lower_right(*size: int) -> CausalBias:
    """A query sees its own and earlier places, counted from the last."""
    if len(size) != 2:
        raise RuntimeError("causal_lower_right only supports 2D tensors")
    return CausalBias(CausalVariant.LOWER_RIGHT, *size)


__all__ = ["CausalBias", "CausalVariant", "causal_lower_right", "causal_upper_left"]
