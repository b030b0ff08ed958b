"""`nn.functional.pad`: zeros or another number around a tensor, or its own elements mirrored, repeated or
wrapped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autocast import full_precision
from ..dispatch import apply, op_named
from ..promotion import number_in
from ..tensor import Tensor, wrap


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """`pad` lists (before, after) per dim, the last dim first; negative numbers crop (constant mode only)."""
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) // 2 > input.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got padding "
            f"length {len(pad)} and input of dimension {input.ndim}"
        )
    low, high = [0] * input.ndim, [0] * input.ndim
    for i in range(len(pad) // 2):
        low[-1 - i], high[-1 - i] = int(pad[2 * i]), int(pad[2 * i + 1])
    if mode == "constant":
        return _constant(input, low, high, 0.0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    return _copied(input, low, high, mode)


@full_precision
def _copied(input: Tensor, low: list[int], high: list[int], mode: str) -> Tensor:
    for dim in range(input.ndim):
        if low[dim] or high[dim]:
            input = _by_index(input, dim, low[dim], high[dim], mode)
    return input


def _constant(input: Tensor, low: list[int], high: list[int], value: float) -> Tensor:
    for dim, (before, after) in enumerate(zip(low, high)):
        if before < 0 or after < 0:
            size = input.shape[dim]
            start, stop = max(-before, 0), size - max(-after, 0)
            input = input.narrow(dim, start, stop - start)
    kept = [max(v, 0) for v in low], [max(v, 0) for v in high]
    if input.dtype.kind not in ("float", "complex"):
        value = number_in(value, input.dtype)
    attrs = {"low": tuple(kept[0]), "high": tuple(kept[1]), "value": value}
    result: Tensor = apply(op_named("pad"), (input,), attrs, "ConstantPadNdBackward0")
    return result


def _by_index(input: Tensor, dim: int, low: int, high: int, mode: str) -> Tensor:
    size = int(input.shape[dim])
    if mode == "reflect" and max(low, high) >= size:
        raise RuntimeError(
            "Argument #4: Padding size should be less than the corresponding input dimension, but got: "
            f"padding ({low}, {high}) at dimension {dim} of input {list(input.shape)}"
        )
    if mode == "circular" and max(low, high) > size:
        raise RuntimeError("Padding value causes wrapping around more than once.")
    positions = np.arange(-low, size + high)
    if mode == "replicate":
        positions = positions.clip(0, size - 1)
    elif mode == "circular":
        positions %= size
    else:
        positions = np.abs(positions)
        positions = np.where(positions >= size, 2 * (size - 1) - positions, positions)
    result: Tensor = apply(op_named("index_select"), (input, wrap(positions.astype(np.int64))), {"dim": dim})
    return result
