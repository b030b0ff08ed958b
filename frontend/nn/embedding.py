"""Rows looked up by number, and rows with a single 1."""

from __future__ import annotations

from .. import functional_pointwise as pointwise
from ..dispatch import apply, op_named
from ..ir import dtypes
from ..tensor import Tensor


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of weight[n, d] by index: result[..., d]. The row `padding_idx` gets no gradient."""
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise NotImplementedError("embedding: max_norm, scale_grad_by_freq and sparse are not supported")
    if input.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {input.type()} instead (while checking arguments for embedding)"
        )
    if padding_idx is not None:
        count = weight.shape[0]
        if not -count <= padding_idx < count:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= count
    rows: Tensor = apply(op_named("index_select"), (weight, input), {"dim": 0}, "EmbeddingBackward0")
    if padding_idx is not None and rows.requires_grad:
        rows = pointwise.where((input == padding_idx).unsqueeze(-1), rows.detach(), rows)
    return rows


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows with a single 1 at the given class."""
    if tensor.dtype is not dtypes.i64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    classes: Tensor = apply(op_named("iota"), (), {"shape": (num_classes,), "dim": 0, "dtype": dtypes.i64})
    return (tensor.unsqueeze(-1) == classes).to(dtypes.i64)
