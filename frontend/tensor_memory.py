"""Methods of Tensor about its memory: where it lies, how it is laid out, and giving a tensor other memory."""

from __future__ import annotations

import math
import weakref
from typing import Any

from . import creation, memory_layout, tables
from . import functional_memory as memory
from . import functional_shape as shapes
from .arguments import also_named, as_int, sizes, wrap_dim
from .functional_host import host_array
from .functional_reductions import sum as total
from .ir.dims import DimLike
from .placement import committed, is_on_device
from .runtime.gpu.arrays import DeviceArray, gpu, gpu_count, pinned_copy
from .state import local
from .tensor import Storage, Tensor, cxx_name, data_changed, wrap


def stride(self: Tensor, dim: int | None = None) -> Any:
    """How many elements apart neighbours along each dim lie."""
    steps = memory_layout.strides(self)
    return steps if dim is None else steps[wrap_dim(dim, len(steps), scalar=False)]


def storage_offset(self: Tensor) -> DimLike:
    """Where the first element lies, counted from the start of the storage."""
    return memory_layout.storage_offset(self)


def data_ptr(self: Tensor) -> int:
    """The address of the first element."""
    array: Any = self._array if is_on_device(self) else host_array(self, "data_ptr()")
    return array.ctypes.data if array.size else 0


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both are the same view of the same memory."""
    if self._storage is not tensor._storage or tuple(self.shape) != tuple(tensor.shape):
        return False
    return memory_layout.storage_offset(self) == memory_layout.storage_offset(
        tensor
    ) and memory_layout.strides(self) == memory_layout.strides(tensor)


def is_same_size(self: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape."""
    return tuple(self.shape) == tuple(other.shape)


