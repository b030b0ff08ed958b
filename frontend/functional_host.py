"""Questions that NumPy answers, in compiled code too (ops of the lowering "host"): where, in which order.

`host_array` is for the few things that are no ops: printing, saving, handing arrays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import capture
from .dispatch import apply, op_named
from .inplace import finish
from .runtime.gpu.arrays import DeviceArray
from .tensor import Array, Tensor

_NONZERO, _ARGSORT, _REPEATED, _SLICE, _RESHAPE, _PERMUTE = map(
    op_named, ("nonzero", "argsort", "repeated_positions", "slice", "reshape", "permute")
)


def host_array(tensor: Tensor, what: str) -> Array:
    """The tensor's elements, a copy of those on a device; RuntimeError inside a compiled function, where there are none
    yet."""
    if tensor._array is None:
        if capture.vmap() is not None and capture.vmap().held(tensor) is not None:
            raise RuntimeError("Cannot access data pointer of Tensor that doesn't have storage")
        raise RuntimeError(
            f"{what} depends on the elements of a tensor, which are not known inside a compiled function: compute "
            "it outside, or write it with torch.where"
        )
    array: Any = tensor._array
    return array.to_host() if type(array) is DeviceArray else array


def known_elements(tensor: Tensor) -> Array | None:
    """The tensor's elements where they are there to be checked: in this machine's memory, outside compiled functions."""
    array: Any = tensor._array
    return array if isinstance(array, np.ndarray) else None


def nonzero(input: Tensor, *, out: Tensor | None = None, as_tuple: bool = False) -> Any:
    """The indices of the nonzero elements: one row per element, or with `as_tuple` one tensor per dim."""
    if as_tuple and not input.ndim:
        input = apply(_RESHAPE, (input.detach(),), {"shape": (1,)})
    found = apply(_NONZERO, (input.detach(),))
    return rows(found) if as_tuple else finish(apply(_PERMUTE, (found,), {"dims": (1, 0)}), out, "nonzero")


def rows(matrix: Tensor) -> Sequence[Tensor]:
    """The rows of a matrix, as views."""
    count, size = matrix.shape
    found = []
    for i in range(count):
        row = apply(_SLICE, (matrix,), {"starts": (i, 0), "stops": (i + 1, size), "steps": (1, 1)})
        found.append(apply(_RESHAPE, (row,), {"shape": (size,)}))
    return tuple(found)


def sort_order(input: Tensor, dim: int, descending: bool) -> Tensor:
    """The indices that sort along `dim`, stably; NaN counts as larger than any number."""
    return apply(_ARGSORT, (input.detach(),), {"dim": dim, "descending": descending})


def repeated_positions(repeats: Tensor) -> Tensor:
    """Each position of a vector of counts, as often as the count there says."""
    return apply(_REPEATED, (repeats,))


# The names of `torch` that are defined here.
__all__ = ["nonzero"]
