"""Complex tensors: their parts as views, conjugates, angles, and how they are made from real ones.

Conjugation is computed at once (PyTorch notes it in a bit of the tensor and computes later), so `is_conj()` is False
and `resolve_conj()` changes nothing.
"""

from __future__ import annotations

import math

from . import dispatch
from .arguments import tensor_argument
from .autocast import full_precision
from .dispatch import apply, constant, op_named, view_step
from .functional_pointwise import convert_copy, everywhere
from .inplace import assign, finish
from .ir import dtypes
from .memory_layout import storage_offset, strides
from .promotion import convert, get_default_dtype
from .tape_folded import folded
from .tensor import Tensor, scalar_type_name
from .views import ViewStep

_CONJ, _SGN, _SIGN, _ANGLE, _EQ, _WHERE, _LT, _NE, _MUL, _COS, _SIN, _CONCAT, _RESHAPE, _EXPAND = map(
    op_named,
    (
        "conj",
        "sgn",
        "sign",
        "angle",
        "eq",
        "where",
        "lt",
        "ne",
        "mul",
        "cos",
        "sin",
        "concat",
        "reshape",
        "expand",
    ),
)


# Parts


def view_as_real(input: Tensor) -> Tensor:
    """A view of complex numbers as reals, with a last dim of two for the parts."""
    tensor_argument(input, "view_as_real")
    if not input.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return dispatch.view(input, (view_step("view_as_real", {}),), "ViewAsRealBackward0")


@full_precision
def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs of reals along the last dim as complex numbers."""
    tensor_argument(input, "view_as_complex")
    step = view_step("view_as_complex", {})
    step.op.infer_types([input._type], step.attrs)
    steps = strides(input)
    if steps[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(isinstance(s, int) and s % 2 for s, size in zip(steps[:-1], input.shape) if size != 1):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    offset = storage_offset(input)
    if isinstance(offset, int) and offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    return dispatch.view(input, (step,), "ViewAsComplexBackward0")


def _part(input: Tensor, index: int) -> Tensor:
    shape = tuple(input.shape)
    one = view_step(
        "slice",
        {
            "starts": (0,) * len(shape) + (index,),
            "stops": (*shape, index + 1),
            "steps": (1,) * (len(shape) + 1),
        },
    )
    steps: tuple[ViewStep, ...] = (view_step("view_as_real", {}), one, view_step("reshape", {"shape": shape}))
    return dispatch.view(input, steps, "SelectBackward0")


def real(input: Tensor) -> Tensor:
    """The real parts, a view; a real tensor itself."""
    tensor_argument(input, "real")
    return _part(input, 0) if input.dtype.is_complex else input


def imag(input: Tensor) -> Tensor:
    """The imaginary parts, a view."""
    tensor_argument(input, "imag")
    if not input.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _part(input, 1)


def set_real(self: Tensor, value: Tensor) -> None:
    """`x.real = value`."""
    _set_part(real(self), value)


def set_imag(self: Tensor, value: Tensor) -> None:
    """`x.imag = value`."""
    _set_part(imag(self), value)


def _set_part(part: Tensor, value: Tensor) -> None:
    spread = apply(_EXPAND, (value,), {"shape": tuple(part.shape)})
    assign(part, convert(spread, part.dtype), replaced="CopyBackwards")


def isreal(input: Tensor) -> Tensor:
    """Where the imaginary part is 0."""
    if input.dtype.is_complex:
        part = imag(input.detach())
        whole: Tensor = apply(_EQ, (part, constant(0, part.dtype)))
        return whole
    return everywhere(input, True)


# Conjugates


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    tensor_argument(input, "conj")
    if not input.dtype.is_complex:
        return input
    result: Tensor = apply(_CONJ, (input,))
    return result


def conj_physical(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    tensor_argument(input, "conj_physical")
    if not input.dtype.is_complex:
        return finish(input, out, "conj_physical")
    return finish(apply(_CONJ, (input,), grad_name="ConjPhysicalBackward0"), out, "conj_physical")


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor with its conjugation computed: itself, because here it always is."""
    return tensor_argument(input, "resolve_conj")


