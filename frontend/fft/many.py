"""Transforms over several dims. See https://docs.pytorch.org/docs/stable/fft.html."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..functional_complex import conj
from ..inplace import finish
from ..tensor import Tensor, scalar_type_name
from .common import as_complex, c2c, c2r, floating, opposite, r2c, resized, several_dims


def _fftn(input: Tensor, s: Any, dim: Any, norm: str | None, forward: bool) -> Tensor:
    dims, sizes = several_dims(input, s, dim)
    return c2c(resized(as_complex(input), dims, sizes), dims, norm, forward)


def fftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The discrete Fourier transform over the dims, of sizes `s`."""
    return finish(_fftn(input, s, dim, norm, True), out, "fft_fftn")


def ifftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The inverse of `fftn`."""
    return finish(_fftn(input, s, dim, norm, False), out, "fft_ifftn")


def rfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """`fftn` of real numbers: half of the spectrum in the last of the dims."""
    if input.dtype.is_complex:
        raise RuntimeError(
            f"rfftn expects a real-valued input tensor, but got {scalar_type_name(input.dtype)}"
        )
    dims, sizes = several_dims(input, s, dim)
    if not dims:
        raise RuntimeError("rfftn must transform at least one axis")
    return finish(r2c(resized(floating(input), dims, sizes), dims, norm), out, "fft_rfftn")


def _half_sizes(name: str, input: Tensor, s: Any, dim: Any) -> tuple[tuple[int, ...], list[Any], Any]:
    """The dims, the sizes of the half spectrum in them, and the size of the result in the last."""
    dims, sizes = several_dims(input, s, dim)
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")
    last = 2 * (input.shape[dims[-1]] - 1) if s is None or sizes[-1] == -1 else sizes[-1]
    if isinstance(last, int) and last < 1:
        raise RuntimeError(f"Invalid number of data points ({last}) specified")
    return dims, [*sizes[:-1], last // 2 + 1], last


def irfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The inverse of `rfftn`."""
    dims, sizes, last = _half_sizes("irfftn", input, s, dim)
    return finish(c2r(resized(as_complex(input), dims, sizes), dims, last, norm), out, "fft_irfftn")


def hfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """`fftn` of a signal with Hermitian symmetry, given by half of it in the last of the dims: real."""
    dims, sizes, last = _half_sizes("hfftn", input, s, dim)
    half = resized(as_complex(input), dims, sizes)
    return finish(c2r(conj(half), dims, last, opposite(norm)), out, "fft_hfftn")


def ihfftn(
    input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The inverse of `hfftn`."""
    if input.dtype.is_complex:
        raise RuntimeError(f"Only supports floating-point dtypes, but found: {scalar_type_name(input.dtype)}")
    dims, sizes = several_dims(input, s, dim)
    if not dims:
        raise RuntimeError("ihfftn must transform at least one axis")
    half = r2c(resized(floating(input), dims, sizes), dims, opposite(norm))
    return finish(conj(half), out, "fft_ihfftn")


def _of_two(function: Callable[..., Tensor], doc: str) -> Callable[..., Tensor]:
    def two(
        input: Tensor,
        s: Any = None,
        dim: Any = (-2, -1),
        norm: str | None = None,
        *,
        out: Tensor | None = None,
    ) -> Tensor:
        return function(input, s, dim, norm, out=out)

    two.__name__ = two.__qualname__ = function.__name__[:-1] + "2"
    two.__doc__ = doc
    return two


fft2 = _of_two(fftn, "`fftn` over two dims, by default the last.")
ifft2 = _of_two(ifftn, "`ifftn` over two dims, by default the last.")
rfft2 = _of_two(rfftn, "`rfftn` over two dims, by default the last.")
irfft2 = _of_two(irfftn, "`irfftn` over two dims, by default the last.")
hfft2 = _of_two(hfftn, "`hfftn` over two dims, by default the last.")
ihfft2 = _of_two(ihfftn, "`ihfftn` over two dims, by default the last.")
