"""Max pooling to a fraction of the size, with windows at random places. B. Graham, "Fractional max-pooling", 2014."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..creation import counted
from ..dispatch import apply, op_named
from ..functional_indexing import gather
from ..functional_reductions import max as largest
from ..functional_shape import cat
from ..ir import dtypes
from ..random import rand
from ..tensor import Tensor
from .windows import Ints, spread

Ratios = float | Sequence[float]


def _starts(sample: Tensor, have: int, want: int, window: int) -> Tensor:
    """Where the windows of each plane start, [n, c, want]; `sample`[n, c] from [0, 1) shifts them."""
    last = sample.detach().unsqueeze(-1) * 0.0 + float(have - window)
    if want == 1:
        return last.to(dtypes.i64)
    alpha = (have - window) / (want - 1)
    numbers: Tensor = apply(op_named("iota"), (), {"shape": (want - 1,), "dim": 0, "dtype": sample.dtype})
    shift = sample.unsqueeze(-1)
    places = ((numbers + shift) * alpha).trunc() - (shift * alpha).trunc()
    return cat([places, last], -1).to(dtypes.i64)


def _fractional(
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None,
    output_ratio: Ratios | None,
    return_indices: bool,
    samples: Tensor | None,
) -> Any:
    name = f"fractional_max_pool{rank}d"
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    have = [int(n) for n in input.shape[input.ndim - rank :]]
    if output_size is None:
        assert output_ratio is not None
        ratios = [output_ratio] * rank if isinstance(output_ratio, int | float) else list(output_ratio)
        if len(ratios) != rank:
            raise ValueError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
        output_size = [int(n * r) for n, r in zip(have, ratios)]
    if input.ndim not in (rank + 1, rank + 2):
        raise RuntimeError(
            f"{name}(): Expected {rank + 1}D or {rank + 2}D tensor, but got: {list(input.shape)}"
        )
    lone = input.ndim == rank + 1
    x = input.unsqueeze(0) if lone else input
    window, want = spread(kernel_size, rank, "kernel_size"), spread(output_size, rank, "output_size")
    batch, channels = x.shape[0], x.shape[1]
    if samples is None:
        samples = rand(batch, channels, rank, dtype=x.dtype)
    # Of two dims PyTorch's samples name the last one first, of three the first.
    order = (1, 0) if rank == 2 else (0, 1, 2)
    places: Tensor | None = None
    for axis in range(rank):
        if want[axis] + window[axis] - 1 > have[axis]:
            side = ("time", "height", "width")[axis + 3 - rank]
            raise RuntimeError(
                f"{name}(): pool {side} {window[axis]} too large relative to input {side} {have[axis]}"
            )
        start = _starts(samples[:, :, order[axis]], have[axis], want[axis], window[axis])
        offsets = counted(window[axis], 0, 1, dtypes.i64)
        # [n, c, windows so far, elements so far] and one dim more
        along = start.unsqueeze(-1) + offsets
        if places is None:
            places = along
            continue
        wide = places.unsqueeze(3).unsqueeze(5) * have[axis] + along.unsqueeze(2).unsqueeze(4)
        windows, elements = wide.shape[2] * wide.shape[3], wide.shape[4] * wide.shape[5]
        places = wide.reshape(batch, channels, windows, elements)
    assert places is not None
    windows, elements = places.shape[2], places.shape[3]
    flat = x.reshape(batch, channels, -1)
    taken = gather(flat, 2, places.reshape(batch, channels, windows * elements))
    found, which = largest(taken.reshape(places.shape), -1)
    result = found.reshape(batch, channels, *want)
    if not return_indices:
        return result.squeeze(0) if lone else result
    indices = gather(places, 3, which.unsqueeze(-1)).reshape(batch, channels, *want)
    return (result.squeeze(0), indices.squeeze(0)) if lone else (result, indices)


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: Ratios | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima over `output_size` (or that ratio of the size) windows; `_random_samples`[n, c, 2] says where they lie."""
    return _fractional(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: Ratios | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima over `output_size` (or that ratio of the size) windows; `_random_samples`[n, c, 3] says where they lie."""
    return _fractional(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


fractional_max_pool2d_with_indices = partial(fractional_max_pool2d, return_indices=True)
fractional_max_pool3d_with_indices = partial(fractional_max_pool3d, return_indices=True)
