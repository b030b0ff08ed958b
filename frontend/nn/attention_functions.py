"""Attention functions. A. Vaswani et al., "Attention is all you need", 2017."""

from __future__ import annotations

import math
from typing import Any

from .. import functional_pointwise as pointwise
from ..autocast import lower_precision
from ..capture import counter_based
from ..counter_draws import random_call
from ..creation import zeros
from ..dispatch import apply, op_named
from ..functional_shape import cat
from ..ir import dtypes
from ..ir.dtypes import DType
from ..tensor import Tensor, cxx_name
from ..user_warnings import warn_user
from .activations import softmax
from .dropout import dropout
from .linear import linear
from .padding import pad


def causal_mask(rows: Any, columns: Any) -> Tensor:
    """bool[rows, columns], True where a row may look: at its own and earlier columns."""
    iota = op_named("iota")
    row: Tensor = apply(iota, (), {"shape": (rows, 1), "dim": 0, "dtype": dtypes.i64})
    column: Tensor = apply(iota, (), {"shape": (1, columns), "dim": 1, "dtype": dtypes.i64})
    return row >= column


def _grouped(tensor: Tensor, heads: int) -> Tensor:
    """Key or value [..., h, s, e] with each head repeated, so that there are `heads`."""
    shape = tuple(tensor.shape)
    if shape[-3] == heads:
        return tensor
    if heads % shape[-3]:
        raise RuntimeError(
            f"Number of heads in key and value must divide the number of heads in query, but got {shape[-3]} "
            f"and {heads}"
        )
    repeats = heads // shape[-3]
    wide = tensor.unsqueeze(-3).expand(*shape[:-2], repeats, *shape[-2:])
    return wide.reshape(*shape[:-3], heads, *shape[-2:])


@lower_precision
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query[..., l, e] key[..., s, e]^T * scale + mask) value[..., s, v] -> [..., l, v].

    A bool mask says where to look, a float one is added; a row that may look nowhere gives zeros. `scale` is
    1 / sqrt(e) unless given.
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError(
            "_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
        )
    if not query.dtype is key.dtype is value.dtype:
        dtypes = f"query.dtype: {cxx_name(query.dtype)} key.dtype: {cxx_name(key.dtype)}"
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got {dtypes} and value.dtype: "
            f"{cxx_name(value.dtype)} instead."
        )
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    counted = 0.0 < dropout_p < 1.0 and counter_based()
    if dropout_p == 0.0 or counted:
        found = _whole(query, key, value, attn_mask, is_causal, factor, enable_gqa, dropout_p)
        if found is not None:
            return found
    if enable_gqa:
        key, value = _grouped(key, query.shape[-3]), _grouped(value, query.shape[-3])
    scores = query.matmul(key.transpose(-2, -1)) * factor
    weights = _safe_softmax(scores, attn_mask, is_causal)
    return dropout(weights, dropout_p).matmul(value)


def _whole(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    enable_gqa: bool,
    dropout_p: float,
) -> Tensor | None:
    """The same by the op `attention`, where it takes such operands: of one rank, with the same leading dims."""
    shapes = [tuple(t.shape) for t in (query, key, value)]
    q, k, v = shapes
    one_dtype = len({t.dtype for t in (query, key, value)}) == 1 and query.dtype.is_floating_point
    if not one_dtype or not 3 <= len(q) == len(k) == len(v) or k[:-1] != v[:-1] or q[-1] != k[-1]:
        return None
    if q[:-3] != k[:-3] or not (q[-3] == k[-3] or enable_gqa):
        return None
    if q[-3] != k[-3] and (not k[-3] or q[-3] % k[-3]):
        return None
    if mask is not None:
        wide = mask.dtype is dtypes.f32 and query.dtype in (dtypes.f16, dtypes.bf16)
        if mask.dtype is not dtypes.bool_ and mask.dtype is not query.dtype and not wide:
            return None
        scores = (*q[:-1], k[-2])
        shape = (*(1,) * (len(scores) - mask.ndim), *mask.shape)
        if mask.ndim > len(scores) or any(n not in (1, m) for n, m in zip(shape, scores)):
            return None
    attrs = {"scale": float(scale), "causal": is_causal, "safe": mask is not None}
    operands = (query, key, value) if mask is None else (query, key, value, mask)
    if dropout_p > 0.0:
        state, stream = random_call(like=query)
        operands, attrs = (*operands, state), {**attrs, "p": float(dropout_p), "stream": stream}
    found: Tensor = apply(op_named("attention"), operands, attrs)[0]
    return found


