"""Cross entropy of a linear layer's outputs, in one function."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..functional_shape import cat
from ..ir import dtypes
from ..ir.dtypes import DType
from ..tensor import Tensor
from ..user_warnings import warn_user
from .linear import linear
from .loss_functions import cross_entropy

_POLICIES = ("auto", "accurate", "balanced", "compact")


@dataclasses.dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How `linear_cross_entropy` goes through the batch in pieces, so that not all logits are in memory at once.

    batch_chunk_size: rows per piece; or `chunking_method` "aspect_ratio[:n]", which makes a piece's logits as large as
    the input, over n ("auto": n = 2, for 16-bit types 1). The gradients are those of the tape, which may be asked for
    several times, and matmuls accumulate in float32: `allow_retain_graph`, `acc_policy` and `acc_dtype` are checked
    and change nothing.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: DType | None = None

    def __post_init__(self) -> None:
        if self.acc_policy not in _POLICIES:
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}")
        if self.chunking_method is not None and self.chunking_method != "auto":
            name, _, factor = self.chunking_method.partition(":")
            if name != "aspect_ratio" or (factor and not (factor.isdigit() and int(factor) > 0)):
                raise ValueError(f"invalid chunking_method: {self.chunking_method!r}")
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {size!r}")

    def rows(self, batch: int, features: int, classes: int, dtype: DType) -> int:
        """How many rows a piece has."""
        if self.batch_chunk_size is not None and self.chunking_method in (None, "auto"):
            return self.batch_chunk_size
        if self.chunking_method is None:
            return batch
        method = self.chunking_method
        if method == "auto":
            method = "aspect_ratio" if dtype in (dtypes.f16, dtypes.bf16) else "aspect_ratio:2"
        factor = int(method.partition(":")[2] or 1)
        wanted = -(-batch // -(-classes // features))
        found = min((1 << (wanted - 1).bit_length()) // factor, batch)
        if self.batch_chunk_size is not None and self.batch_chunk_size != found:
            raise ValueError(
                f"batch_chunk_size={self.batch_chunk_size} and chunking_method={self.chunking_method!r} disagree"
            )
        return max(found, 1)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target): input[n, f] or [f], linear_weight[c, ..., f],
    target[n, ...] or probabilities [n, c, ...]. With `options` the batch goes through in pieces."""
    if input.ndim not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {input.ndim}")
    if linear_weight.ndim < 2:
        raise RuntimeError(f"expected linear_weight with dimensionality at least 2, got {linear_weight.ndim}")
    lead, features = tuple(input.shape[:-1]), input.shape[-1]
    if features != linear_weight.shape[-1]:
        raise RuntimeError(
            "expected equal input and linear_weight last dimensions (in_features), got "
            f"{features} and {linear_weight.shape[-1]}, respectively"
        )
    classes, outer = linear_weight.shape[0], tuple(linear_weight.shape[1:-1])
    if linear_bias is not None and tuple(linear_bias.shape) != (classes, *outer):
        raise RuntimeError(f"expected linear_bias shape {(classes, *outer)}, got {tuple(linear_bias.shape)}")
    if outer and not lead:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, "
            f"(N, {features}), got unbatched input with shape {tuple(input.shape)}"
        )
    shape = (*lead, classes, *outer)
    if tuple(target.shape) == shape and ignore_index is not None:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    arguments: dict[str, Any] = {
        "weight": weight,
        "ignore_index": -100 if ignore_index is None else ignore_index,
        "label_smoothing": label_smoothing,
    }
    flat = linear_weight.reshape(-1, features)
    bias = None if linear_bias is None else linear_bias.reshape(-1)

    def losses(rows: Tensor, wanted: Tensor, reduction: str) -> Tensor:
        logits = linear(rows, flat, bias).reshape(*rows.shape[:-1], classes, *outer)
        return cross_entropy(logits, wanted, reduction=reduction, **arguments)

    if options is None:
        return losses(input, target, reduction)
    if outer or reduction not in ("mean", "sum", "none") or label_smoothing or target.dtype is not dtypes.i64:
        warn_user(
            "linear_cross_entropy: ``options`` ignored; chunked path needs reduction in {'mean','sum','none'}, "
            "label_smoothing == 0, target.dtype == int64, out_features == (). Got "
            f"reduction={reduction!r}, label_smoothing={label_smoothing}, target.dtype={target.dtype}, "
            f"out_features={outer}, tracing=False, "
            f"linear_bias.shape={None if linear_bias is None else tuple(linear_bias.shape)}."
        )
        return losses(input, target, reduction)
    if not lead:
        return losses(input, target, reduction)
    step = options.rows(int(lead[0]), int(features), int(classes), input.dtype)
    if step >= lead[0]:
        return losses(input, target, reduction)
    pieces = [
        losses(rows, wanted, "none" if reduction == "none" else "sum")
        for rows, wanted in zip(input.split(step), target.split(step))
    ]
    if reduction == "none":
        return cat(pieces)
    total = pieces[0]
    for piece in pieces[1:]:
        total = total + piece
    if reduction == "sum":
        return total
    kept = target != arguments["ignore_index"]
    if weight is None:
        return total / kept.sum().to(total.dtype)
    used = weight.index_select(0, target.where(kept, 0)) * kept.to(weight.dtype)
    return total / used.sum()


__all__ = ["LinearCrossEntropyOptions", "linear_cross_entropy"]
