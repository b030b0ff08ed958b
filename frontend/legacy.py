"""Constructors older than `torch.tensor`: `torch.Tensor(2, 3)`, `torch.FloatTensor([1, 2])`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import creation, promotion
from .arguments import as_dim
from .ir import dtypes
from .ir.dtypes import DType
from .size import Size
from .tensor import Tensor, scalar_type_name


def _construct(args: tuple[Any, ...], dtype: DType) -> Tensor:
    """From data (one sequence, array or tensor), or undefined from sizes (numbers, a `Size`)."""
    if not args:
        return creation.empty(0, dtype=dtype)
    first = args[0]
    if len(args) == 1 and not isinstance(first, Size):
        if isinstance(first, Tensor):
            if first.dtype is not dtype:
                raise TypeError(f"expected {scalar_type_name(dtype)} (got {scalar_type_name(first.dtype)})")
            return first.detach()
        if isinstance(first, Sequence | np.ndarray) and not isinstance(first, str):
            return creation.tensor(first, dtype=dtype)
        if not isinstance(first, int | np.integer):
            raise TypeError(f"new(): data must be a sequence (got {type(first).__name__})")
    return creation.empty(*(first if isinstance(first, Size) else map(as_dim, args)), dtype=dtype)


def _new_tensor(cls: type[Tensor], *args: Any, **kwargs: Any) -> Tensor:
    made = _construct(args, promotion.get_default_dtype())
    return made if cls is Tensor else made._alias(cls)


Tensor.__new__ = staticmethod(_new_tensor)  # type: ignore[method-assign, assignment]


class _TypedTensor(type):
    """`torch.FloatTensor` and its like: they construct, and recognise, tensors of their dtype."""

    dtype: DType

    def __call__(cls, *args: Any, **kwargs: Any) -> Tensor:
        return _construct(args, cls.dtype)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype


def _typed(dtype: DType) -> Any:
    name = scalar_type_name(dtype) + "Tensor"
    return _TypedTensor(name, (), {"dtype": dtype, "__module__": "torch"})


FloatTensor, DoubleTensor, HalfTensor, BFloat16Tensor = map(
    _typed, (dtypes.f32, dtypes.f64, dtypes.f16, dtypes.bf16)
)
LongTensor, IntTensor, ShortTensor, CharTensor = map(_typed, (dtypes.i64, dtypes.i32, dtypes.i16, dtypes.i8))
ByteTensor, BoolTensor = _typed(dtypes.u8), _typed(dtypes.bool_)


# The names of `torch` that are defined here.
__all__ = [
    "BFloat16Tensor", "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor",
    "HalfTensor", "IntTensor", "LongTensor", "ShortTensor",
]  # fmt: skip