def _safe_softmax(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    if mask is None and not is_causal:
        return softmax(scores, -1)
    if mask is None:  # every row sees its first column
        seen = causal_mask(*scores.shape[-2:])
        return softmax(pointwise.where(seen, scores, -math.inf), -1)
    if mask.dtype is dtypes.bool_:
        seen = mask
    else:
        scores = scores + mask
        seen = scores != -math.inf
    # Where a whole row is hidden the softmax is NaN, and so is its gradient: neither passes the conditions.
    weights = softmax(pointwise.where(seen, scores, -math.inf), -1)
    return pointwise.where(seen, weights, 0.0)


def canonical_mask(
    mask: Tensor | None, name: str, other: Tensor | None, other_name: str, dtype: DType
) -> Tensor | None:
    """A mask as numbers to add: -inf where a bool mask says not to look."""
    if mask is None:
        return None
    if mask.dtype is not dtypes.bool_ and not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and other.dtype is not mask.dtype:
        warn_user(
            f"Support for mismatched {name} and {other_name} is deprecated. Use same type for both instead."
        )
    if mask.dtype.is_floating_point:
        return mask
    return zeros((), dtype=dtype).masked_fill(mask, -math.inf)


def _check_shapes(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None, heads: int
) -> bool:
    """Whether there is a batch dim; AssertionError where the ranks do not fit."""
    if query.ndim not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor"
        )
    rank = query.ndim
    which = "batched (3-D)" if rank == 3 else "unbatched (2-D)"
    if key.ndim != rank or value.ndim != rank:
        raise AssertionError(
            f"For {which} `query`, expected `key` and `value` to be {rank}-D but found {key.ndim}-D and "
            f"{value.ndim}-D tensors respectively"
        )
    if padding is not None and padding.ndim != rank - 1:
        raise AssertionError(
            f"For {which} `query`, expected `key_padding_mask` to be `None` or {rank - 1}-D but found "
            f"{padding.ndim}-D tensor instead"
        )
    if mask is not None and mask.ndim not in (2, 3):
        raise AssertionError(
            f"For {which} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found {mask.ndim}-D tensor "
            "instead"
        )
    if rank == 2 and mask is not None and mask.ndim == 3:
        expected = (heads, query.shape[0], key.shape[0])
        if tuple(mask.shape) != expected:
            raise AssertionError(f"Expected `attn_mask` shape to be {expected} but got {mask.shape}")
    return rank == 3


