"""Discrete Fourier transforms, by NumPy's (pocketfft, which keeps single precision).

`norm` says which direction divides by the number of points, as NumPy and PyTorch call it: "backward" (the inverse),
"forward", or "ortho" (both, by the square root). The adjoint of a transform is the one in the other direction under
the other name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dims import DimLike
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import Array, Shape, check_dim, made, shape_of
from .complex_numbers import COMPLEX

Dims = tuple[int, ...]
ATTRS = {"dims": Attr("ints"), "norm": Attr("str", "backward")}
_OTHER = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def check_transform(shape: Shape, dims: Dims, norm: str) -> None:
    """The errors that all transforms have in common."""
    if norm not in _OTHER:
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    for dim in dims:
        check_dim(dim, len(shape))
        if shape[dim] == 0:
            raise RuntimeError("Invalid number of data points (0) specified")
    if len(set(dims)) < len(dims):
        raise RuntimeError("FFT dims must be unique")


def _need_single(x: TensorType) -> None:
    if x.dtype in (dtypes.f16, dtypes.bf16):
        raise RuntimeError(f"Unsupported dtype {x.dtype.scalar_type}")


def _halved(shape: Shape, dims: Dims) -> Shape:
    """The shape of the half spectrum: the last of the dims holds its points 0 to n // 2."""
    last = dims[-1]
    return (*shape[:last], shape[last] // 2 + 1, *shape[last + 1 :])


# Complex to complex


def _c2c_infer(x: TensorType, dims: Dims, norm: str, forward: bool) -> TensorType:
    check_transform(x.shape, dims, norm)
    if x.dtype.kind not in COMPLEX:
        raise RuntimeError(f"fft_c2c expects a complex tensor, but got {x.dtype.scalar_type}")
    return x


def _c2c_numpy(x: Array, dims: Dims, norm: str, forward: bool) -> Array:
    if not x.size or not dims:
        return x.copy()
    return (np.fft.fftn if forward else np.fft.ifftn)(x, axes=dims, norm=norm)  # type: ignore[arg-type]


def _c2c_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    attrs = ctx.attrs
    return [F.fft_c2c(dy, dims=attrs["dims"], norm=_OTHER[attrs["norm"]], forward=not attrs["forward"])]


def _spectrum(*shape: int, **attrs: Any) -> Sample:
    return made(
        lambda rng: [rng.normal(size=shape) + 1j * rng.normal(size=shape)],
        gradient=False,
        label=str(list(shape)),
        **attrs,
    )


declare(
    Op(
        "fft_c2c",
        "The discrete Fourier transform over `dims` (the inverse one without `forward`) of complex numbers. "
        "https://docs.pytorch.org/docs/stable/fft.html",
        infer=_c2c_infer,
        numpy=_c2c_numpy,
        attrs={**ATTRS, "forward": Attr("bool", True)},
        lowering="host",
        vjp=_c2c_vjp,
        grad_name="FftC2CBackward0",
        samples=(
            _spectrum(3, 5, dims=(1,)),
            _spectrum(3, 4, dims=(0, 1), norm="ortho", forward=False),
            _spectrum(2, 3, 4, dims=(1,), norm="forward"),
        ),
    )
)

# Real to complex


def _r2c_infer(x: TensorType, dims: Dims, norm: str) -> TensorType:
    _need_single(x)
    check_transform(x.shape, dims, norm)
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"rfft expects a real input tensor, but got {x.dtype.scalar_type}")
    return TensorType(_halved(x.shape, dims), x.dtype.to_complex())


def _r2c_numpy(x: Array, dims: Dims, norm: str) -> Array:
    if not x.size:
        return np.zeros(_halved(x.shape, dims), dtypes.from_numpy(x.dtype).to_complex().numpy)
    return np.fft.rfftn(x, axes=dims, norm=norm)  # type: ignore[arg-type]


