"""What the transforms share: operands in the dtype to transform, cut or filled up to the wanted sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arguments import as_dim, wrap_dim
from ..autocast import full_precision
from ..dispatch import apply, op_named
from ..ir import dtypes
from ..promotion import convert, get_default_dtype
from ..tensor import Tensor, scalar_type_name

_C2C, _R2C, _C2R, _PAD = map(op_named, ("fft_c2c", "fft_r2c", "fft_c2r", "pad"))
_OPPOSITE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


@full_precision
def floating(input: Tensor) -> Tensor:
    """Integers as the default dtype; RuntimeError for narrow floats, as on PyTorch's CPU."""
    if input.dtype in (dtypes.f16, dtypes.bf16):
        raise RuntimeError(f"Unsupported dtype {scalar_type_name(input.dtype)}")
    return input if input.dtype.kind in ("float", "complex") else convert(input, get_default_dtype())


def as_complex(input: Tensor) -> Tensor:
    """The tensor in the complex dtype of its precision."""
    value = floating(input)
    return value if value.dtype.is_complex else convert(value, value.dtype.to_complex())


def resized(input: Tensor, dims: Sequence[int], sizes: Sequence[Any]) -> Tensor:
    """The input cut, or filled up with zeros, to the sizes in these dims; -1 keeps one."""
    high: list[Any] = [0] * input.ndim
    for dim, size in zip(dims, sizes):
        size = as_dim(size)
        if size == -1:
            continue
        if isinstance(size, int) and size < 1:
            raise RuntimeError(f"Invalid number of data points ({size}) specified")
        high[dim] = size - input.shape[dim]
    if all(isinstance(h, int) and h == 0 for h in high):
        return input
    result: Tensor = apply(_PAD, (input,), {"low": (0,) * input.ndim, "high": tuple(high)})
    return result


def one_dim(input: Tensor, dim: int) -> int:
    """The dim counted from the front; IndexError outside."""
    return wrap_dim(dim, input.ndim, scalar=False)


def several_dims(input: Tensor, s: Any, dim: Any) -> tuple[tuple[int, ...], list[Any]]:
    """The dims to transform and the wanted sizes (-1: as it is)."""
    given = [s] if isinstance(s, int) else None if s is None else list(s)
    named = [dim] if isinstance(dim, int) else None if dim is None else list(dim)
    if named is not None:
        dims = tuple(wrap_dim(d, input.ndim, scalar=False) for d in named)
        if len(set(dims)) < len(dims):
            raise RuntimeError("FFT dims must be unique")
        if given is not None and len(given) != len(dims):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif given is not None:
        if len(given) > input.ndim:
            raise RuntimeError(
                f"Got shape with {len(given)} values but input tensor only has {input.ndim} dimensions."
            )
        dims = tuple(range(input.ndim - len(given), input.ndim))
    else:
        dims = tuple(range(input.ndim))
    return dims, given if given is not None else [-1] * len(dims)


def opposite(norm: str | None) -> str:
    """The name under which the other direction divides alike."""
    name = "backward" if norm is None else norm
    if name not in _OPPOSITE:
        raise RuntimeError(f'Invalid normalization mode: "{name}"')
    return _OPPOSITE[name]


def c2c(input: Tensor, dims: tuple[int, ...], norm: str | None, forward: bool) -> Tensor:
    result: Tensor = apply(_C2C, (input,), {"dims": dims, "norm": norm or "backward", "forward": forward})
    return result


def r2c(input: Tensor, dims: tuple[int, ...], norm: str | None) -> Tensor:
    result: Tensor = apply(_R2C, (input,), {"dims": dims, "norm": norm or "backward"})
    return result


def c2r(input: Tensor, dims: tuple[int, ...], size: Any, norm: str | None) -> Tensor:
    result: Tensor = apply(_C2R, (input,), {"dims": dims, "size": size, "norm": norm or "backward"})
    return result
