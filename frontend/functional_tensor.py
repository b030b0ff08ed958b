"""Functions of `torch` that ask something about a tensor, or are methods under another roof."""

from __future__ import annotations

from typing import Any

from . import capture, promotion
from .creation import tensor
from .formats import dims_in_memory
from .functional_shape import laid_out
from .ir import dtypes
from .placement import device_of
from .tensor import INFERENCE_EPOCH, Tensor, scalar_type_name
from .untyped_storage import UntypedStorage


def is_tensor(obj: Any) -> bool:
    """Whether the object is a tensor."""
    return isinstance(obj, Tensor)


def is_inference(input: Tensor) -> bool:
    """Whether the tensor was made in inference mode."""
    return input._storage.epoch == INFERENCE_EPOCH


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating-point one."""
    return input.dtype.is_floating_point


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether the two have the same shape."""
    return tuple(input.shape) == tuple(other.shape)


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return input.dtype.is_complex


def is_storage(obj: Any) -> bool:
    """Whether the object is the storage of a tensor."""
    return isinstance(obj, UntypedStorage)


def _shape_as_tensor(input: Tensor) -> Tensor:
    """The sizes as an int64 tensor."""
    return tensor(tuple(input.shape), dtype=dtypes.i64)


def get_device(input: Tensor) -> int:
    """The number of the GPU that a tensor lies on; -1 on the CPU."""
    where = device_of(input)
    return -1 if where.index is None else where.index


def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is not zero."""
    return bool(input != 0)


def numel(input: Tensor) -> Any:
    """The number of elements."""
    return input._type.numel


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy, with history, whose dims lie in memory as the format says (by default as they do in the input)."""
    return laid_out(input, dims_in_memory(memory_format, input.ndim))


def detach(input: Tensor) -> Tensor:
    """The same memory without history."""
    vmap = capture.vmap()
    alias: Tensor = input._alias() if vmap is None else vmap.detach(input)
    return alias


def set_default_tensor_type(t: Any) -> None:
    """`set_default_dtype` by a legacy type or its name."""
    name = t if isinstance(t, str) else t.__name__
    for candidate in dtypes.ALL:
        if name.removeprefix("torch.") == scalar_type_name(candidate) + "Tensor":
            promotion.set_default_dtype(candidate)
            return
    raise TypeError(f"invalid type object: {t!r}")


def typename(obj: Any) -> str:
    """The name of an object's type: `torch.FloatTensor`, `list`."""
    if isinstance(obj, Tensor):
        return str(obj.type())
    kind = obj if isinstance(obj, type) else type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _assert(condition: Any, message: str) -> None:
    """`assert` as a function, which tracers of PyTorch's can record."""
    assert condition, message


def _assert_async(input: Tensor, assert_msg: str = "") -> None:
    """RuntimeError where the one element is zero; at once, on every device."""
    if not input:
        raise RuntimeError(assert_msg or "Expected Tensor with single nonzero value, but got zero")


# The names of `torch` that are defined here.
__all__ = [
    "_assert", "_assert_async", "_shape_as_tensor",
    "clone", "detach", "get_device", "is_complex", "is_floating_point", "is_inference", "is_nonzero",
    "is_same_size", "is_signed", "is_storage", "is_tensor", "numel", "set_default_tensor_type", "typename",
]  # fmt: skip
