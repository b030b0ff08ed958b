"""What the linear algebra functions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..creation import arange
from ..functional_complex import conj
from ..functional_pointwise import eq
from ..functional_shape import transpose, unsqueeze
from ..inplace import into
from ..ir import dtypes
from ..ir.dtypes import DType
from ..promotion import convert
from ..tensor import Tensor, scalar_type_name
from .results import RESULTS


def named(name: str, results: Sequence[Tensor], out: Any = None) -> Any:
    """The results as the named tuple of that name; written to `out` where it is given."""
    if out is not None:
        if not isinstance(out, tuple | list) or len(out) != len(results):
            raise TypeError(f"{name}(): argument 'out' must be a tuple of {len(results)} tensors")
        results = [into(target, result, name) for target, result in zip(out, results)]
    return RESULTS[name](*results)


def need_floating(name: str, value: Tensor, low_precision: bool = True) -> None:
    """RuntimeError for a tensor that is neither floating point nor complex."""
    if value.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {scalar_type_name(value.dtype)}"
        )
    if not low_precision and value.dtype in (dtypes.f16, dtypes.bf16):
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {scalar_type_name(value.dtype)}")


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