def dim_order(self: Tensor, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dims as they lie in memory, the outermost first."""
    steps = [as_int(step) for step in memory_layout.strides(self)]
    if ambiguity_check and len(set(steps)) < len(steps):
        raise RuntimeError(
            "The tensor does not have unique dim order, or cannot map to exact one of the given memory formats."
        )
    return tuple(sorted(range(self.ndim), key=lambda d: -steps[d]))


def take_memory(self: Tensor, new: Tensor) -> None:
    """This tensor becomes `new`: its memory, shape and dtype."""
    notify = local.backend.on_data_set
    if notify is not None:
        notify(self)
    self._array, self._value, self._known_type = new._array, new._value, new._known_type
    self._storage, self._views, self._base = new._storage, new._views, None
    data_changed()
    if self._extra is not None:
        self._extra.accumulator = None


def set_data(self: Tensor, new: Any) -> None:
    if not isinstance(new, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(new).__name__}")
    if new.dtype is not self.dtype and self.requires_grad and new.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            "data set to a tensor that requires gradients must be floating point or complex dtype"
        )
    take_memory(self, new)


def set_(
    self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None
) -> Tensor:
    """Make this tensor refer to the source's memory, as the source does or with these sizes and strides."""
    if source is None:
        take_memory(self, creation.empty(0, dtype=self.dtype))
        return self
    if not isinstance(source, Tensor):
        source = source._as_tensor(self.dtype)
    if source.dtype is not self.dtype:
        raise RuntimeError(
            f"Could not set tensor of type {cxx_name(source.dtype)} to a tensor of type {cxx_name(self.dtype)}"
        )
    if size is not None:
        shape = tuple(map(as_int, size))
        steps = memory_layout.contiguous_strides(shape) if stride is None else stride
        source = memory.as_strided(source.detach(), shape, steps, storage_offset)
    take_memory(self, source.detach())
    return self


def resize_(self: Tensor, *given: Any, size: Any = None, memory_format: Any = None) -> Tensor:
    """Another shape over the same memory, or where that is too small, over a larger copy of it (new elements 0)."""
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    shape = tuple(map(as_int, sizes(given, "resize_", size)))
    if shape == tuple(self.shape):
        return self
    steps, offset = memory_layout.contiguous_strides(shape), as_int(memory_layout.storage_offset(self))
    flat = self.detach()._alias()
    whole = memory.whole_storage(flat)
    if math.prod(shape) and offset + math.prod(shape) > whole._type.numel:
        kept = shapes.reshape(whole, (-1,))
        more = creation.zeros(offset + math.prod(shape) - as_int(kept.shape[0]), dtype=self.dtype)
        whole = shapes.cat([kept, more])
    take_memory(self, memory.as_strided(whole, shape, steps, offset))
    return self


@also_named(input="self")
def resize_as_(self: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """`resize_` to another tensor's shape."""
    return resize_(self, the_template.shape)


def resize(self: Tensor, *given: Any, size: Any = None) -> Tensor:
    """`view`, under an old name."""
    return shapes.view(self, *given, size=size)


@also_named(the_template="tensor")
def resize_as(self: Tensor, tensor: Tensor) -> Tensor:
    """`view_as`, under an old name."""
    return shapes.view(self, tensor.shape)


@also_named(input="self")
def as_strided_(self: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """This tensor becomes `as_strided` of itself."""
    return become_view(self, memory.as_strided(self, size, stride, storage_offset))


def become_view(self: Tensor, seen: Tensor) -> Tensor:
    """This tensor becomes the given view of itself."""
    if self.requires_grad and self.is_leaf and local.grad_enabled:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    capture: Any = local.backend.capture
    if capture is not None and self._array is None and not self._views:
        known = capture.storages.get(self._storage)
        if known is not None and known.input is not None:
            raise NotImplementedError(
                "a compiled function cannot change the shape of an argument in place: the caller's tensor would keep "
                "its own. Write x = x.unsqueeze(0) for x.unsqueeze_(0), and so on"
            )
    self._array, self._value, self._known_type = seen._array, seen._value, seen._known_type
    self._views = seen._views
    self._grad_fn, self._output_nr = seen._grad_fn, seen._output_nr
    return self


def sum_to_size(self: Tensor, *given: Any, size: Any = None) -> Tensor:
    """The sum over the dims that broadcasting from the size would add or repeat."""
    shape = sizes(given, "sum_to_size", size)
    have = tuple(self.shape)
    lead = len(have) - len(shape)
    if lead < 0 or any(n != m and m != 1 for n, m in zip(have[lead:], shape)):
        raise RuntimeError(
            f"size {{{shapes.shape_text(shape)}}} is not expandable to size {{{shapes.shape_text(have)}}}."
        )
    repeated = tuple(lead + i for i, m in enumerate(shape) if m == 1 and have[lead + i] != 1)
    if not lead and not repeated:
        return shapes.view(self, shape)
    return shapes.reshape(total(self, (*range(lead), *repeated), True), shape)


# Buffers shared with others


def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether the memory is page-locked, for copies to a GPU that do not wait."""
    return self._storage in _pinned


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in page-locked memory, the tensor itself if it is there; RuntimeError where there is no device, or for a
    tensor that is on one."""
    if not gpu_count():
        raise RuntimeError("Cannot access accelerator device when none is available.")
    if is_on_device(self):
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")
    if is_pinned(self):
        return self
    array = host_array(self.detach(), "pin_memory()")
    made = committed(wrap(pinned_copy(gpu(0), array)))
    _pinned.add(made._storage)
    return made


_pinned: weakref.WeakSet[Storage] = weakref.WeakSet()


@also_named(s="stream")
def record_stream(self: Tensor, stream: Any) -> None:
    """The stream uses the memory, which another made: it is not given out again before that is over."""
    array: Any = self._array
    if type(array) is not DeviceArray:
        raise RuntimeError("record_stream: the tensor is not on a CUDA device")
    if array.memory.block is not None:
        array.gpu.allocator.record_stream(array.memory.block, stream.cuda_stream)


def share_memory_(self: Tensor) -> Tensor:
    """Nothing to do: memory is shared with threads anyway."""
    return self


def is_shared(self: Tensor) -> bool:
    """Whether other processes see the memory: never."""
    return False


def new_empty_strided(self: Tensor, size: Any, stride: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    """`torch.empty_strided` in this tensor's dtype."""
    return tables.empty_strided(size, stride, dtype=dtype or self.dtype, **options)


# The methods that are defined here under their own name.
__all__ = [
    "as_strided_", "data_ptr", "dim_order", "is_pinned", "is_same_size", "is_set_to", "is_shared",
    "new_empty_strided", "pin_memory", "record_stream", "resize", "resize_", "resize_as", "resize_as_", "set_",
    "share_memory_", "storage_offset", "stride", "sum_to_size",
]  # fmt: skip