def _r2c_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """The adjoint of taking half of the spectrum is to fill the other half with zeros."""
    dims, norm = ctx.attrs["dims"], ctx.attrs["norm"]
    type_ = F.type_of(ctx.inputs[0])
    last, rank = dims[-1], type_.rank
    missing = type_.shape[last] - shape_of(F, dy)[last]
    high: list[DimLike] = [0] * rank
    high[last] = missing
    full = F.pad(dy, low=(0,) * rank, high=tuple(high))
    whole = F.fft_c2c(full, dims=dims, norm=_OTHER[norm], forward=False)
    return [F.convert(whole, dtype=type_.dtype)]


declare(
    Op(
        "fft_r2c",
        "The discrete Fourier transform over `dims` of real numbers; the last of them keeps the points 0 to n // 2.",
        infer=_r2c_infer,
        numpy=_r2c_numpy,
        attrs=ATTRS,
        lowering="host",
        vjp=_r2c_vjp,
        grad_name="FftR2CBackward0",
        samples=(
            made(lambda rng: [rng.normal(size=(3, 5))], gradient=False, label="odd", dims=(1,)),
            made(lambda rng: [rng.normal(size=(4, 3))], gradient=False, dims=(1, 0), norm="ortho"),
        ),
    )
)

# Complex to real


def _c2r_infer(x: TensorType, dims: Dims, size: DimLike, norm: str) -> TensorType:
    last = dims[-1]
    if isinstance(size, int) and size < 1:
        raise RuntimeError(f"Invalid number of data points ({size}) specified")
    check_transform(x.shape, dims, norm)
    if x.dtype.kind not in COMPLEX:
        raise RuntimeError(f"fft_c2r expects a complex tensor, but got {x.dtype.scalar_type}")
    if x.shape[last] != size // 2 + 1:
        raise RuntimeError(
            f"fft_c2r: expected {size // 2 + 1} points in dim {last} for a result of {size}, got {x.shape[last]}"
        )
    return TensorType((*x.shape[:last], size, *x.shape[last + 1 :]), x.dtype.to_real())


def _c2r_numpy(x: Array, dims: Dims, size: int, norm: str) -> Array:
    lengths = [*(x.shape[d] for d in dims[:-1]), size]
    if not x.size:
        shape = list(x.shape)
        shape[dims[-1]] = size
        return np.zeros(shape, dtypes.from_numpy(x.dtype).to_real().numpy)
    return np.fft.irfftn(x, lengths, axes=dims, norm=norm)  # type: ignore[arg-type]


def _c2r_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """The forward transform of dy, where the points that stand for two of the spectrum count double."""
    dims, norm, size = ctx.attrs["dims"], ctx.attrs["norm"], ctx.attrs["size"]
    grad = F.fft_r2c(dy, dims=dims, norm=_OTHER[norm])
    shape = shape_of(F, grad)
    last = dims[-1]
    twice = size - shape[last]
    place = F.iota(
        shape=tuple(n if d == last else 1 for d, n in enumerate(shape)), dim=last, dtype=dtypes.i64
    )
    doubled = F.logical_and(F.gt(place, 0), F.le(place, twice))
    return [F.where(doubled, F.mul(grad, 2.0), grad)]


declare(
    Op(
        "fft_c2r",
        "The inverse of `fft_r2c`: real numbers, `size` of them in the last of the dims, from half of their spectrum.",
        infer=_c2r_infer,
        numpy=_c2r_numpy,
        attrs={"dims": Attr("ints"), "size": Attr("int"), "norm": Attr("str", "backward")},
        lowering="host",
        vjp=_c2r_vjp,
        grad_name="FftC2RBackward0",
        samples=(
            _spectrum(3, 5, dims=(1,), size=8),
            _spectrum(3, 5, dims=(0, 1), size=9, norm="ortho"),
            _spectrum(3, 4, dims=(0,), size=5, norm="forward"),
        ),
    )
)
