"""Which dtype an op computes in, given tensors and Python numbers.

PyTorch's rule (https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc): operands fall
in three classes: tensors with dims, 0-d tensors, Python numbers. A lower class takes part only if its kind
(bool < integral < float < complex) is higher than that of every class above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arguments import also_named
from .dispatch import apply, constant, op_named
from .ir import dtypes
from .ir.dims import Expr
from .ir.dtypes import DType, promote
from .ir.op import Op
from .tensor import Tensor, data_changed, scalar_type_name

_default = dtypes.f32
_KIND_RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}
_CONVERT = op_named("convert")


def get_default_dtype() -> DType:
    """The dtype of floating-point tensors made from Python numbers."""
    return _default


def set_default_dtype(d: DType) -> None:
    """Change it; TypeError for anything but a floating-point dtype."""
    global _default
    if not isinstance(d, DType) or not d.is_floating_point:
        raise TypeError(
            "only floating-point types are supported as the default type"
            if isinstance(d, DType)
            else "invalid type object: only floating-point types are supported as the default type"
        )
    _default = d
    data_changed()  # compiled functions look again whether they fit


def default_complex() -> DType:
    return dtypes.c128 if _default is dtypes.f64 else dtypes.c64


def number_dtype(value: Any) -> DType:
    """The dtype of a tensor made from the Python number alone."""
    if isinstance(value, bool):
        return dtypes.bool_
    if isinstance(value, int | Expr):
        return dtypes.i64
    if isinstance(value, float):
        return _default
    return default_complex()


def result_dtype(*operands: Any) -> DType:
    """The dtype that tensors and Python numbers have in common."""
    classes: list[DType | None] = [None, None, None]  # with dims, 0-d, numbers
    for operand in operands:
        if isinstance(operand, Tensor):
            level, dtype = 0 if operand.ndim else 1, operand._type.dtype
        else:
            level, dtype = 2, number_dtype(operand)
        before = classes[level]
        classes[level] = dtype if before is None or before is dtype else promote(before, dtype)
    result: DType | None = None
    for found in classes:
        if found is None:
            continue
        if result is None:
            result = found
        elif _KIND_RANK[found.kind] > _KIND_RANK[result.kind]:
            result = _raised(result, found)
    assert result is not None
    return result


def _raised(higher_class: DType, lower_class: DType) -> DType:
    """The dtype where a lower class has the higher kind: complex from a float tensor keeps the float's
    precision.
    """
    if lower_class.kind == "complex" and higher_class.kind == "float":
        return dtypes.c128 if higher_class is dtypes.f64 else dtypes.c64
    return lower_class


@also_named(scalar="other", scalar1="tensor", scalar2="other")
def result_type(tensor: Any, other: Any) -> DType:
    """`torch.result_type`: the dtype of arithmetic on the two."""
    return result_dtype(tensor, other)


def can_cast(from_: DType, to: DType) -> bool:
    """Whether in-place arithmetic may turn the one dtype into the other: never to a lower kind."""
    if from_.kind == "complex":
        return to.kind == "complex"
    if from_.kind == "float":
        return to.kind in ("float", "complex")
    return to is not dtypes.bool_ or from_ is dtypes.bool_


def convert(tensor: Tensor, dtype: DType, grad_name: str | None = None) -> Tensor:
    """The tensor in that dtype; itself if it has it."""
    if tensor._type.dtype is dtype:
        return tensor
    found: Tensor = apply(_CONVERT, (tensor,), {"dtype": dtype}, grad_name)
    return found


def as_operand(value: Any, dtype: DType) -> Tensor:
    """A tensor or Python number as an operand of that dtype."""
    if isinstance(value, Tensor):
        return value if value._type.dtype is dtype else convert(value, dtype)
    return constant(_wrapped(value, dtype), dtype)


def apply_to_counts(op: Op, operands: tuple[Tensor, Tensor, Tensor], attrs: Mapping[str, Any]) -> Tensor:
    """An op on (input, index, source); of bools as of the integers 0 and 1, whose sum says whether there is a 1."""
    input, index, source = operands
    if input.dtype is not dtypes.bool_:
        result: Tensor = apply(op, operands, attrs)
        return result
    counts = apply(op, (convert(input, dtypes.i32), index, convert(source, dtypes.i32)), attrs)
    return convert(counts, dtypes.bool_)


def number_in(value: Any, dtype: DType) -> Any:
    """A number as PyTorch's kernels of that dtype take it: of an integer dtype without its fraction, and modulo 2**bits
    if it is negative; RuntimeError for what does not fit."""
    if dtype is dtypes.bool_:
        return bool(value)
    if not dtype.is_integral:
        return value
    largest = (1 << (dtype.itemsize * 8 - dtype.is_signed)) - 1
    if not -largest - dtype.is_signed <= value <= largest:
        raise RuntimeError(f"value cannot be converted to type {dtype.torch_name}_t without overflow")
    return _wrapped(int(value), dtype)


def _wrapped(value: Any, dtype: DType) -> Any:
    """The number as the integer dtype holds it: modulo 2**bits, as PyTorch converts it."""
    if dtype.is_integral and isinstance(value, int) and not isinstance(value, bool):
        bits = dtype.itemsize * 8
        value &= (1 << bits) - 1
        if dtype.is_signed and value >> (bits - 1):
            value -= 1 << bits
    return value


def promoted(*operands: Any, floating: bool = False) -> list[Tensor]:
    """The operands as tensors of the dtype they have in common; `floating` turns integers into the default
    dtype.
    """
    dtype = result_dtype(*operands)
    if floating and dtype.kind not in ("float", "complex"):
        dtype = _default
    return [as_operand(operand, dtype) for operand in operands]


def check_castable(computed: DType, target: DType) -> None:
    """RuntimeError if an in-place op or `out=` would have to lower the kind of the result."""
    if not can_cast(computed, target):
        raise RuntimeError(
            f"result type {scalar_type_name(computed)} can't be cast to the desired output type "
            f"{scalar_type_name(target)}"
        )


# The names of `torch` that are defined here.
__all__ = [
    "can_cast", "get_default_dtype", "result_type", "set_default_dtype",
]  # fmt: skip
