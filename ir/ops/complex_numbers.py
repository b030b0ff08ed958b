"""Complex numbers: conjugates, angles and signs, and the two views between a complex value and its parts.

Gradients follow PyTorch's convention, dL/dRe + i dL/dIm
(https://docs.pytorch.org/docs/stable/notes/autograd.html#autograd-for-complex-numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Op, Sample, declare
from ..types import TensorType
from .common import Array, check_dtype, made

COMPLEX = frozenset({"complex"})
_PARTS = (dtypes.f32, dtypes.f64)


def complexes(*shape: int, gradient: bool = False, **attrs: Any) -> Sample:
    """A complex128 operand. The op tests differentiate real operands only; `tests/samples` has the complex ones."""
    return made(
        lambda rng: [rng.normal(size=shape) + 1j * rng.normal(size=shape)],
        gradient=gradient,
        label="complex",
        **attrs,
    )


def _declare(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    vjp: Callable[..., Sequence[Any]],
    saves: tuple[str, ...],
    real_result: bool = False,
) -> None:
    def infer(x: TensorType) -> TensorType:
        check_dtype(name, x, COMPLEX)
        return x.with_dtype(x.dtype.to_real()) if real_result else x

    declare(
        Op(
            name,
            doc,
            infer=infer,
            numpy=numpy,
            lowering="host",
            vjp=vjp,
            saves=saves,
            grad_name=f"{name.capitalize()}Backward0",
            samples=(complexes(3, 4), complexes(), complexes(2, 0)),
        )
    )


_declare(
    "conj",
    "The complex conjugate.",
    np.conjugate,
    lambda F, ctx, dy: [F.conj(dy)],
    (),
)


def angle_array(x: Array) -> Array:
    """The phase, in x's precision."""
    return np.arctan2(x.imag, x.real)


def _angle_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    dtype = F.type_of(x).dtype
    size = F.abs(x)
    at_zero = F.eq(size, 0)
    square = F.where(at_zero, F.ones_like(size), F.mul(size, size))
    scale = F.where(at_zero, F.zeros_like(size), F.div(dy, square))
    return [F.mul(F.convert(scale, dtype=dtype), F.mul(x, 1j))]


_declare(
    "angle",
    "The phase of a complex number, in (-pi, pi]; its gradient at 0 is 0.",
    angle_array,
    _angle_vjp,
    ("input:0",),
    real_result=True,
)


def sgn_array(x: Array) -> Array:
    """x / |x|, and 0 at 0."""
    size = np.abs(x)
    return np.where(size == 0, 0, x / np.where(size == 0, 1, size)).astype(x.dtype)


def _sgn_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """Of the cotangent the part across the phase, over |x|: (dy - Re(conj(s) dy) s) / |x|."""
    x, sign = ctx.inputs[0], ctx.outputs[0]
    dtype = F.type_of(x).dtype
    size = F.abs(x)
    at_zero = F.eq(size, 0)
    along = F.convert(F.convert(F.mul(F.conj(sign), dy), dtype=dtype.to_real()), dtype=dtype)
    across = F.sub(dy, F.mul(along, sign))
    grad = F.div(across, F.convert(F.where(at_zero, F.ones_like(size), size), dtype=dtype))
    return [F.where(at_zero, F.zeros_like(grad), grad)]


_declare(
    "sgn",
    "x / |x| of a complex number, and 0 at 0.",
    sgn_array,
    _sgn_vjp,
    ("input:0", "output:0"),
)


def _as_real_infer(x: TensorType) -> TensorType:
    if not x.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return TensorType((*x.shape, 2), x.dtype.to_real())


def _as_real_numpy(x: Array) -> Array:
    return x[..., None].view(dtypes.from_numpy(x.dtype).to_real().numpy)


declare(
    Op(
        "view_as_real",
        "A complex value as reals, with a last dim of two for the real and the imaginary part. "
        "https://docs.pytorch.org/docs/stable/generated/torch.view_as_real.html",
        infer=_as_real_infer,
        numpy=_as_real_numpy,
        lowering="host",
        vjp=lambda F, ctx, dy: [F.view_as_complex(dy)],
        write_back=lambda F, base, view: F.view_as_complex(view),
        grad_name="ViewAsRealBackward0",
        samples=(complexes(3, 4), complexes(), complexes(2, 0)),
    )
)


def _as_complex_infer(x: TensorType) -> TensorType:
    if x.dtype not in _PARTS:
        raise RuntimeError(
            "view_as_complex is only supported for half, float and double tensors, but got a tensor of scalar "
            f"type: {x.dtype.scalar_type}"
        )
    if not x.rank:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if x.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    return TensorType(x.shape[:-1], x.dtype.to_complex())


def _as_complex_numpy(x: Array) -> Array:
    whole = dtypes.from_numpy(x.dtype).to_complex().numpy
    if x.size and x.strides[-1] != x.itemsize:
        x = np.ascontiguousarray(x)
    return x.view(whole)[..., 0] if x.size else np.zeros(x.shape[:-1], whole)


declare(
    Op(
        "view_as_complex",
        "Pairs of reals along the last dim as complex numbers. "
        "https://docs.pytorch.org/docs/stable/generated/torch.view_as_complex.html",
        infer=_as_complex_infer,
        numpy=_as_complex_numpy,
        lowering="host",
        vjp=lambda F, ctx, dy: [F.view_as_real(dy)],
        write_back=lambda F, base, view: F.view_as_real(view),
        grad_name="ViewAsComplexBackward0",
        samples=(made(lambda rng: [rng.normal(size=(3, 4, 2))], gradient=False),),
    )
)
