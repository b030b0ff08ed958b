"""The types of a compiled function's arguments, with the dims that it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import dims, dtypes
from ..ir.types import TensorType


def static_or_symbolic(
    shape: Sequence[int], declared: Mapping[int, dims.Expr], what: str
) -> tuple[dims.DimLike, ...]:
    """The shape with declared dims in place of their sizes; ValueError when a size is outside the declared bounds.
    `what`: whose shape it is, for errors."""
    result: list[dims.DimLike] = list(shape)
    for axis, dim in declared.items():
        at = axis + len(shape) if axis < 0 else axis
        if not 0 <= at < len(shape):
            raise ValueError(f"{what}: dynamic_shapes names dim {axis} of a {len(shape)}-d tensor")
        low, high = dims.bounds(dim)
        if not low <= shape[at] <= high:
            raise ValueError(
                f"{what}: dim {axis} has size {shape[at]}, outside the bounds of {dim} [{low}, {high}]; what "
                "dynamic_shapes declares must hold for every call"
            )
        found = dims.solved(dim, shape[at])
        if found is not None and dims.evaluate(dim, {found[0].name: found[1]}) != shape[at]:
            raise ValueError(
                f"{what}: dim {axis} has size {shape[at]}, which is not {dim} for any {found[0].name}"
            )
        result[at] = dim
    return tuple(result)


def array_type(array: np.ndarray[Any, Any]) -> TensorType:
    return TensorType(array.shape, dtypes.from_numpy(array.dtype))
