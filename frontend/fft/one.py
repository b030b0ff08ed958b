"""Transforms along one dim. See https://docs.pytorch.org/docs/stable/fft.html."""

from __future__ import annotations

from ..functional_complex import conj
from ..inplace import finish
from ..tensor import Tensor, scalar_type_name
from .common import as_complex, c2c, c2r, floating, one_dim, opposite, r2c, resized


def _full(
    name: str, input: Tensor, n: int | None, dim: int, norm: str | None, forward: bool, out: Tensor | None
) -> Tensor:
    value, at = as_complex(input), one_dim(input, dim)
    return finish(c2c(resized(value, (at,), (-1 if n is None else n,)), (at,), norm, forward), out, name)


def fft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The discrete Fourier transform of `n` points along a dim."""
    return _full("fft_fft", input, n, dim, norm, True, out)


def ifft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The inverse of `fft`."""
    return _full("fft_ifft", input, n, dim, norm, False, out)


def _half_of_real(name: str, input: Tensor, n: int | None, dim: int, norm: str | None) -> Tensor:
    if input.dtype.is_complex:
        raise RuntimeError(f"{name} expects a real input tensor, but got {scalar_type_name(input.dtype)}")
    at = one_dim(input, dim)
    return r2c(resized(floating(input), (at,), (-1 if n is None else n,)), (at,), norm)


def _real_of_half(input: Tensor, n: int | None, dim: int, norm: str | None, conjugate: bool) -> Tensor:
    value, at = as_complex(input), one_dim(input, dim)
    size = 2 * (input.shape[at] - 1) if n is None else n
    if isinstance(size, int) and size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    value = resized(value, (at,), (size // 2 + 1,))
    return c2r(conj(value) if conjugate else value, (at,), size, norm)


def rfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """`fft` of real numbers: the points 0 to n // 2, which say everything."""
    return finish(_half_of_real("rfft", input, n, dim, norm), out, "fft_rfft")


def irfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The inverse of `rfft`: `n` real numbers, by default an even count."""
    return finish(_real_of_half(input, n, dim, norm, False), out, "fft_irfft")


def hfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """`fft` of a signal with Hermitian symmetry, given by half of it: `n` real numbers."""
    return finish(_real_of_half(input, n, dim, opposite(norm), True), out, "fft_hfft")


def ihfft(
    input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *, out: Tensor | None = None
) -> Tensor:
    """The inverse of `hfft`."""
    return finish(conj(_half_of_real("ihfft", input, n, dim, opposite(norm))), out, "fft_ihfft")
