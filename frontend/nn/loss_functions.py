"""Losses as plain functions."""

from __future__ import annotations

import math
from typing import Any

from .. import functional_pointwise as pointwise
from ..arguments import tensor_argument
from ..autocast import full_precision
from ..dispatch import apply, op_named
from ..functional_host import known_elements
from ..half_precision import in_float32
from ..tensor import Tensor, scalar_type_name
from ..user_warnings import warn_user
from .activations import log_softmax
from .reduction import check, legacy, reduced


def _same_size(input: Tensor, target: Tensor) -> None:
    if tuple(input.shape) != tuple(target.shape):
        warn_user(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). "
            "This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size."
        )


def _times(losses: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    if tuple(weight.shape) != tuple(input.shape):
        raise ValueError("Weights and input must have the same size.")
    return losses * weight


def _weighted(losses: Tensor, input: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """The losses times their weights; "mean" divides by the sum of the weights."""
    weighted = _times(losses, input, weight)
    return weighted.sum() / weight.sum() if reduction == "mean" else reduced(weighted, reduction)


@full_precision
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)**2."""
    reduction = legacy(size_average, reduce, reduction)
    _same_size(input, target)
    if weight is not None:
        return _weighted((input - target) ** 2, input, weight, reduction)
    if tuple(input.shape) != tuple(target.shape) or input.dtype is not target.dtype:
        return reduced((input - target) ** 2, reduction, "MseLossBackward0")
    return apply(op_named("mse_loss"), (input, target), {"reduction": reduction}, "MseLossBackward0")


@full_precision
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|."""
    reduction = legacy(size_average, reduce, reduction)
    _same_size(input, target)
    if weight is not None:
        return _weighted((input - target).abs(), input, weight, reduction)
    return reduced((input - target).abs(), reduction, "MeanBackward0" if reduction == "mean" else None)


@full_precision
@in_float32
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d**2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    reduction = legacy(size_average, reduce, reduction)
    _same_size(input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0.0:
        return l1_loss(input, target, reduction=reduction)
    difference = input - target
    size = difference.abs()
    near = difference * difference * (0.5 / beta)
    return reduced(pointwise.where(size < beta, near, size - 0.5 * beta), reduction, "SmoothL1LossBackward0")


@full_precision
@in_float32
def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d**2 / 2 where |d| < delta, else delta * (|d| - delta / 2)."""
    _same_size(input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    difference = input - target
    size = difference.abs()
    values = pointwise.where(size < delta, difference * difference * 0.5, (size - 0.5 * delta) * delta)
    if weight is not None:
        return reduced(_times(values, input, weight), check(reduction))
    return reduced(values, check(reduction), "HuberLossBackward0")


@full_precision
@in_float32
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log(target) - input), 0 where the target is 0; "batchmean" divides the sum by the batch
    size."""
    if not target.dtype.is_floating_point or not input.dtype.is_floating_point:
        raise RuntimeError("kl_div: Integral inputs not supported.")
    if reduction == "mean" and size_average is None and reduce is None:
        warn_user(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release."
        )
    batch_mean = reduction == "batchmean"
    reduction = "sum" if batch_mean else legacy(size_average, reduce, reduction)
    if log_target:
        values = target.exp() * (target - input)
    else:
        positive = target > 0
        safe = pointwise.where(positive, target, 1.0)
        values = pointwise.where(positive, target * safe.log(), 0.0) - target * input
    result = reduced(values, reduction)
    return result / input.shape[0] if batch_mean and input.ndim else result


@full_precision
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[n, target[n]], weighted by class; "mean" divides by the sum of the weights used."""
    reduction = legacy(size_average, reduce, reduction)
    operands = (input, target) if weight is None else (input, target, weight)
    attrs = {"reduction": reduction, "ignore_index": int(ignore_index)}
    name = "NllLossBackward0" if input.ndim <= 2 else "NllLoss2DBackward0"
    result: Tensor = apply(op_named("nll_loss"), operands, attrs, name)
    return result


@full_precision
@in_float32
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative log likelihood of classes under softmax(input): `target` holds class numbers or
    probabilities."""
    reduction = legacy(size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing:g}")
    tensor_argument(target, "cross_entropy_loss", "target", 2)
    dim = 0 if input.ndim == 1 else 1
    if input.ndim == 0:
        raise RuntimeError("cross_entropy: expected input with at least 1 dimension")
    classes = input.shape[dim]
    if weight is not None and (weight.ndim != 1 or weight.shape[0] != classes):
        raise RuntimeError(
            "cross_entropy: weight tensor should be defined either for all "
            f"{classes} classes or no classes but got weight tensor of shape: {list(weight.shape)}"
        )
    logp = log_softmax(input, dim)
    if target.dtype.is_floating_point and tuple(target.shape) == tuple(input.shape):
        return _soft_targets(logp, target, weight, reduction, label_smoothing, dim, classes)
    if label_smoothing == 0.0:
        return nll_loss(logp, target, weight, ignore_index=ignore_index, reduction=reduction)
    return _smoothed(logp, target, weight, ignore_index, reduction, label_smoothing, dim, classes)


def _along_classes(weight: Tensor, like: Tensor, dim: int) -> Tensor:
    """weight[C] shaped to broadcast along the class dim."""
    return weight.reshape(*(-1 if d == dim else 1 for d in range(like.ndim)))


def _soft_targets(
    logp: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    smoothing: float,
    dim: int,
    classes: Any,
) -> Tensor:
    if smoothing > 0.0:
        target = target * (1.0 - smoothing) + smoothing / classes
    values = logp * target
    if weight is not None:
        values = values * _along_classes(weight, logp, dim)
    if reduction == "none":
        return -values.sum(dim)
    total = -values.sum()
    if reduction == "sum":
        return total
    return total / math.prod(size for d, size in enumerate(logp.shape) if d != dim)


def _smoothed(
    logp: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    dim: int,
    classes: Any,
) -> Tensor:
    likelihood = nll_loss(logp, target, weight, ignore_index=ignore_index, reduction=reduction)
    smooth = -(logp if weight is None else logp * _along_classes(weight, logp, dim)).sum(dim)
    kept = target != ignore_index
    smooth = pointwise.where(kept, smooth, 0.0)
    if reduction == "mean":
        if weight is None:
            smooth = smooth.sum() / kept.to(logp.dtype).sum()
        else:
            safe = pointwise.where(kept, target, 0)
            used = pointwise.where(kept, weight[safe.reshape(-1)].reshape(*target.shape), 0.0)
            smooth = smooth.sum() / used.sum()
    elif reduction == "sum":
        smooth = smooth.sum()
    return likelihood * (1.0 - smoothing) + smooth * (smoothing / classes)


def _check_binary(input: Tensor, target: Tensor, name: str) -> None:
    if tuple(input.shape) != tuple(target.shape):
        if name == "binary_cross_entropy":
            raise ValueError(
                f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) "
                "is deprecated. Please ensure they have the same size."
            )
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")


def _check_same_type(input: Tensor, target: Tensor) -> None:
    if target.dtype is not input.dtype:
        raise RuntimeError(
            f"Found dtype {scalar_type_name(target.dtype)} but expected {scalar_type_name(input.dtype)}"
        )


@full_precision
@in_float32
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), each logarithm at least -100."""
    reduction = legacy(size_average, reduce, reduction)
    _check_binary(input, target, "binary_cross_entropy")
    _check_same_type(input, target)
    given = known_elements(input)
    if given is not None and given.size and not (given.min() >= 0 and given.max() <= 1):
        raise RuntimeError("all elements of input should be between 0 and 1")
    yes = input.log().clamp(min=-100.0)
    no = (-input).log1p().clamp(min=-100.0)
    values = (target - 1.0) * no - target * yes
    if weight is not None:
        values = (values * weight).to(values.dtype)
    return reduced(values, reduction, "BinaryCrossEntropyBackward0")


@full_precision
@in_float32
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without its loss of precision."""
    reduction = legacy(size_average, reduce, reduction)
    _check_binary(input, target, "binary_cross_entropy_with_logits")
    if not target.dtype.is_floating_point and not target.dtype.is_complex:
        raise RuntimeError(
            f"result type {scalar_type_name(input.dtype)} can't be cast to the desired output type "
            f"{scalar_type_name(target.dtype)}"
        )
    negative_log: Tensor = apply(op_named("softplus"), (-input,), {"beta": 1.0, "threshold": 50.0})
    if pos_weight is not None:
        negative_log = negative_log * ((pos_weight - 1.0) * target + 1.0)
    values = (1.0 - target) * input + negative_log
    if weight is not None:
        values = values * weight
    return reduced(values.to(target.dtype), reduction, "BinaryCrossEntropyWithLogitsBackward0")
