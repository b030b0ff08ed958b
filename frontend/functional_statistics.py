"""Statistics over dims: quantiles, covariance, sums by segment, norms brought below a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arguments import as_int, need_floating, wrap_dim
from .autocast import full_precision
from .capture import active
from .dispatch import apply, constant, op_named
from .functional_arithmetic import add, div, lerp, mul, sub, true_divide
from .functional_cumulative import cumsum
from .functional_matmul import matmul
from .functional_memory import diagonal
from .functional_pointwise import ceil, clamp, clip, floor, gt, isnan, le, logical_not, round, sqrt, where
from .functional_reductions import any as any_of
from .functional_reductions import sum as total
from .functional_shape import expand, flatten, movedim, reshape, squeeze, t, unsqueeze
from .inplace import finish
from .ir import dtypes
from .promotion import convert
from .tape_folded import folded
from .tensor import Tensor
from .user_warnings import warn_user
from .vector_norms import p_norm

_GATHER, _ARGSORT, _IOTA, _SCATTER_REDUCE = map(op_named, ("gather", "argsort", "iota", "scatter_reduce"))
_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


# Quantiles


@full_precision
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear",
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The q-quantiles (q in [0, 1], a number or a vector) of all elements or along a dim; NaN where there is one."""
    return finish(_quantile("quantile", input, q, dim, keepdim, interpolation, False), out, "quantile")


@full_precision
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear",
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """`quantile` of the elements that are not NaN."""
    return finish(_quantile("nanquantile", input, q, dim, keepdim, interpolation, True), out, "nanquantile")


def _quantile(
    name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool
) -> Tensor:
    if input._type.numel == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if input.dtype not in (dtypes.f32, dtypes.f64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            "quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
            f"{interpolation}"
        )
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"quantile() q must be in the range [0, 1] but got {q}")
        q = constant(float(q), input.dtype)
    elif q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    elif q.dtype is not input.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    elif active() is None and not all(0 <= v <= 1 for v in reshape(q.detach(), (-1,)).tolist()):
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    rank = input.ndim
    rows = flatten(input) if dim is None or not rank else movedim(input, wrap_dim(dim, rank), -1)
    found = _by_rank(rows, q, interpolation, skip_nan)  # [..., number of quantiles]
    if keepdim and rank:
        found = reshape(found, (1,) * rank + (-1,)) if dim is None else unsqueeze(found, wrap_dim(dim, rank))
    return movedim(found, -1, 0) if q.ndim else squeeze(found, -1)


def _by_rank(rows: Tensor, q: Tensor, interpolation: str, skip_nan: bool) -> Tensor:
    order = apply(_ARGSORT, (rows.detach(),), {"dim": rows.ndim - 1, "descending": False})
    ordered = apply(_GATHER, (rows, order), {"dim": rows.ndim - 1})
    last = float(as_int(rows.shape[-1]) - 1)
    missing = isnan(rows.detach())
    if skip_nan:
        count = convert(total(logical_not(missing), -1, True), rows.dtype)
        ranks = clamp(mul(reshape(q, (-1,)), sub(count, 1)), min=0)
    else:
        # NaN is sorted last: where there is one it is the answer.
        ranks = where(any_of(missing, -1, True), last, mul(reshape(q, (-1,)), last))
    if interpolation in ("lower", "higher", "nearest"):
        ranks = {"lower": floor, "higher": ceil, "nearest": round}[interpolation](ranks)
    below = convert(ranks, dtypes.i64)
    low = apply(_GATHER, (ordered, below), {"dim": rows.ndim - 1})
    if interpolation not in ("linear", "midpoint"):
        return low
    weights = (
        constant(0.5, rows.dtype) if interpolation == "midpoint" else sub(ranks, convert(below, rows.dtype))
    )
    high = apply(_GATHER, (ordered, convert(ceil(ranks), dtypes.i64)), {"dim": rows.ndim - 1})
    return lerp(low, high, expand(weights, low.shape))


