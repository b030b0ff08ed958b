"""Losses of rankings, distances and labels: zero beyond a margin."""

from __future__ import annotations

from collections.abc import Callable

from .. import functional_pointwise as pointwise
from ..autocast import full_precision
from ..creation import counted
from ..functional_cumulative import cumsum
from ..functional_indexing import gather
from ..half_precision import in_float32
from ..ir import dtypes
from ..tensor import Tensor
from .activations import logsigmoid, softplus
from .normalization import pairwise_distance
from .reduction import check, legacy, reduced


@full_precision
@in_float32
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target * (input1 - input2)); the target 1 or -1 says which should be larger."""
    reduction = legacy(size_average, reduce, reduction)
    if input1.ndim != input2.ndim or input1.ndim != target.ndim:
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
            f"{input1.shape}, input2: {input2.shape}, target: {target.shape} "
        )
    return reduced((-target * (input1 - input2) + float(margin)).clamp(min=0), reduction)


@full_precision
@in_float32
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """A distance where the target is 1, max(0, margin - distance) where it is -1."""
    reduction = legacy(size_average, reduce, reduction)
    far = pointwise.where(target != 1, (margin - input).clamp(min=0), 0.0)
    near = pointwise.where(target != -1, input, 0.0)
    return reduced(far + near, reduction)


@full_precision
@in_float32
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cosine where the target is 1, max(0, cosine - margin) where it is -1."""
    reduction = legacy(size_average, reduce, reduction)
    dim = target.ndim
    if dim not in (0, 1):
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim != dim + 1 or input2.ndim != dim + 1:
        kind = f"{dim}D target tensor expects {dim + 1}D input tensors"
        raise RuntimeError(
            f"{kind}, but found inputs with sizes {list(input1.shape)} and {list(input2.shape)}."
        )
    sizes = [(x * x).sum(dim) + 1e-12 for x in (input1, input2)]
    cosine = (input1 * input2).sum(dim) / (sizes[0] * sizes[1]).sqrt()
    alike = pointwise.where(target == 1, 1.0 - cosine, 0.0)
    unlike = pointwise.where(target == -1, (cosine - margin).clamp(min=0), 0.0)
    return reduced(alike + unlike, reduction)


@full_precision
@in_float32
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + |anchor - positive| - |anchor - negative|). `swap`: the nearer of anchor and positive to the
    negative. V. Balntas et al., 2016."""
    reduction = legacy(size_average, reduce, reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    return triplet_margin_with_distance_loss(
        anchor,
        positive,
        negative,
        distance_function=lambda a, b: pairwise_distance(a, b, p, eps),
        margin=margin,
        swap=swap,
        reduction=reduction,
    )


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any distance."""
    check(reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but "
            f"got: anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return reduced((near - far + margin).clamp(min=0), reduction)


@full_precision
@in_float32
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of max(0, margin - x[target] + x[class])**p, without the target itself."""
    reduction = legacy(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    x = input if input.ndim == 2 else input.reshape(1, -1)
    count = x.shape[1]
    column = target.reshape(-1, 1)
    short = (x - gather(x, 1, column) + margin).clamp(min=0)
    terms = short if p == 1 else short * short
    if weight is not None:
        terms = terms * weight.index_select(0, column.reshape(-1)).reshape(-1, 1)
    losses = pointwise.where(counted(count, 0, 1, dtypes.i64) == column, 0.0, terms).sum(1) / count
    return reduced(losses if input.ndim == 2 else losses.reshape(target.shape), reduction)


@full_precision
@in_float32
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The sum over labels and other classes of max(0, 1 - x[label] + x[class]), over the number of classes. A row
    of the target lists labels up to its first negative number."""
    reduction = legacy(size_average, reduce, reduction)
    x, labels = (input, target) if input.ndim == 2 else (input.reshape(1, -1), target.reshape(1, -1))
    count = x.shape[1]
    listed = cumsum((labels < 0).to(dtypes.i64), 1) == 0
    safe = pointwise.where(listed, labels, 0)
    hit = (safe.unsqueeze(2) == counted(count, 0, 1, dtypes.i64)).logical_and(listed.unsqueeze(2))
    short = (x.unsqueeze(1) - gather(x, 1, safe).unsqueeze(2) + 1.0).clamp(min=0)
    pairs = listed.unsqueeze(2).logical_and(hit.any(1, keepdim=True).logical_not())
    losses = pointwise.where(pairs, short, 0.0).sum((1, 2)) / count
    return reduced(losses if input.ndim == 2 else losses.reshape(()), reduction)


@full_precision
@in_float32
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target * input)), the target 1 or -1."""
    reduction = legacy(size_average, reduce, reduction)
    return reduced(softplus(-target * input, threshold=50.0), reduction)


@in_float32
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross entropy with logits, averaged over the classes of the last dim."""
    reduction = legacy(size_average, reduce, reduction)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        losses = losses * weight
    return reduced(losses.sum(-1) / input.shape[-1], reduction)
