"""Attention: rows of values, averaged with the softmax of how well a query fits their keys.

    out[l] = sum over s of weights[l, s] value[s],  weights[l] = softmax over s of (query[l] . key[s] scale + mask[l, s])

The op's second result is the logarithm of each softmax's denominator. From it the gradient computes any part of the
weights again, so that a kernel never needs them all at once (T. Dao et al., "FlashAttention: Fast and
Memory-Efficient Exact Attention with IO-Awareness", 2022, https://arxiv.org/abs/2205.14135).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import dtypes
from ..dims import DimLike
from ..half_precision import HALF
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .by_decomposition import vjp_by_decomposition
from .common import FLOAT, Array, Shape, broadcast, check_dtype, check_same_dtype, shape_of
from .contraction import transposed
from .random import dropout_scale, uniform_numbers

INF = math.inf
ATTRS = {
    "scale": Attr("float", 1.0),
    "causal": Attr("bool", False),
    "safe": Attr("bool", False),
    "p": Attr("float", 0.0),
    "stream": Attr("int", 0),
}


class Extras(NamedTuple):
    """The operands that need not be there."""

    mask: Any
    state: Any


def extras(operands: Sequence[Any], type_of: Callable[[Any], TensorType]) -> Extras:
    """Of `[mask][, state]`: the state is the one of integers."""
    found = list(operands)
    state = found.pop() if found and type_of(found[-1]).dtype is dtypes.i64 else None
    return Extras(found[0] if found else None, state)


def _sum_dtype(type_: TensorType) -> dtypes.DType:
    return dtypes.f32 if type_.dtype in HALF else type_.dtype


def _infer(
    q: TensorType, k: TensorType, v: TensorType, *others: TensorType, p: float, **attrs: Any
) -> tuple[TensorType, TensorType]:
    name = "attention"
    check_dtype(name, q, FLOAT)
    check_same_dtype(name, q, k, v)
    mask, state = extras(others, lambda t: t)
    if not q.rank == k.rank == v.rank or q.rank < 3:
        raise RuntimeError(f"{name}: query, key and value are [..., heads, rows, size], got {q}, {k} and {v}")
    if k.shape[:-1] != v.shape[:-1] or q.shape[:-3] != k.shape[:-3] or q.shape[-1] != k.shape[-1]:
        raise RuntimeError(f"{name}: query {q}, key {k} and value {v} do not fit each other")
    group_size(q.shape, k.shape)
    if mask is not None:
        if mask.dtype is not dtypes.bool_ and not (q.dtype in HALF and mask.dtype is dtypes.f32):
            check_same_dtype(name, q, mask)
        scores = (*q.shape[:-1], k.shape[-2])
        if broadcast(scores, mask.shape) != scores:
            raise RuntimeError(f"{name}: the mask {mask} does not broadcast to {list(scores)}")
    if (state is not None) != (p > 0):
        raise RuntimeError(f"{name}: dropout takes a state, and nothing else does")
    if state is not None and state != TensorType((2,), dtypes.i64):
        raise RuntimeError(f"{name}: the state must be i64[2] (seed, call number), got {state}")
    out = q.with_shape((*q.shape[:-1], v.shape[-1]))
    return out, TensorType(q.shape[:-1], _sum_dtype(q))


def group_size(q: Shape, k: Shape) -> int:
    """How many heads of the query share one of the key and value; RuntimeError where they cannot."""
    if q[-3] == k[-3]:
        return 1
    many, few = q[-3], k[-3]
    if not isinstance(many, int) or not isinstance(few, int) or not few or many % few:
        raise RuntimeError(
            f"Number of heads in key and value must divide the number of heads in query, but got {few} and {many}"
        )
    return many // few


# In NumPy


def _repeated(x: Array, group: int) -> Array:
    return x if group == 1 else np.repeat(x, group, axis=-3)


def _scores(q: Array, k: Array, mask: Array | None, scale: float, causal: bool) -> Array:
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * q.dtype.type(scale)
    if mask is not None:
        scores = np.where(mask, scores, -INF) if mask.dtype == np.bool_ else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -INF)
    return scores.astype(q.dtype, copy=False)


def _kept(state: Array | None, shape: tuple[int, ...], dtype: Any, p: float, stream: int) -> Array | None:
    """What dropout multiplies the weights with."""
    if state is None:
        return None
    draw = uniform_numbers(state, shape, dtypes.from_numpy(dtype), stream)
    return np.where(draw >= draw.dtype.type(p), dtype.type(dropout_scale(p)), dtype.type(0))


def _wide(arrays: Sequence[Array]) -> list[Array]:
    """Sixteen-bit numbers as float32."""
    return [a.astype(np.float32) if dtypes.from_numpy(a.dtype) in HALF else a for a in arrays]


def _array_type(x: Array) -> TensorType:
    return TensorType(x.shape, dtypes.from_numpy(x.dtype))


def _numpy(
    q: Array,
    k: Array,
    v: Array,
    *others: Array,
    scale: float,
    causal: bool,
    safe: bool,
    p: float,
    stream: int,
) -> tuple[Array, Array]:
    dtype = q.dtype
    q, k, v, *rest = _wide((q, k, v, *others))
    mask, state = extras(rest, _array_type)
    group = group_size(q.shape, k.shape)
    k, v = _repeated(k, group), _repeated(v, group)
    with np.errstate(all="ignore"):
        scores = _scores(q, k, mask, scale, causal)
        most = np.max(scores, axis=-1, keepdims=True, initial=-INF).astype(q.dtype, copy=False)
        powers = np.exp(scores - np.where(most == -INF, q.dtype.type(0), most))
        total = np.add.reduce(powers, axis=-1, keepdims=True)
        factor = (
            np.where(total == 0, q.dtype.type(0), 1 / total) if safe or not scores.shape[-1] else 1 / total
        )
        weights = powers * factor
        kept = _kept(state, weights.shape, q.dtype, p, stream)
        if kept is not None:
            weights = weights * kept
        out = np.matmul(weights, v)
        log_sum = (most + np.log(total))[..., 0]
    return out.astype(dtype, copy=False), log_sum


# As other ops


def _rows_share(F: Any, x: Any, group: int) -> Any:
    """[..., h, l, e] as [..., h / group, group, l, e]."""
    if group == 1:
        return x
    *lead, heads, rows, size = shape_of(F, x)
    return F.reshape(x, shape=(*lead, heads // group, group, rows, size))


def _shared(F: Any, x: Any, group: int) -> Any:
    """[..., h, s, e] as [..., h, 1, s, e], for a group of queries each."""
    *lead, rows, size = shape_of(F, x)
    return x if group == 1 else F.reshape(x, shape=(*lead, 1, rows, size))


def _times_shared(F: Any, x: Any, shared: Any, group: int) -> Any:
    """The matmul of [..., h, l, s] with [..., h / group, s, e]."""
    product = F.matmul(_rows_share(F, x, group), _shared(F, shared, group))
    if group == 1:
        return product
    return F.reshape(product, shape=(*shape_of(F, x)[:-1], shape_of(F, shared)[-1]))


def _sum_over_rows(F: Any, x: Any, y: Any, group: int) -> Any:
    """x^T y of [..., h, l, s] and [..., h, l, e], added up over the queries that share a key."""
    found = F.matmul(transposed(F, _rows_share(F, x, group)), _rows_share(F, y, group))
    if group == 1:
        return found
    return F.sum(found, dims=(len(shape_of(F, found)) - 3,), keepdim=False)


def scores_of(F: Any, q: Any, k: Any, mask: Any, scale: float, causal: bool) -> Any:
    """What the softmax is of: -inf where a query may not look."""
    group = group_size(shape_of(F, q), shape_of(F, k))
    scores = F.mul(_times_shared(F, q, transposed(F, k), group), scale)
    dtype = F.type_of(scores).dtype
    if mask is not None and F.type_of(mask).dtype is dtypes.bool_:
        scores = F.where(mask, scores, F.constant(-INF, dtype))
    elif mask is not None:
        scores = F.add(scores, mask)
    if causal:
        rows, columns = shape_of(F, scores)[-2:]
        row = F.iota(shape=(rows, 1), dim=0, dtype=dtypes.i64)
        column = F.iota(shape=(1, columns), dim=1, dtype=dtypes.i64)
        scores = F.where(F.ge(row, column), scores, F.constant(-INF, dtype))
    return scores


def _finite(F: Any, x: Any, instead: float) -> Any:
    """x, and `instead` where it is -inf: the row may look nowhere."""
    return F.where(F.eq(x, -INF), F.constant(instead, F.type_of(x).dtype), x)


def weigh(F: Any, scores: Any, safe: bool) -> tuple[Any, Any]:
    """The weights, and the logarithm of each row's sum of powers [..., l, 1]."""
    last = (len(shape_of(F, scores)) - 1,)
    most = F.amax(scores, dims=last, keepdim=True)
    powers = F.exp(F.sub(scores, _finite(F, most, 0.0) if safe else most))
    total = F.sum(powers, dims=last, keepdim=True)
    factor = F.reciprocal(total)
    if safe:
        factor = F.where(F.eq(total, 0.0), F.constant(0.0, F.type_of(total).dtype), factor)
    return F.mul(powers, factor), F.add(most, F.log(total))


