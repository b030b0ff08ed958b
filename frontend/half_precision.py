"""Functions made of several ops, on float16 and bfloat16: computed in float32, rounded once, as PyTorch's kernels do.

For single ops `ir/half_precision.py` sees to that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .ir import dtypes
from .ir.half_precision import HALF
from .promotion import convert
from .tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def in_float32(function: F) -> F:
    """The function on operands all of one sixteen-bit type: in float32, its results and gradients rounded once."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        dtype = None
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value._type.dtype.is_floating_point:
                if value._type.dtype not in HALF or dtype not in (None, value._type.dtype):
                    return function(*args, **kwargs)
                dtype = value._type.dtype
        if dtype is None:
            return function(*args, **kwargs)
        found: Tensor = function(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})
        node = found._grad_fn
        return convert(found, dtype, None if node is None else node.name())

    return wrapper  # type: ignore[return-value]


def _wide(value: Any) -> Any:
    return convert(value, dtypes.f32) if isinstance(value, Tensor) and value._type.dtype in HALF else value
