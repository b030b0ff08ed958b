"""`torch.nn.attention.flex_attention`: attention whose scores pass a function of the user's.

`score_mod(score, batch, head, q, kv)` and `mask_mod(batch, head, q, kv)` are called once, with the whole grid of scores
and of indices that broadcast against it; so they may be any code over tensors, without `vmap`. The masks are
dense: a `BlockMask` here keeps its function and sizes and no blocks, and nothing is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ... import functional_pointwise as pointwise
from ... import functional_reductions as reductions
from ...dispatch import apply, op_named
from ...ir import dtypes
from ...tensor import Tensor

_DEFAULT_SPARSE_BLOCK_SIZE = 128
ScoreMod = Callable[..., Tensor]
MaskMod = Callable[..., Tensor]


def _places(count: Any, dim: int) -> Tensor:
    """0, 1, ... along one of the four dims of the scores."""
    shape = tuple(count if i == dim else 1 for i in range(4))
    found: Tensor = apply(op_named("iota"), (), {"shape": shape, "dim": dim, "dtype": dtypes.i64})
    return found


def _grid(batch: Any, heads: Any, rows: Any, columns: Any) -> tuple[Tensor, ...]:
    return tuple(_places(count, dim) for dim, count in enumerate((batch, heads, rows, columns)))


def noop_mask(batch: Tensor, head: Tensor, token_q: Tensor, token_kv: Tensor) -> Tensor:
    """Hides nothing."""
    return (token_q >= 0).logical_and(token_kv >= 0)


@dataclass(frozen=True)
class AuxRequest:
    """What `flex_attention` is to return besides: the logarithm of each row's sum, the maximum of its scores."""

    lse: bool = False
    max_scores: bool = False


@dataclass(frozen=True)
class AuxOutput:
    """What was asked for, [b, h, l] each; None for what was not."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


class BlockMask:
    """A mask as a function of the places, for sequences of given lengths."""

    def __init__(self, seq_lengths: tuple[int, int], mask_mod: MaskMod, shape: tuple[int, ...], block: Any):
        self.seq_lengths = seq_lengths
        self.mask_mod = mask_mod
        self.shape = shape
        self.BLOCK_SIZE = (block, block) if isinstance(block, int) else tuple(block)

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, block_size={self.BLOCK_SIZE})"

    def to(self, device: Any) -> BlockMask:
        return self


def create_mask(
    mod_fn: MaskMod, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int, device: Any = None
) -> Tensor:
    """bool[B, H, Q_LEN, KV_LEN] of the function."""
    shape = (B or 1, H or 1, Q_LEN, KV_LEN)
    return mod_fn(*_grid(*shape)).expand(shape)


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: Any = None,
    BLOCK_SIZE: Any = _DEFAULT_SPARSE_BLOCK_SIZE,
    _compile: bool = False,
) -> BlockMask:
    """The function with the sizes it is for."""
    return BlockMask((Q_LEN, KV_LEN), mask_mod, (B or 1, H or 1, Q_LEN, KV_LEN), BLOCK_SIZE)


def and_masks(*mask_mods: MaskMod) -> MaskMod:
    """Where all of the functions say so."""
    _check_functions(mask_mods)

    def both(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        seen = noop_mask(b, h, q, kv)
        for mod in mask_mods:
            seen = seen.logical_and(mod(b, h, q, kv))
        return seen

    return both


def or_masks(*mask_mods: MaskMod) -> MaskMod:
    """Where any of the functions says so."""
    _check_functions(mask_mods)

    def either(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
        seen = noop_mask(b, h, q, kv).logical_not()
        for mod in mask_mods:
            seen = seen.logical_or(mod(b, h, q, kv))
        return seen

    return either


def _check_functions(mask_mods: Sequence[MaskMod]) -> None:
    if not all(callable(mod) for mod in mask_mods):
        raise RuntimeError(f"All inputs should be callable mask_mods: {mask_mods}")


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
    *,
    return_aux: AuxRequest | None = None,
) -> Any:
    """Attention of query[b, h, l, e] over key[b, h, s, e] and value[b, h, s, v]: softmax of the scores after
    `score_mod`, hidden where the mask says so. `return_lse`: also the logarithm of each row's sum; `return_aux`: also an
    `AuxOutput` of what it names."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim != 4:
            raise ValueError(f"flex_attention: {name} must be a 4-D tensor, got {tensor.ndim}-D")
    if query.shape[1] != key.shape[1]:
        if not enable_gqa:
            raise ValueError(
                f"Expect query and key/value to have the same number of heads but got Hq={query.shape[1]} and "
                f"Hkv={key.shape[1]}. Try setting enable_gqa=True for GQA."
            )
        repeats = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeats, 1) for x in (key, value))
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query.matmul(key.transpose(-2, -1)) * factor
    grid = _grid(*scores.shape)
    if score_mod is not None:
        scores = score_mod(scores, *grid)
    if block_mask is not None:
        if scores.shape[-2] > block_mask.seq_lengths[0] or scores.shape[-1] > block_mask.seq_lengths[1]:
            raise ValueError(
                f"block_mask was created for block_mask.shape={block_mask.shape} but got q_len={scores.shape[-2]} and "
                f"kv_len={scores.shape[-1]}."
            )
        scores = pointwise.where(block_mask.mask_mod(*grid), scores, -math.inf)
    seen = scores != -math.inf
    weights = pointwise.where(seen, reductions.softmax(scores, -1), 0.0)
    output = weights.matmul(value)
    if return_aux is not None:
        lse = reductions.logsumexp(scores, -1) if return_aux.lse else None
        return output, AuxOutput(lse, scores.amax(-1) if return_aux.max_scores else None)
    return (output, reductions.logsumexp(scores, -1)) if return_lse else output


__all__ = [
    "BlockMask", "and_masks", "create_block_mask", "create_mask", "flex_attention", "noop_mask", "or_masks",
]  # fmt: skip