def opened(
    F: Any,
    q: Any,
    k: Any,
    v: Any,
    *others: Any,
    scale: float,
    causal: bool,
    safe: bool,
    p: float,
    stream: int,
) -> tuple[Any, Any, Any]:
    """The op's two results as matmul, softmax, matmul, and the weights (before dropout; None if there are no keys)."""
    mask, state = extras(others, F.type_of)
    shape, source = shape_of(F, q), shape_of(F, k)[-2]
    if isinstance(source, int) and source == 0:
        dtype = F.type_of(q).dtype
        out = F.full(shape=(*shape[:-1], shape_of(F, v)[-1]), value=0.0, dtype=dtype)
        return out, F.full(shape=shape[:-1], value=-INF, dtype=dtype), None
    weights, log_sum = weigh(F, scores_of(F, q, k, mask, scale, causal), safe)
    used = weights if state is None else F.dropout(weights, state, p=p, stream=stream)
    out = _times_shared(F, used, v, group_size(shape, shape_of(F, k)))
    return out, F.reshape(log_sum, shape=shape[:-1]), weights


def _vjp(F: Any, ctx: Any, dy: Any, d_log_sum: Any) -> list[Any]:
    q, k, v, *others = ctx.inputs
    out, log_sum = ctx.outputs
    if dy is None:
        dy = F.zeros_like(out)
    rank = len(shape_of(F, q))
    delta = F.sum(F.mul(dy, out), dims=(rank - 1,), keepdim=False)
    if d_log_sum is not None:
        delta = F.sub(delta, d_log_sum)
    found: list[Any] = [None] * len(ctx.inputs)
    if any(ctx.needs[:3]):
        grads = F.attention_grad(dy, q, k, v, log_sum, delta, *others, **ctx.attrs)
        found[:3] = (g if need else None for g, need in zip(grads, ctx.needs))
    mask, state = extras(others, F.type_of)
    if mask is not None and ctx.needs[3] and F.type_of(mask).dtype is not dtypes.bool_:
        weights = weights_again(F, q, k, log_sum, mask, ctx.attrs)
        found[3] = _score_gradient(F, dy, v, k, weights, delta, state, ctx.attrs)[0]
    return found


