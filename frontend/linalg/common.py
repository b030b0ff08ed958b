"""What the linear algebra functions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..creation import arange
from ..functional_complex import conj
from ..functional_pointwise import eq
from ..functional_shape import transpose, unsqueeze
from ..inplace import into
from ..ir.dtypes import DType
from ..promotion import convert
from ..tensor import Tensor
from .results import RESULTS


def named(name: str, results: Sequence[Tensor], out: Any = None) -> Any:
    """The results as the named tuple of that name; written to `out` where it is given."""
    if out is not None:
        if not isinstance(out, tuple | list) or len(out) != len(results):
            raise TypeError(f"{name}(): argument 'out' must be a tuple of {len(results)} tensors")
        results = [into(target, result, name) for target, result in zip(out, results)]
    return RESULTS[name](*results)


def need_matrix(name: str, value: Tensor, argument: str = "A") -> None:
    """RuntimeError, which names the argument, for less than two dims."""
    if value.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {argument} must have at least 2 dimensions.")


def need_square(name: str, value: Tensor, argument: str = "A") -> None:
    """RuntimeError, which names the argument, unless it is a batch of square matrices."""
    need_matrix(name, value, argument)
    if value.shape[-1] != value.shape[-2]:
        raise RuntimeError(
            f"{name}: {argument} must be batches of square matrices, but they are {value.shape[-2]} by "
            f"{value.shape[-1]} matrices"
        )


def conjugate_transpose(value: Tensor) -> Tensor:
    """The last two dims exchanged, and conjugated if complex."""
    return conj(transpose(value, -2, -1))


def one_hot_columns(order: Tensor, rows: Any, dtype: DType) -> Tensor:
    """The permutation matrices whose column i has its one in row order[..., i]."""
    return convert(eq(unsqueeze(order, -2), unsqueeze(arange(rows), 1)), dtype)
