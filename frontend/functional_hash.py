"""A number that depends on every bit of a tensor."""

from __future__ import annotations

from typing import Any

from . import dispatch
from .arguments import wrap_dims
from .dispatch import apply, op_named, view_step
from .functional_shape import flatten, permute, reshape, unsqueeze
from .functional_slices import narrow
from .inplace import finish
from .ir import dtypes
from .promotion import convert
from .tensor import Tensor

_XOR = op_named("bitwise_xor")


def hash_tensor(
    input: Tensor, dim: Any = (), *, keepdim: bool = False, mode: int = 0, out: Tensor | None = None
) -> Tensor:
    """The exclusive or over the dims, or of all elements, of their bits as float64 or int64; uint64."""
    if mode != 0:
        raise RuntimeError("hash_tensor: mode must be 0 (xor), the only one there is")
    rank = input.ndim
    dims = wrap_dims(None if dim in ((), []) else dim, rank)
    value = input.detach()
    if value.dtype.is_floating_point:
        bits = dispatch.view(convert(value, dtypes.f64), (view_step("bitcast", {"dtype": dtypes.i64}),), "")
    else:
        bits = convert(value, dtypes.i64)
    kept = tuple(d for d in range(rank) if d not in dims)
    shape = tuple(bits.shape)
    rows = permute(bits, (*kept, *dims)) if rank else reshape(bits, (1,))
    rows = flatten(rows, len(kept)) if len(kept) < rank else unsqueeze(rows, -1) if rank else rows
    last = rows.ndim - 1
    while (count := rows.shape[last]) > 1:
        half = count // 2
        joined = apply(_XOR, (narrow(rows, last, 0, half), narrow(rows, last, half, half)))
        if count % 2:
            rest = narrow(rows, last, count - 1, 1)
            joined = apply(op_named("concat"), (joined, rest), {"dim": last})
        rows = joined
    wanted = (
        tuple(1 if d in dims else n for d, n in enumerate(shape))
        if keepdim
        else tuple(shape[d] for d in kept)
    )
    found = dispatch.view(reshape(rows, wanted), (view_step("bitcast", {"dtype": dtypes.u64}),), "")
    return finish(found, out, "hash_tensor")


# The names of `torch` that are defined here.
__all__ = ["hash_tensor"]
