"""Softmax and losses: composites with gradients that stay accurate where the naive ones do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import (
    Array,
    Shape,
    broadcast,
    check_dim,
    check_same_dtype,
    made,
    needed,
    shape_of,
    shape_text,
    size_value,
    strided,
    uniform,
    values,
    wide,
)

INF, NAN = math.inf, math.nan
_NARROW = (dtypes.f16, dtypes.bf16)
DIM = {"dim": Attr("int")}


def _softmax_infer(kernel: str) -> Any:
    def infer(x: TensorType, dim: int) -> TensorType:
        if not x.dtype.is_floating_point:
            raise NotImplementedError(f"\"{kernel}\" not implemented for '{x.dtype.scalar_type}'")
        check_dim(dim, x.rank)
        return x

    return infer


def _dims(x_shape: Shape, dim: int) -> tuple[int, ...]:
    return (dim,) if x_shape else ()


def _shifted(F: Any, x: Any, dim: int) -> Any:
    """x minus its maximum along `dim`, so that no exponential overflows."""
    return F.sub(x, F.amax(x, dims=_dims(shape_of(F, x), dim), keepdim=True))


def _sum(F: Any, x: Any, dim: int) -> Any:
    return F.sum(x, dims=_dims(shape_of(F, x), dim), keepdim=True)


def _is_empty(F: Any, x: Any, dim: int) -> bool:
    shape = shape_of(F, x)
    return bool(shape) and shape[dim] == 0


def _exp_shifted(x: Array, dim: int) -> tuple[Array, Array, Array]:
    axes = _dims(x.shape, dim)
    shifted = x - np.max(x, axes, keepdims=True, initial=-INF)
    powers = np.exp(shifted)
    return shifted, powers, np.sum(powers, axes, keepdims=True)


def _softmax_numpy(x: Array, dim: int) -> Array:
    _, powers, total = _exp_shifted(x, dim)
    return powers / total


def _log_softmax_numpy(x: Array, dim: int) -> Array:
    shifted, _, total = _exp_shifted(x, dim)
    return shifted - np.log(total)


def _softmax_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    y = ctx.outputs[0]
    return [F.mul(y, F.sub(dy, _sum(F, F.mul(dy, y), ctx.attrs["dim"])))]


def _softmax_decompose(F: Any, x: Any, dim: int) -> Any:
    if _is_empty(F, x, dim):
        return F.exp(x)
    powers = F.exp(_shifted(F, x, dim))
    total = _sum(F, powers, dim)
    if F.type_of(x).dtype in _NARROW:
        return F.div(powers, total)  # the reciprocal would be rounded to eight bits
    # One division for each row; the sum is between 1 and the size, so its reciprocal is an ordinary number.
    return F.mul(powers, F.reciprocal(total))


def _log_softmax_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    return [F.sub(dy, F.mul(F.exp(ctx.outputs[0]), _sum(F, dy, ctx.attrs["dim"])))]


def _log_softmax_decompose(F: Any, x: Any, dim: int) -> Any:
    if _is_empty(F, x, dim):
        return F.exp(x)
    shifted = _shifted(F, x, dim)
    return F.sub(shifted, F.log(_sum(F, F.exp(shifted), dim)))


SOFTMAX_SAMPLES = (
    uniform((3, 5), dim=1),
    uniform((3, 5), dim=0),
    uniform((2, 3, 4), dim=1),
    uniform((), dim=0),
    uniform((4, 1), dim=1),
    uniform((0, 3), dim=1),
    uniform((3, 0), dim=1),
    strided((3, 4), dim=1),
    values([[1000.0, 0.0, -1000.0], [-1e30, 1e30, 0.0]], dim=1),
    values([[-INF, 0.0, 1.0], [-INF, -INF, -INF], [INF, 0.0, 1.0], [NAN, 0.0, 1.0]], dim=1),
)

declare(
    Op(
        "softmax",
        "exp(x) / sum of exp(x) along `dim`, shifted by the maximum. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html",
        infer=_softmax_infer("softmax_lastdim_kernel_impl"),
        numpy=wide(_softmax_numpy),
        attrs=DIM,
        level="composite",
        vjp=_softmax_vjp,
        decompose=_softmax_decompose,
        saves=("output:0",),
        grad_name="SoftmaxBackward0",
        samples=SOFTMAX_SAMPLES,
    )
)
declare(
    Op(
        "log_softmax",
        "x - log(sum of exp(x)) along `dim`, shifted by the maximum. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html",
        infer=_softmax_infer("log_softmax_lastdim_kernel_impl"),
        numpy=wide(_log_softmax_numpy),
        attrs=DIM,
        level="composite",
        vjp=_log_softmax_vjp,
        decompose=_log_softmax_decompose,
        saves=("output:0",),
        grad_name="LogSoftmaxBackward0",
        samples=SOFTMAX_SAMPLES,
    )
)

# Negative log likelihood

REDUCTION = {"reduction": Attr("str", "mean")}


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")


def _class_dim(rank: int) -> int:
    return 0 if rank == 1 else 1


def _nll_infer(
    logp: TensorType,
    target: TensorType,
    weight: TensorType | None = None,
    *,
    reduction: str,
    ignore_index: int,
) -> TensorType:
    _check_reduction(reduction)
    if logp.rank == 0:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if target.dtype not in (dtypes.i64, dtypes.u8):
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {target.dtype.scalar_type}")
    if not logp.dtype.is_floating_point:
        raise NotImplementedError(f"\"nll_loss_out_frame\" not implemented for '{logp.dtype.scalar_type}'")
    dim = _class_dim(logp.rank)
    want = (*logp.shape[:dim], *logp.shape[dim + 1 :])
    if target.shape != want:
        if logp.rank <= 2 and target.rank > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.rank and logp.rank > 1 and target.shape[0] != logp.shape[0]:
            raise ValueError(
                f"Expected input batch_size ({logp.shape[0]}) to match target batch_size ({target.shape[0]})."
            )
        raise RuntimeError(f"Expected target size {shape_text(want)}, got {shape_text(target.shape)}")
    if weight is not None:
        check_same_dtype("nll_loss", logp, weight)
        if weight.shape != (logp.shape[dim],):
            raise RuntimeError(
                f"weight tensor should be defined either for all {logp.shape[dim]} classes or no classes "
                f"but got weight tensor of shape: {shape_text(weight.shape)}"
            )
    return logp.with_shape(target.shape if reduction == "none" else ())


def _nll_numpy(
    logp: Array, target: Array, weight: Array | None = None, *, reduction: str, ignore_index: int
) -> Array:
    dim = _class_dim(logp.ndim)
    classes = logp.shape[dim]
    target = target.astype(np.int64)
    valid = target != ignore_index
    bad = target[valid & ((target < 0) | (target >= classes))]
    if bad.size:
        raise IndexError(f"Target {bad.flat[0]} is out of bounds.")
    safe = np.where(valid, target, 0)
    if not classes:  # nothing but ignored targets: nothing to pick
        weights = picked = np.zeros(target.shape, logp.dtype)
    else:
        picked = np.take_along_axis(logp, np.expand_dims(safe, dim), dim).squeeze(dim)
        weights = np.where(valid, logp.dtype.type(1) if weight is None else weight[safe], logp.dtype.type(0))
    losses = np.where(valid, -picked * weights, logp.dtype.type(0))
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(total, weights.sum())


class _Targets:
    """What the decomposition and the gradient of nll_loss share. Values per class have logp's shape, so that
    they fuse with the log_softmax before them into one pass over the rows."""

    def __init__(self, F: Any, logp: Any, target: Any, weight: Any, ignore_index: int):
        self.F, self.type = F, F.type_of(logp)
        self.dim = _class_dim(self.type.rank)
        shape = self.type.shape
        self.column = tuple(1 if i == self.dim else n for i, n in enumerate(shape))
        row = tuple(n if i == self.dim else 1 for i, n in enumerate(shape))
        self.target = F.convert(target, dtype=dtypes.i64)
        self.valid = F.ne(self.target, ignore_index)
        self.zero = F.constant(0.0, self.type.dtype)
        self.hit = F.logical_and(
            F.eq(
                F.iota(shape=row, dim=self.dim, dtype=dtypes.i64), F.reshape(self.target, shape=self.column)
            ),
            F.reshape(self.valid, shape=self.column),
        )
        self.weight = None if weight is None else F.reshape(weight, shape=row)

    def weighted(self, value: Any) -> Any:
        return value if self.weight is None else self.F.mul(value, self.weight)

    def total_weight(self) -> Any:
        """The sum of the weights of the targets that count."""
        F = self.F
        if self.weight is None:
            counted = F.convert(self.valid, dtype=self.type.dtype)
        else:
            counted = F.sum(F.where(self.hit, self.weight, self.zero), dims=(self.dim,))
        return F.sum(counted, dims=tuple(range(self.type.rank - 1)))


def _nll_decompose(
    F: Any, logp: Any, target: Any, weight: Any = None, *, reduction: str, ignore_index: int
) -> Any:
    type_ = F.type_of(logp)
    classes = type_.shape[_class_dim(type_.rank)]
    target = F.convert(target, dtype=dtypes.i64)
    target = F.check_index(target, size=(classes,), ignored=ignore_index, what="Target")
    t = _Targets(F, logp, target, weight, ignore_index)
    losses = F.neg(F.sum(F.where(t.hit, t.weighted(logp), t.zero), dims=(t.dim,)))
    if reduction == "none":
        return losses
    total = F.sum(losses, dims=tuple(range(t.type.rank - 1)))
    return total if reduction == "sum" else F.div(total, t.total_weight())


def _nll_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    logp, target, *weight = ctx.inputs
    t = _Targets(F, logp, target, weight[0] if weight else None, ctx.attrs["ignore_index"])
    scale = F.neg(dy)
    if ctx.attrs["reduction"] == "mean":
        scale = F.div(scale, t.total_weight())
    elif ctx.attrs["reduction"] == "none":
        scale = F.reshape(scale, shape=t.column)
    return [F.where(t.hit, t.weighted(scale), t.zero), *(None for _ in ctx.inputs[1:])]


def _nll(logp: tuple[int, ...], target: tuple[int, ...], weighted: bool = False, **attrs: Any) -> Any:
    classes = logp[_class_dim(len(logp))]

    def make(rng: Any) -> list[Array]:
        operands = [rng.normal(size=logp), rng.integers(0, classes, target)]
        return [*operands, rng.uniform(0.5, 2.0, classes)] if weighted else operands

    return made(make, label=f"{list(logp)} {attrs.get('reduction', 'mean')}", **attrs)


def _ignored(rng: Any) -> list[Array]:
    return [rng.normal(size=(4, 3)), np.array([0, -100, 2, -100])]


declare(
    Op(
        "nll_loss",
        "nll_loss(logp, target[, weight]): -weight[target] * logp[target] for each target, a class number, "
        "that is not `ignore_index`; `mean` divides by the sum of those weights. No gradient flows to the "
        "weight. A target out of range raises IndexError. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html",
        infer=_nll_infer,
        numpy=wide(_nll_numpy),
        attrs={**REDUCTION, "ignore_index": Attr("int", -100)},
        arity=(2, 3),
        level="composite",
        vjp=_nll_vjp,
        decompose=_nll_decompose,
        saves=("input:1", "input:2"),
        grad_name="NllLossBackward0",
        samples=(
            _nll((5, 3), (5,)),
            _nll((5, 3), (5,), reduction="sum"),
            _nll((5, 3), (5,), reduction="none"),
            _nll((5, 3), (5,), weighted=True),
            _nll((5, 3), (5,), weighted=True, reduction="none", ignore_index=1),
            _nll((5, 3), (5,), weighted=True, ignore_index=1),
            _nll((2, 3, 4), (2, 4)),
            _nll((2, 3, 2, 2), (2, 2, 2), weighted=True, reduction="sum"),
            _nll((3,), ()),
            _nll((0, 3), (0,), reduction="sum"),
            made(_ignored, label="ignored"),
            made(_ignored, label="ignored none", reduction="none"),
            made(
                lambda rng: [rng.normal(size=(2, 3)), np.array([-100, -100])],
                gradient=False,
                label="all ignored",
            ),
        ),
    )
)

# Mean squared error


def _mse_infer(x: TensorType, y: TensorType, reduction: str) -> TensorType:
    _check_reduction(reduction)
    check_same_dtype("mse_loss", x, y)
    if not x.dtype.is_floating_point:
        raise NotImplementedError(f"\"mse_cpu\" not implemented for '{x.dtype.scalar_type}'")
    shape = broadcast(x.shape, y.shape)
    return x.with_shape(shape if reduction == "none" else ())


def _mse_numpy(x: Array, y: Array, reduction: str) -> Array:
    squares = np.square(x - y)
    if reduction == "none":
        return squares
    total = np.sum(squares)
    with np.errstate(invalid="ignore"):
        return total if reduction == "sum" else np.divide(total, x.dtype.type(squares.size))


def _mse_size(F: Any, x: Any, y: Any) -> Any:
    count: Any = 1
    for size in broadcast(shape_of(F, x), shape_of(F, y)):
        count = count * size
    return size_value(F, count, F.type_of(x).dtype)


def _mse_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, y = ctx.inputs
    scale = F.mul(dy, 2.0)
    if ctx.attrs["reduction"] == "mean":
        scale = F.div(scale, _mse_size(F, x, y))
    dx = F.mul(scale, F.sub(x, y))
    return needed(ctx, lambda: dx, lambda: F.neg(dx))


def _mse_decompose(F: Any, x: Any, y: Any, reduction: str) -> Any:
    difference = F.sub(x, y)
    squares = F.mul(difference, difference)
    if reduction == "none":
        return squares
    total = F.sum(squares, dims=tuple(range(len(shape_of(F, squares)))))
    return total if reduction == "sum" else F.div(total, _mse_size(F, x, y))


declare(
    Op(
        "mse_loss",
        "The squared differences, or their sum or mean. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html",
        infer=_mse_infer,
        numpy=wide(_mse_numpy),
        attrs=REDUCTION,
        arity=(2, 2),
        level="composite",
        vjp=_mse_vjp,
        decompose=_mse_decompose,
        saves=("input:0", "input:1"),
        grad_name="MseLossBackward0",
        samples=(
            uniform((3, 5), (3, 5)),
            uniform((3, 5), (3, 5), reduction="sum"),
            uniform((3, 5), (5,), reduction="none"),
            uniform((), ()),
            uniform((0, 3), (0, 3), reduction="sum"),
            values([NAN, 1.0], [1.0, INF], reduction="none"),
        ),
    )
)