def _projected(
    query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Query, key and value times their thirds of the packed weight; the same input only once."""
    size = query.shape[-1]
    if query is key and key is value:
        return tuple(linear(query, weight, bias).split(size, -1))
    parts = weight.split(size)
    biases = (None, None, None) if bias is None else bias.split(size)
    if key is value:
        both = linear(key, weight[size:], None if bias is None else bias[size:])
        return (linear(query, parts[0], biases[0]), *both.split(size, -1))
    return tuple(linear(x, w, b) for x, w, b in zip((query, key, value), parts, biases))


def _heads_first(tensor: Tensor, count: Any, size: int) -> Tensor:
    """[l, n, e] as [n * heads, l, e / heads]."""
    return tensor.reshape(tensor.shape[0], count, size).transpose(0, 1)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of query[l, n, e] over key[s, n, ...] and value, and its weights if needed; see
    `nn.MultiheadAttention`."""
    if static_k is not None or static_v is not None:
        raise NotImplementedError("multi_head_attention_forward: static_k and static_v are not supported")
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        alike = query is key, key is value
        query = query.unsqueeze(1)
        key = query if alike[0] else key.unsqueeze(1)
        value = key if alike[1] else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, size = query.shape
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
            "`generate_square_subsequent_mask` to create this mask."
        )
    padding = canonical_mask(key_padding_mask, "key_padding_mask", attn_mask, "attn_mask", query.dtype)
    mask: Tensor | None = None
    if is_causal and padding is None and not need_weights:
        pass  # the hint says what the mask is
    else:
        is_causal = False
        mask = canonical_mask(attn_mask, "attn_mask", None, "", query.dtype)
    if size != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {size}")
    head_size = size // num_heads
    if head_size * num_heads != size:
        raise AssertionError(f"embed_dim {size} not divisible by num_heads {num_heads}")
    if use_separate_proj_weight:
        if tuple(key.shape[:2]) != tuple(value.shape[:2]):
            raise AssertionError(
                f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
            )
        biases = (None, None, None) if in_proj_bias is None else in_proj_bias.split(size)
        projected = []
        for name, x, weight, bias in zip(
            "qkv", (query, key, value), (q_proj_weight, k_proj_weight, v_proj_weight), biases
        ):
            if weight is None:
                raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")
            projected.append(linear(x, weight, bias))
        q, k, v = projected
    else:
        if tuple(key.shape) != tuple(value.shape):
            raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
        if in_proj_weight is None:
            raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias)
    mask = _checked_mask(mask, batch, num_heads, length, key.shape[0])

    extra = 0
    if bias_k is not None and bias_v is not None:
        k, v = (cat([x, b.expand(1, batch, size)]) for x, b in ((k, bias_k), (v, bias_v)))
        extra += 1
    count = batch * num_heads
    q, k, v = (_heads_first(x, count, head_size) for x in (q, k, v))
    if add_zero_attn:
        k, v = (pad(x, (0, 0, 0, 1)) for x in (k, v))
        extra += 1
    if extra:
        mask, padding = (None if m is None else pad(m, (0, extra)) for m in (mask, padding))
    source = k.shape[1]
    if padding is not None:
        _check_padding(padding, batch, source)
        wide = padding.reshape(batch, 1, 1, source).expand(batch, num_heads, 1, source)
        wide = wide.reshape(count, 1, source)
        mask = wide if mask is None else mask + wide

    p = dropout_p if training else 0.0
    if need_weights:
        scores = (q * math.sqrt(1.0 / head_size)).matmul(k.transpose(-2, -1))
        weights = dropout(softmax(scores if mask is None else scores + mask, -1), p)
        attended = weights.matmul(v)
    else:
        attended = scaled_dot_product_attention(q, k, v, mask, p, is_causal)
    flat = attended.transpose(0, 1).reshape(length * batch, size)
    output = linear(flat, out_proj_weight, out_proj_bias)
    output = output.reshape(length, batch, output.shape[1])
    if not batched:
        output = output.squeeze(1)
    if not need_weights:
        return output, None
    weights = weights.reshape(batch, num_heads, length, source)
    if average_attn_weights:
        weights = weights.mean(1)
    return output, weights if batched else weights.squeeze(0)


def _checked_mask(mask: Tensor | None, batch: Any, heads: int, length: Any, source: Any) -> Tensor | None:
    """The mask with a dim for the batch's heads."""
    if mask is None:
        return None
    want = (length, source) if mask.ndim == 2 else (batch * heads, length, source)
    if tuple(mask.shape) != want:
        raise RuntimeError(f"The shape of the {mask.ndim}D attn_mask is {mask.shape}, but should be {want}.")
    return mask.unsqueeze(0) if mask.ndim == 2 else mask


def _check_padding(padding: Tensor, batch: Any, source: Any) -> None:
    for dim, want in enumerate((batch, source)):
        if padding.shape[dim] != want:
            raise AssertionError(
                f"Expected key_padded_mask.shape[{dim}] to be {want}, but got {padding.shape[dim]}"
            )