def weights_again(F: Any, q: Any, k: Any, log_sum: Any, mask: Any, attrs: Any) -> Any:
    """The weights before dropout, from the logarithms of the rows' sums."""
    scores = scores_of(F, q, k, mask, attrs["scale"], attrs["causal"])
    column = F.reshape(log_sum, shape=(*shape_of(F, log_sum), 1))
    return F.exp(F.sub(scores, _finite(F, column, INF) if attrs["safe"] else column))


def _score_gradient(
    F: Any, dy: Any, v: Any, k: Any, weights: Any, delta: Any, state: Any, attrs: Any
) -> tuple[Any, Any]:
    """The gradient of the scores, and the weights after dropout."""
    group = group_size(shape_of(F, dy), shape_of(F, k))
    d_weights = _times_shared(F, dy, transposed(F, v), group)
    used = weights
    if state is not None:
        dropped = {"p": attrs["p"], "stream": attrs["stream"]}
        d_weights, used = F.dropout(d_weights, state, **dropped), F.dropout(weights, state, **dropped)
    column = F.reshape(delta, shape=(*shape_of(F, delta), 1))
    return F.mul(weights, F.sub(d_weights, column)), used


def opened_grad(
    F: Any,
    dy: Any,
    q: Any,
    k: Any,
    v: Any,
    log_sum: Any,
    delta: Any,
    *others: Any,
    weights: Any = None,
    **attrs: Any,
) -> tuple[Any, Any, Any]:
    """The gradients as matmuls and what is between; `weights` where they are there already."""
    mask, state = extras(others, F.type_of)
    source = shape_of(F, k)[-2]
    if isinstance(source, int) and source == 0:
        return F.zeros_like(q), F.zeros_like(k), F.zeros_like(v)
    group = group_size(shape_of(F, q), shape_of(F, k))
    if weights is None:
        weights = weights_again(F, q, k, log_sum, mask, attrs)
    d_scores, used = _score_gradient(F, dy, v, k, weights, delta, state, attrs)
    scaled = F.mul(d_scores, attrs["scale"])
    return (
        _times_shared(F, scaled, k, group),
        _sum_over_rows(F, scaled, q, group),
        _sum_over_rows(F, used, dy, group),
    )


