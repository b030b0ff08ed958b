"""Reading arguments as PyTorch does: dims counted from the end, sizes given one by one or as a sequence,
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .ir.dims import DimLike, Expr
from .tensor import Tensor, wrap

Number = int | float | bool


def wrap_dim(dim: Any, rank: int, scalar: bool = True) -> int:
    """The dim counted from the front; IndexError outside the range. A 0-d tensor counts as having one dim."""
    if type(dim) is not int:
        dim = as_int(dim)
    size = rank if rank or not scalar else 1
    if not -size <= dim < size:
        if size == 0:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})"
        )
    return dim if dim >= 0 else dim + size


def wrap_dims(dims: Any, rank: int) -> tuple[int, ...]:
    """One dim, several, or None for all, counted from the front; RuntimeError for a repeated one."""
    if dims is None:
        return tuple(range(rank))
    if isinstance(dims, Sequence):
        found = tuple(wrap_dim(d, rank) for d in dims)
        for i, dim in enumerate(found):
            if dim in found[:i]:
                raise RuntimeError(f"dim {dim} appears multiple times in the list of dims")
        return found
    return (wrap_dim(dims, rank),)


def as_int(value: Any) -> int:
    """A Python int from anything that is an integer: NumPy's, a 0-d integer tensor."""
    if isinstance(value, bool):
        return int(value)
    try:
        return int(value.__index__())
    except (AttributeError, TypeError):
        raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer") from None


def as_dim(value: Any) -> DimLike:
    """A size: an int, or a symbolic dim as it is."""
    if type(value) is int or isinstance(value, Expr):
        return value
    return as_int(value)


def sizes(given: Sequence[Any], name: str = "size") -> tuple[DimLike, ...]:
    """`f(2, 3)`, `f((2, 3))` and `f(torch.Size([2, 3]))` as one tuple."""
    if len(given) == 1 and isinstance(given[0], Sequence) and not isinstance(given[0], str):
        given = given[0]
    try:
        return tuple([s if type(s) is int else as_dim(s) for s in given])
    except TypeError:
        bad = next(s for s in given if not isinstance(s, int | Expr))
        raise TypeError(
            f"{name}(): argument 'size' (position 1) must be tuple of ints, not {type(bad).__name__}"
        ) from None


# `isinstance(x, A | B)` makes the union anew each time, which takes as long as a small op's arithmetic.
_COMMON = (Tensor, int, float)
_OPERANDS = (*_COMMON, complex, np.generic, np.ndarray, Expr)


def operand(value: Any, name: str, argument: str = "other", position: int = 2) -> Any:
    """A tensor or a Python number; NumPy scalars and arrays become one of the two. TypeError for the rest."""
    if isinstance(value, _COMMON):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return wrap(value)
    if isinstance(value, complex | Expr):
        return value
    raise TypeError(
        f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {_type_name(value)}"
    )


def tensor_argument(value: Any, name: str, argument: str = "input", position: int = 1) -> Tensor:
    """The value, which must be a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {_type_name(value)}"
        )
    return value


def tensors_argument(values: Any, name: str) -> list[Tensor]:
    """The sequence `tensors` of `cat` and its like, each of which must be a tensor."""
    if isinstance(values, Tensor) or not isinstance(values, Iterable):
        raise TypeError(
            f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {_type_name(values)}"
        )
    found = list(values)
    for i, value in enumerate(found):
        if not isinstance(value, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {_type_name(value)}")
    return found


def is_operand(value: Any) -> bool:
    """Whether an operator (`+`, `<` ...) takes the value as its other side."""
    return isinstance(value, _OPERANDS)


def _type_name(value: Any) -> str:
    return type(value).__name__
