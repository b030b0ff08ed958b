"""Methods of Tensor as a Python object: callables over its elements, its class, its storage, array protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import dispatch, interchange
from .arguments import also_named
from .functional_host import host_array
from .functional_shape import broadcast_tensors
from .tensor import Array, Tensor, wrap
from .torch_function import is_wrapped, without_asking
from .untyped_storage import UntypedStorage


def _own_elements(self: Tensor, name: str) -> Array:
    if self.requires_grad:
        raise RuntimeError(
            f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead."
        )
    return host_array(self, f"{name}()")


def _replace(self: Tensor, values: list[Any]) -> Tensor:
    new = np.array(values).astype(self.dtype.numpy).reshape(tuple(self.shape))
    dispatch.write(self, wrap(new))
    return self


def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Each element becomes callable(element), one after the other in Python."""
    return _replace(self, [callable(x) for x in _own_elements(self, "apply_").ravel().tolist()])


@also_named(other="tensor")
def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Each element becomes callable(element, the tensor's element), one after the other in Python."""
    _, other = broadcast_tensors(self.detach(), tensor.detach())
    pairs = zip(_own_elements(self, "map_").ravel().tolist(), host_array(other, "map_()").ravel().tolist())
    return _replace(self, [callable(a, b) for a, b in pairs])


def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """Each element becomes callable(element, x's element, y's element), one after the other in Python."""
    parts = broadcast_tensors(self.detach(), x.detach(), y.detach())[1:]
    others = [host_array(part, "map2_()").ravel().tolist() for part in parts]
    return _replace(
        self, [callable(*row) for row in zip(_own_elements(self, "map2_").ravel().tolist(), *others)]
    )


def as_subclass(self: Tensor, cls: type[Any]) -> Any:
    """The same tensor, history included, as an instance of a subclass of Tensor."""
    if not (isinstance(cls, type) and issubclass(cls, Tensor)):
        raise TypeError(f"cls must be a subclass of torch.Tensor, not {cls!r}")
    same = dispatch.view_step("reshape", {"shape": tuple(self.shape)})
    seen = dispatch.view(self, (same,), "AliasBackward0")
    made = seen._alias(cls)
    made._base, made._grad_fn, made._output_nr = seen._base, seen._grad_fn, seen._output_nr
    made._requires_grad, made._view_version = seen._requires_grad, seen._view_version
    return made


@classmethod  # type: ignore[misc]
def __torch_function__(
    cls: type[Tensor], func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
) -> Any:
    """`func(*args, **kwargs)`, tensors of it as instances of the class: what a subclass calls by `super()`."""
    if not all(issubclass(cls, kind) for kind in types):
        return NotImplemented
    with without_asking():
        result = func(*args, **(kwargs or {}))
    return _converted(result, cls) if is_wrapped(func) else result


def _converted(value: Any, cls: type[Tensor]) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, cls):
        return as_subclass(value, cls)
    if isinstance(value, list | tuple):
        kind = type(value)
        parts = [_converted(part, cls) for part in value]
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    return value


def _cdata(self: Tensor) -> int:
    """A number that no other tensor has meanwhile: programs tell parameters apart by PyTorch's."""
    return id(self)


def const_data_ptr(self: Tensor) -> int:
    """The address of the first element, to be read only."""
    address: int = self.data_ptr()
    return address


def module_load(self: Tensor, other: Tensor, assign: bool = False) -> Tensor:
    """What `load_state_dict` puts in the place of this tensor for `other`, where it swaps tensors."""
    if assign:
        return other.detach()
    return self.copy_(other).detach()


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The bytes that this tensor shares with its views."""
    return UntypedStorage(self)


def __array_wrap__(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
    """What NumPy makes of a tensor is a tensor again; bool becomes uint8, as in PyTorch."""
    found = np.asarray(array)
    return wrap(found.astype(np.uint8) if found.dtype == np.bool_ else found)


__dlpack__, __dlpack_device__ = interchange.dlpack, interchange.dlpack_device


# The methods that are defined here under their own name.
__all__ = [
    "__array_wrap__",
    "__dlpack__",
    "__dlpack_device__",
    "__torch_function__",
    "apply_",
    "as_subclass",
    "const_data_ptr",
    "map2_",
    "map_",
    "module_load",
    "untyped_storage",
]  # fmt: skip
