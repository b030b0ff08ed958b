"""`Tensor.view(dtype)`: the same memory read as another dtype."""

from __future__ import annotations

from . import dispatch
from .arguments import as_int
from .dispatch import view_step
from .ir.dtypes import DType
from .memory_layout import storage_offset, strides
from .tensor import Tensor


def view_dtype(input: Tensor, dtype: DType) -> Tensor:
    """The same memory read as another dtype (`Tensor.view(dtype)`)."""
    have, want = input.dtype.itemsize, dtype.itemsize
    if have == want:
        return dispatch.view(input.detach(), (view_step("bitcast", {"dtype": dtype}),), "")
    found = view_step("view_dtype", {"dtype": dtype})
    found.op.infer_types([input._type], found.attrs)
    steps = strides(input)
    if steps[-1] != 1:
        raise RuntimeError(
            f"self.stride(-1) must be 1 to view {input.dtype.scalar_type} as {dtype.scalar_type} (different element "
            f"sizes), but got {steps[-1]}"
        )
    if want > have:
        ratio = want // have
        if as_int(storage_offset(input)) % ratio:
            raise RuntimeError(
                f"self.storage_offset() must be divisible by {ratio} to view {input.dtype.scalar_type} as "
                f"{dtype.scalar_type} (different element sizes), but got {storage_offset(input)}"
            )
        for dim, step in enumerate(steps[:-1]):
            if as_int(step) % ratio:
                raise RuntimeError(
                    f"self.stride({dim}) must be divisible by {ratio} to view {input.dtype.scalar_type} as "
                    f"{dtype.scalar_type} (different element sizes), but got {step}"
                )
    return dispatch.view(input.detach(), (found,), "")