def resolve_neg(input: Tensor) -> Tensor:
    """The tensor with its negation computed: itself, because here it always is."""
    return tensor_argument(input, "resolve_neg")


def is_conj(input: Tensor) -> bool:
    """Whether a conjugation of the tensor is still to be computed: False."""
    tensor_argument(input, "is_conj")
    return False


def is_neg(input: Tensor) -> bool:
    """Whether a negation of the tensor is still to be computed: False."""
    tensor_argument(input, "is_neg")
    return False


# Angles and signs


def angle(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The phase in radians; of real numbers 0 or pi."""
    tensor_argument(input, "angle")
    if input.dtype.is_complex:
        return finish(apply(_ANGLE, (input,)), out, "angle")

    def compute() -> Tensor:
        x = input if input.dtype.is_floating_point else convert(input, get_default_dtype())
        zero = constant(0, x.dtype)
        flat = apply(_WHERE, (apply(_NE, (x, x)), x, apply(_MUL, (x, zero))))  # NaN stays NaN
        turned: Tensor = apply(_WHERE, (apply(_LT, (x, zero)), constant(math.pi, x.dtype), flat))
        return turned

    return finish(folded("AngleBackward0", (input,), compute), out, "angle")


def sgn(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x / |x|, and 0 at 0: of real numbers their sign."""
    tensor_argument(input, "sgn")
    if input.dtype.kind == "bool":
        return finish(convert_copy(input), out, "sgn")
    op = _SGN if input.dtype.is_complex else _SIGN
    return finish(apply(op, (input,), grad_name="SgnBackward0"), out, "sgn")


# From real tensors


def _need_parts(first: Tensor, second: Tensor) -> None:
    for part in (first, second):
        if part.dtype not in (dtypes.f32, dtypes.f64):
            raise RuntimeError(
                "Expected both inputs to be Half, Float or Double tensors but got "
                f"{scalar_type_name(first.dtype)} and {scalar_type_name(second.dtype)}"
            )
    if first.dtype is not second.dtype:
        raise RuntimeError(
            f"Expected object of scalar type {scalar_type_name(first.dtype)} but got scalar type "
            f"{scalar_type_name(second.dtype)} for second argument"
        )


def _joined(first: Tensor, second: Tensor) -> Tensor:
    shape = apply(_MUL, (first.detach(), second.detach())).shape
    pair = [
        apply(_RESHAPE, (apply(_EXPAND, (part,), {"shape": tuple(shape)}),), {"shape": (*shape, 1)})
        for part in (first, second)
    ]
    both = apply(_CONCAT, pair, {"dim": len(shape)})
    whole: Tensor = apply(op_named("view_as_complex"), (both,))
    return whole


def complex(real: Tensor, imag: Tensor, *, out: Tensor | None = None) -> Tensor:
    """real + 1j * imag."""
    _need_parts(real, imag)
    return finish(folded("ComplexBackward0", (real, imag), lambda: _joined(real, imag)), out, "complex")


@full_precision
def polar(abs: Tensor, angle: Tensor, *, out: Tensor | None = None) -> Tensor:
    """abs * exp(1j * angle)."""
    _need_parts(abs, angle)

    def compute() -> Tensor:
        return _joined(apply(_MUL, (abs, apply(_COS, (angle,)))), apply(_MUL, (abs, apply(_SIN, (angle,)))))

    return finish(folded("PolarBackward0", (abs, angle), compute), out, "polar")


def as_reals(tensor: Tensor) -> Tensor:
    """A complex tensor seen as reals, as optimizers update it; a real tensor itself."""
    return view_as_real(tensor) if tensor.dtype.is_complex else tensor


# The names of `torch` that are defined here.
__all__ = [
    "angle", "complex", "conj", "conj_physical", "imag", "is_conj", "is_neg", "isreal", "polar", "real",
    "resolve_conj", "resolve_neg", "sgn", "view_as_complex", "view_as_real",
]  # fmt: skip
