"""Rows looked up by number, sums of such rows, and rows with a single 1."""

from __future__ import annotations

import math

from .. import functional_pointwise as pointwise
from ..arguments import as_int
from ..autograd.grad_mode import no_grad
from ..creation import counted, zeros
from ..dispatch import apply, op_named
from ..functional_cumulative import cumsum
from ..functional_host import known_elements
from ..functional_indexing import gather
from ..ir import dtypes
from ..tape_folded import folded
from ..tensor import Tensor
from ..user_warnings import warn_user

_NO_SPARSE = "{}: sparse gradients are not supported; call it with sparse=False"


def _rows(input: Tensor, weight: Tensor, name: str) -> Tensor:
    if input.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {input.type()} instead (while checking arguments for embedding)"
        )
    rows: Tensor = apply(op_named("index_select"), (weight, input), {"dim": 0}, name)
    return rows


def _counted(input: Tensor, count: int) -> Tensor:
    """How often each of `count` numbers is in the input."""
    flat = input.reshape(-1).to(dtypes.i64)
    ones = zeros(flat.shape, dtype=dtypes.i64) + 1
    return zeros((count,), dtype=dtypes.i64).index_add(0, flat, ones)


def limit_rows(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are looked up so that their norm is at most `max_norm`, in place."""
    with no_grad():
        fixed = weight.detach()
        norms = fixed.norm(norm_type, 1, keepdim=True)
        used = (_counted(input, weight.shape[0]) > 0).unsqueeze(1)
        long = used.logical_and(norms > max_norm)
        weight.mul_(pointwise.where(long, max_norm / (norms + 1e-7), 1.0))


def _by_frequency(rows: Tensor, input: Tensor, count: int) -> Tensor:
    """The rows, their gradients divided by how often each is looked up."""
    often = _counted(input, count).index_select(0, input.reshape(-1)).reshape(input.shape)
    share = often.to(rows.dtype).reciprocal().unsqueeze(-1)
    fixed = rows.detach()
    return fixed + (rows - fixed) * share


def _looked_up(input: Tensor, weight: Tensor, max_norm: float | None, norm_type: float, name: str) -> Tensor:
    """The rows, of which those that are too long have been shortened."""
    if max_norm is None:
        return _rows(input, weight, name)
    if not weight.requires_grad:
        limit_rows(weight, input, max_norm, norm_type)
        return _rows(input, weight, name)

    def compute() -> Tensor:
        # The gradient is the weight's, whatever it was scaled by.
        before = _rows(input, weight, name)
        limit_rows(weight, input, max_norm, norm_type)
        return _rows(input, weight.detach(), name) + (before - before.detach())

    return folded(name, (weight,), compute)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of weight[n, d] by index: result[..., d]. The row `padding_idx` gets no gradient; with `max_norm` the rows
    used are shortened in place; `scale_grad_by_freq` divides gradients by how often a row is used."""
    if sparse:
        raise NotImplementedError(_NO_SPARSE.format("embedding"))
    if padding_idx is not None:
        count = weight.shape[0]
        if not -count <= padding_idx < count:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= count
    rows = _looked_up(input, weight, max_norm, norm_type, "EmbeddingBackward0")
    if scale_grad_by_freq and rows.requires_grad:
        rows = _by_frequency(rows, input, weight.shape[0])
    if padding_idx is not None and rows.requires_grad:
        rows = pointwise.where((input == padding_idx).unsqueeze(-1), rows.detach(), rows)
    return rows


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of rows of weight[n, d] over bags of indices: result[bags, d].

    input[bags, size], or all bags in one row and `offsets`[bags] where each starts (`include_last_offset`: and where
    the last one ends). `padding_idx` does not count; an empty bag gives zeros.
    """
    if weight.dtype is dtypes.i64 and input.is_floating_point():
        warn_user(
            "Argument order of nn.functional.embedding_bag was changed. Usage `embedding_bag(weight, input, ...)` is "
            "deprecated, and should now be `embedding_bag(input, weight, ...)`."
        )
        weight, input = input, weight
    if per_sample_weights is not None and tuple(input.shape) != tuple(per_sample_weights.shape):
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the "
            f"same shape as the input ({input.shape})"
        )
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
                f"sequences. However, found offsets of type {type(offsets)}"
            )
    elif input.ndim != 1:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    elif offsets is None or offsets.ndim != 1:
        raise ValueError("offsets has to be a 1D Tensor" + (" but got None" if offsets is None else ""))
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if sparse:
        raise NotImplementedError(_NO_SPARSE.format("embedding_bag"))
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}'). Please open a feature request on GitHub."
        )
    count = weight.shape[0]
    if padding_idx is not None:
        if not -count <= padding_idx < count:
            raise RuntimeError(
                f"padding_idx must be within the number of embeddings, -{count} through {count - 1}, but got "
                f"{padding_idx}"
            )
        padding_idx %= count
    rows = _looked_up(input, weight, max_norm, norm_type, "EmbeddingBagBackward0")
    if scale_grad_by_freq and rows.requires_grad:
        rows = _by_frequency(rows, input, count)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    kept = None if padding_idx is None else input != padding_idx
    if offsets is None:
        return _full_bags(rows, kept, mode)
    return _ragged_bags(rows, kept, offsets, mode, include_last_offset)


def _bag_of(starts: Tensor, length: int) -> Tensor:
    """Which bag each element is in: one less than how many have started there. One may start behind the last element."""
    return cumsum(_counted(starts, length + 1)[:length], 0) - 1


def bag_sizes(input: Tensor, offsets: Tensor, include_last_offset: bool) -> tuple[Tensor, Tensor]:
    """The bag of each element, and how many elements each bag has."""
    starts = offsets[:-1] if include_last_offset else offsets
    bag = _bag_of(starts, input.shape[0])
    return bag, _counted(bag, starts.shape[0])


def _full_bags(rows: Tensor, kept: Tensor | None, mode: str) -> Tensor:
    """rows[bags, size, d]."""
    if mode == "max":
        if kept is None:
            return rows.max(1).values
        return _largest(rows, kept.unsqueeze(-1), 1)
    if kept is None:
        return rows.sum(1) if mode == "sum" else rows.mean(1)
    total = pointwise.where(kept.unsqueeze(-1), rows, 0.0).sum(1)
    if mode == "sum":
        return total
    return total / kept.sum(1, keepdim=True).clamp(min=1).to(rows.dtype)


def _largest(rows: Tensor, kept: Tensor, dim: int) -> Tensor:
    """The maximum over `dim` of the rows that are kept, zeros where none is."""
    hidden = pointwise.where(kept, rows.detach(), -math.inf)
    place = hidden.argmax(dim, keepdim=True)
    found = gather(rows.expand(hidden.shape), dim, place).squeeze(dim)
    return pointwise.where(kept.any(dim), found, 0.0)


def _ragged_bags(
    rows: Tensor, kept: Tensor | None, offsets: Tensor, mode: str, include_last_offset: bool
) -> Tensor:
    """rows[elements, d]."""
    if include_last_offset:
        # What comes behind the last offset is in a bag of its own, which is not wanted.
        return _ragged_bags(rows, kept, offsets, mode, False)[:-1]
    starts = offsets
    if offsets._array is not None and int(offsets.numel()) and int(offsets[0]) != 0:
        raise RuntimeError(
            "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. "
            f"However, got {int(offsets[0])}"
        )
    length, bags = rows.shape[0], starts.shape[0]
    bag = _bag_of(starts, length)
    if mode == "max":
        member = bag.unsqueeze(0) == counted(bags, 0, 1, dtypes.i64).unsqueeze(1)
        if kept is not None:
            member = member.logical_and(kept.unsqueeze(0))
        return _largest(rows.unsqueeze(0), member.unsqueeze(-1), 1)
    if kept is not None:
        rows = pointwise.where(kept.unsqueeze(-1), rows, 0.0)
    total = zeros((bags, rows.shape[1]), dtype=rows.dtype).index_add(0, bag, rows)
    if mode == "sum":
        return total
    ones = zeros((length,), dtype=dtypes.i64) + 1 if kept is None else kept.to(dtypes.i64)
    sizes = zeros((bags,), dtype=dtypes.i64).index_add(0, bag, ones)
    return total / sizes.clamp(min=1).to(rows.dtype).unsqueeze(-1)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows with a single 1 at the given class."""
    if tensor.dtype is not dtypes.i64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    num_classes = as_int(num_classes)
    given = known_elements(tensor)
    if given is not None:
        if not given.size and num_classes <= 0:
            if num_classes == -1:
                raise RuntimeError("Can not infer total number of classes from empty tensor.")
            raise RuntimeError("Class values must be smaller than num_classes.")
        if given.size and given.min() < 0:
            raise RuntimeError("Class values must be non-negative.")
        if given.size and num_classes != -1 and given.max() >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    classes = counted(num_classes, 0, 1, dtypes.i64)
    return (tensor.unsqueeze(-1) == classes).to(dtypes.i64)