def _grad_infer(
    dy: TensorType,
    q: TensorType,
    k: TensorType,
    v: TensorType,
    log_sum: TensorType,
    delta: TensorType,
    *others: TensorType,
    **attrs: Any,
) -> tuple[TensorType, TensorType, TensorType]:
    wanted = _infer(q, k, v, *others, **attrs)
    if dy != wanted[0] or log_sum.shape != wanted[1].shape or delta != log_sum:
        raise RuntimeError(
            f"attention_grad: expected {wanted} and {wanted[1]}, got {dy}, {log_sum} and {delta}"
        )
    check_dtype("attention_grad", log_sum, FLOAT)
    return q, k, v


def _grad_numpy(*arrays: Array, **attrs: Any) -> tuple[Array, ...]:
    given = [a.dtype for a in arrays[1:4]]
    dy, q, k, v, log_sum, delta, *rest = _wide(arrays)
    mask, state = extras(rest, _array_type)
    group = group_size(q.shape, k.shape)
    keys, values = _repeated(k, group), _repeated(v, group)
    scale, safe = q.dtype.type(attrs["scale"]), attrs["safe"]
    with np.errstate(all="ignore"):
        scores = _scores(q, keys, mask, attrs["scale"], attrs["causal"])
        least = np.where(log_sum == -INF, q.dtype.type(INF), log_sum) if safe else log_sum
        weights = np.exp(scores - least[..., None])
        d_weights, used = np.matmul(dy, np.swapaxes(values, -1, -2)), weights
        kept = _kept(state, weights.shape, q.dtype, attrs["p"], attrs["stream"])
        if kept is not None:
            d_weights, used = d_weights * kept, weights * kept
        d_scores = weights * (d_weights - delta[..., None]) * scale
        dq = np.matmul(d_scores, keys)
        dk, dv = (np.matmul(np.swapaxes(a, -1, -2), b) for a, b in ((d_scores, q), (used, dy)))
    if group > 1:
        dk, dv = (
            np.add.reduce(x.reshape(*x.shape[:-3], -1, group, *x.shape[-2:]), axis=-3) for x in (dk, dv)
        )
    return tuple(x.astype(dtype, copy=False) for x, dtype in zip((dq, dk, dv), given))


def _flops(q: TensorType, k: TensorType, v: TensorType) -> DimLike:
    product: DimLike = 2
    for size in (*q.shape[:-1], k.shape[-2], q.shape[-1] + v.shape[-1]):
        product = product * size
    return product


def _operands(
    q: tuple[int, ...], k: tuple[int, ...], size: int | None = None, mask: Any = None, state: bool = False
) -> Callable[[Any], list[Array]]:
    """Operands of the shapes, the values' rows of `size`; `mask`: "bool", "float", or a shape of bools."""

    def make(rng: Any) -> list[Array]:
        found = [rng.normal(size=shape) for shape in (q, k, (*k[:-1], k[-1] if size is None else size))]
        if mask == "float":
            found.append(rng.normal(size=(q[-2], k[-2])))
        elif mask is not None:
            shape = (q[-2], k[-2]) if mask == "bool" else mask
            seen = rng.random(shape) < 0.6
            found.append(seen)
        if state:
            found.append(np.array([3, 4], np.int64))
        return found

    return make