# Covariance


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariances of the variables, which are the rows; `fweights`: how often each observation was made,
    `aweights`: how much it counts."""
    if input.ndim > 2:
        raise RuntimeError(
            f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions"
        )
    if input.dtype is dtypes.bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    rows = reshape(input, (1, -1)) if input.ndim < 2 else input
    count = as_int(rows.shape[1])
    weights: Tensor | None = None
    for name, given, integral in (("fweights", fweights, True), ("aweights", aweights, False)):
        if given is None:
            continue
        if given.ndim > 1:
            raise RuntimeError(
                f"cov(): expected {name} to have one or fewer dimensions but got {name} with {given.ndim} dimensions"
            )
        if integral and not given.dtype.is_integral:
            raise RuntimeError(
                f"cov(): expected fweights to have integral dtype but got fweights with {_name(given)} dtype"
            )
        if not integral and not given.dtype.is_floating_point:
            raise RuntimeError(
                f"cov(): expected aweights to have floating point dtype but got aweights with {_name(given)} dtype"
            )
        if given._type.numel != count:
            raise RuntimeError(
                f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                f"{given._type.numel} != {count}"
            )
        weights = given if weights is None else mul(weights, given)
    if weights is None:
        mean = true_divide(total(rows, 1), count)
        norm_factor: Any = count - correction
    else:
        weight_sum = total(weights)
        mean = true_divide(total(mul(rows, weights), 1), weight_sum)
        if correction == 0:
            norm_factor = weight_sum
        elif aweights is None:
            norm_factor = sub(weight_sum, correction)
        else:
            norm_factor = sub(weight_sum, div(mul(total(mul(weights, aweights)), correction), weight_sum))
    if not isinstance(norm_factor, Tensor) and norm_factor <= 0:
        warn_user(
            "cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.",
            UserWarning,
        )
        norm_factor = 0
    centred = sub(rows, unsqueeze(mean, 1))
    other = t(centred if weights is None else mul(centred, weights))
    if other.dtype.is_complex:
        other = other.conj()
    return squeeze(true_divide(matmul(centred, other), norm_factor))


def _name(tensor: Tensor) -> str:
    return tensor.dtype.scalar_type


def corrcoef(input: Tensor) -> Tensor:
    """The correlations (Pearson's) of the variables, which are the rows."""
    if input.ndim > 2:
        raise RuntimeError(
            "corrcoef(): expected input to have two or fewer dimensions but got an input with "
            f"{input.ndim} dimensions"
        )
    found = cov(input)
    if not found.ndim:
        return div(found, found)
    deviation = sqrt(diagonal(found).real if found.dtype.is_complex else diagonal(found))
    scaled = div(div(found, unsqueeze(deviation, 1)), unsqueeze(deviation, 0))
    return scaled if scaled.dtype.is_complex else clip(scaled, -1, 1)


# Segments


def segment_reduce(
    data: Tensor, reduce: str, *, lengths: Tensor | None = None, indices: Tensor | None = None,
    offsets: Tensor | None = None, axis: int = 0, unsafe: bool = False, initial: Any = None,
) -> Tensor:  # fmt: skip
    """The sum, mean, max, min or prod of each segment along `axis`; segments are given by their lengths, or by the
    offsets where they begin, and where the last one ends."""
    if reduce not in ("sum", "mean", "max", "min", "prod"):
        raise RuntimeError(f"segment_reduce(): unsupported reduction {reduce!r}")
    if indices is not None:
        raise RuntimeError("segment_reduce(): indices based reduction is not supported yet.")
    if lengths is None and offsets is None:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    at = wrap_dim(axis, data.ndim)
    if lengths is None:
        assert offsets is not None
        ends = convert(offsets[..., 1:], dtypes.i64)
        lengths = sub(ends, convert(offsets[..., :-1], dtypes.i64))
    else:
        ends = cumsum(convert(lengths, dtypes.i64), -1)
        if not unsafe and active() is None and (ends[..., -1] != data.shape[at]).any():
            raise RuntimeError(
                "segment_reduce(): Expected all rows of lengths along axis to sum to "
                "data.size(lengths.dim()-1) when !unsafe."
            )
    return folded(
        "SegmentReduceBackward0", (data,), lambda: _segments(data, reduce, lengths, ends, at, initial)
    )


def _segments(data: Tensor, reduce: str, lengths: Tensor, ends: Tensor, at: int, initial: Any) -> Tensor:
    shape, count = tuple(data.shape), ends.shape[-1]
    place = apply(_IOTA, (), {"shape": (shape[at],), "dim": 0, "dtype": dtypes.i64})
    number = total(le(unsqueeze(ends, -1), place), -2)  # which segment each position is in
    after = (1,) * (data.ndim - at - 1)
    index = expand(reshape(number, (*number.shape, *after)), shape)
    sums = reduce in ("sum", "mean")
    start = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf")}[reduce]
    wanted = start if initial is None else float(initial)
    full = {"shape": (*shape[:at], count, *shape[at + 1 :]), "value": wanted, "dtype": data.dtype}
    attrs = {"dim": at, "reduce": {"max": "amax", "min": "amin"}.get(reduce, "sum" if sums else "prod")}
    found: Tensor = apply(_SCATTER_REDUCE, (apply(op_named("full"), (), full), index, data), attrs)
    if reduce != "mean":
        return found
    sizes = reshape(convert(lengths, data.dtype), (*lengths.shape, *after))
    # A segment without elements has no mean, unless it was given one.
    return div(found, sizes) if initial is None else where(gt(sizes, 0), div(found, sizes), found)


# Bounded norms


def renorm(input: Tensor, p: Any, dim: int, maxnorm: Any, *, out: Tensor | None = None) -> Tensor:
    """The tensor with each part along the dim scaled so that its p-norm is at most `maxnorm`."""
    if float(p) <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if float(maxnorm) < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    if input.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    need_floating("linalg.vector_norm", input)
    at = wrap_dim(dim, input.ndim)
    others = tuple(d for d in range(input.ndim) if d != at)

    def compute() -> Tensor:
        size = p_norm(input, float(p), others, True)
        factor = where(gt(size, maxnorm), div(maxnorm, add(size, 1e-7)), constant(1.0, size.dtype))
        return mul(input, convert(factor, input.dtype))

    return finish(folded("RenormBackward0", (input,), compute), out, "renorm")


def frobenius_norm(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The square root of the sum of squares over the dims, or of all elements."""
    given = (
        range(input.ndim) if dim is None or dim in ((), []) else dim if isinstance(dim, Sequence) else (dim,)
    )
    dims = tuple(wrap_dim(d, input.ndim) for d in given)
    found = folded("LinalgVectorNormBackward0", (input,), lambda: p_norm(input, 2.0, dims, keepdim))
    return finish(found, out, "frobenius_norm")


def dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    """The p-norm of the difference."""

    def compute() -> Tensor:
        difference = sub(input, other)
        return p_norm(difference, float(p), tuple(range(difference.ndim)), False)

    return folded("DistBackward0", (input, other), compute)


# The names of `torch` that are defined here.
__all__ = [
    "corrcoef", "cov", "dist", "frobenius_norm", "nanquantile", "quantile", "renorm", "segment_reduce",
]  # fmt: skip