def _grad_operands(rows: Callable[[Any], list[Array]], **attrs: Any) -> Callable[[Any], list[Array]]:
    def make(rng: Any) -> list[Array]:
        q, k, v, *others = rows(rng)
        full = {name: attrs.get(name, attr.default) for name, attr in ATTRS.items()}
        out, log_sum = _numpy(q, k, v, *others, **full)
        dy = rng.normal(size=out.shape)
        return [dy, q, k, v, log_sum, np.add.reduce(dy * out, axis=-1), *others]

    return make


_CASES: tuple[tuple[Callable[[Any], list[Array]], dict[str, Any]], ...] = (
    (_operands((2, 5, 4), (2, 7, 4)), {"scale": 0.5}),
    (_operands((1, 2, 6, 3), (1, 2, 6, 3), 5), {"scale": 1 / math.sqrt(3), "causal": True}),
    (_operands((4, 3, 4), (2, 5, 4), mask="bool"), {"safe": True}),
    (_operands((2, 4, 3, 4), (2, 2, 5, 4), mask="float"), {"scale": -0.7}),
    (_operands((3, 2, 4), (3, 5, 4), mask=(3, 1, 5)), {"safe": True}),
    (_operands((2, 3, 4), (2, 6, 4), state=True), {"p": 0.25, "stream": 2}),
    (_operands((2, 5, 4), (2, 5, 4), mask="bool", state=True), {"p": 0.5, "causal": True, "safe": True}),
    (_operands((2, 0, 4), (2, 5, 4)), {"causal": True}),
    (_operands((2, 3, 4), (2, 0, 4)), {}),
)


def _sample(make: Callable[[Any], list[Array]], attrs: Mapping[str, Any]) -> Sample:
    """Without keys the logarithm of the sum is -inf, and has no differences."""
    return Sample(make, attrs, gradient=bool(attrs), tolerance=4.0)


declare(
    Op(
        "attention",
        "attention(q, k, v[, mask][, state]): softmax(q[..., h, l, e] k[..., h', s, e]^T scale + mask) v[..., h', s, f] "
        "-> [..., h, l, f] and the logarithms of the softmaxes' denominators [..., h, l]. h' divides h: neighbouring "
        "heads of q share one of k and v. A bool mask says where to look, one of q's dtype or float32 is added; "
        "`causal`: row l looks at columns up to l, the others count as not there. A row that may look nowhere gives "
        "NaN, with `safe` zeros. p > 0: the weights go through `dropout` of that p, stream and state. "
        "https://arxiv.org/abs/1706.03762",
        infer=_infer,
        numpy=_numpy,
        attrs=ATTRS,
        arity=(3, 5),
        results=2,
        level="composite",
        lowering="attention",
        vjp=_vjp,
        decompose=lambda F, *operands, **attrs: opened(F, *operands, **attrs)[:2],
        saves=("input:0", "input:1", "input:2", "input:3", "input:4", "output:0", "output:1"),
        grad_name="ScaledDotProductFlashAttentionForCpuBackward0",
        flops=lambda q, k, v, *others, **attrs: _flops(q, k, v),
        samples=tuple(_sample(make, attrs) for make, attrs in _CASES),
    )
)
declare(
    Op(
        "attention_grad",
        "attention_grad(dy, q, k, v, log_sum, delta[, mask][, state]): the gradients of q, k and v, for dy that of "
        "`attention`'s first result; log_sum is its second result, delta the sum of dy out over a row (less the "
        "gradient of log_sum).",
        infer=_grad_infer,
        numpy=_grad_numpy,
        attrs=ATTRS,
        arity=(6, 8),
        results=3,
        level="composite",
        lowering="attention",
        vjp=vjp_by_decomposition(opened_grad),
        decompose=opened_grad,
        saves=tuple(f"input:{i}" for i in range(8)),
        grad_name="ScaledDotProductFlashAttentionForCpuBackwardBackward0",
        flops=lambda dy, q, k, v, *others, **attrs: _flops(q, k, v) * 5 // 2,
        samples=tuple(_sample(_grad_operands(make, **attrs), attrs) for make, attrs in _CASES),
    )
)
