"""Methods of Tensor that are no functions of `torch`: sizes, conversions, copies, autograd, Python's protocols."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import (
    capture,
    creation,
    dispatch,
    formats,
    functional_tensor,
    hooks,
    memory_layout,
    nested_data,
    placement,
    printing,
    promotion,
)
from . import device as torch_device
from . import functional_arithmetic as arithmetic
from . import functional_host as host
from . import functional_memory as memory
from . import functional_pointwise as pointwise
from . import functional_reductions as reductions
from . import functional_shape as shapes
from . import functional_slices as slices
from . import functional_special as special
from .arguments import is_operand, wrap_dim
from .autograd import api
from .inplace import assign
from .ir import dtypes
from .ir.dtypes import DType
from .size import Size
from .state import local
from .tensor import Tensor, data_changed, scalar_type_name


def size(self: Tensor, dim: int | None = None) -> Any:
    """The shape, or one dim of it."""
    shape = self.shape
    return shape if dim is None else shape[wrap_dim(dim, len(shape), scalar=False)]


def dim(self: Tensor) -> int:
    """The number of dims."""
    return self.ndim


def numel(self: Tensor) -> Any:
    """The number of elements."""
    return self._type.numel


def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps, or in the order of dims that the format says."""
    if memory_format in (None, formats.contiguous_format):
        return memory_layout.is_contiguous(self)
    if memory_format is formats.preserve_format:
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    order = formats.ORDERS[memory_format]
    return self.ndim == len(order) and memory_layout.is_contiguous(self, order)


def element_size(self: Tensor) -> int:
    """Bytes per element."""
    return self.dtype.itemsize


def is_floating_point(self: Tensor) -> bool:
    """Whether the dtype is a floating-point one."""
    return self.dtype.is_floating_point


def is_complex(self: Tensor) -> bool:
    """Whether the dtype is complex."""
    return self.dtype.is_complex


def is_inference(self: Tensor) -> bool:
    """Whether the tensor was made in inference mode."""
    return functional_tensor.is_inference(self)


def is_signed(self: Tensor) -> bool:
    """Whether the dtype has negative values."""
    return self.dtype.is_signed


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The legacy type name, `torch.FloatTensor`; with an argument, the tensor as that type."""
    if dtype is None:
        module = "torch.cuda" if placement.is_on_device(self) else "torch"
        return f"{module}.{scalar_type_name(self.dtype)}Tensor"
    if isinstance(dtype, DType):
        return promotion.convert(self, dtype)
    name = dtype if isinstance(dtype, str) else "torch." + getattr(dtype, "__name__", "")
    if dtype is Tensor or name == "torch.Tensor":
        return to(self, "cpu", promotion.get_default_dtype())
    place, _, kind = name.rpartition(".")
    for candidate in dtypes.ALL:
        if place in ("torch", "torch.cuda") and kind == scalar_type_name(candidate) + "Tensor":
            return to(self, place.replace("torch.", "").replace("torch", "cpu"), candidate)
    raise ValueError(f"invalid type: {getattr(dtype, '__name__', dtype)!r}")


def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`, each with `non_blocking`, `copy` and
    `memory_format`: converted, or itself where nothing changes.
    """
    wanted, where, flags = kwargs.pop("dtype", None), kwargs.pop("device", None), []
    if isinstance(kwargs.get("other"), Tensor):
        args = (kwargs.pop("other"), *args)
    copy, format_ = kwargs.pop("copy", False), kwargs.pop("memory_format", None)
    kwargs.pop("non_blocking", None)
    if kwargs:
        raise TypeError(f"to() received an invalid combination of arguments: unexpected {', '.join(kwargs)}")
    for value in args:
        if isinstance(value, DType):
            wanted = value
        elif isinstance(value, Tensor):
            wanted, where = value.dtype, placement.device_of(value)
        elif isinstance(value, str | torch_device.device) or (type(value) is int and where is None):
            where = value
        elif isinstance(value, bool):
            flags.append(value)  # non_blocking, then copy
        elif value in nested_data.PYTHON_TYPES:
            wanted = nested_data.PYTHON_TYPES[value]
        elif value is not None:
            raise TypeError(
                f"to() received an invalid combination of arguments - got ({type(value).__name__})"
            )
    copy = copy or (len(flags) > 1 and flags[1])
    here = self if where is None else placement.transferred(self, placement.gpu_of(where))
    converted = here if wanted is None else promotion.convert(here, wanted)
    order = formats.dims_in_memory(format_, self.ndim)
    if order is not None and not memory_layout.is_contiguous(converted, order):
        return shapes.laid_out(converted, order)
    return clone(self) if copy and converted is self else converted


def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor on the CPU: itself, if it is there."""
    return placement.transferred(self, None)


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """The tensor on a CUDA device: itself, if it is there."""
    if device is not None and not isinstance(device, int) and torch_device.device(device).type != "cuda":
        raise RuntimeError(f"Invalid device, must be cuda device, but got {device}")
    return placement.transferred(self, placement.gpu_of("cuda" if device is None else device))


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor in the other's dtype, on its device."""
    return to(self, other)


def item(self: Tensor) -> Any:
    """The one element as a Python number."""
    if self._type.numel != 1:
        raise RuntimeError(f"a Tensor with {self._type.numel} elements cannot be converted to Scalar")
    return local.backend.scalar(self)


def tolist(self: Tensor) -> Any:
    """The elements as nested lists of Python numbers."""
    array = host.host_array(self, "tolist()")
    return (array.astype(np.float32) if array.dtype == dtypes.bf16.numpy else array).tolist()


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray[Any, Any]:
    """The elements as a NumPy array over the same memory."""
    if self.requires_grad and not force and local.grad_enabled:
        raise RuntimeError(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        )
    if self.dtype is dtypes.bf16 and not force:
        raise TypeError("Got unsupported ScalarType BFloat16")
    if placement.is_on_device(self):
        if not force:
            return np.asarray(self._array)  # which says what to do
        return numpy(self.detach().cpu(), force=True)
    array = host.host_array(self, "numpy()")
    self._storage.expose()
    return array


def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
    array = numpy(self)
    if dtype is not None and array.dtype != dtype:
        return array.astype(dtype)
    return array.copy() if copy else array


def number_method(kind: type) -> Callable[[Tensor], Any]:
    def convert(self: Tensor) -> Any:
        if self._type.numel != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        value = local.backend.scalar(self)
        if isinstance(value, complex) and kind is not complex:
            if value.imag:
                wanted = "double" if kind is float else "int64_t"
                raise RuntimeError(f"value cannot be converted to type {wanted} without overflow")
            value = value.real
        return kind(value)

    return convert


def __index__(self: Tensor) -> int:
    if self._type.numel != 1 or self.dtype.kind not in ("int", "uint", "bool"):
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(local.backend.scalar(self))


def __bool__(self: Tensor) -> bool:
    count = self._type.numel
    if count != 1:
        if count == 0:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
    backend = local.backend
    decides = backend.capture if backend.vmap is None else backend.vmap
    return bool(backend.scalar(self)) if decides is None else decides.branch(self)


def __len__(self: Tensor) -> int:
    if not self.ndim:
        raise TypeError("len() of a 0-d tensor")
    return int(self.shape[0])


def __iter__(self: Tensor) -> Iterator[Tensor]:
    if not self.ndim:
        raise TypeError("iteration over a 0-d tensor")
    return iter(slices.unbind(self, 0))


def __contains__(self: Tensor, element: Any) -> bool:
    if isinstance(element, Tensor | int | float):
        return bool(reductions.any(pointwise.eq(self, element)))
    raise RuntimeError(
        f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}."
    )


def __format__(self: Tensor, spec: str) -> str:
    # Without a spec a traced tensor prints like any object; with one its number is asked for, which is an error.
    if not self.ndim and type(self) is Tensor and (spec or self._array is not None):
        known = self._array is not None
        return format(host.host_array(self, "format()").item() if known else item(self), spec)
    return object.__format__(self, spec)


def __repr__(self: Tensor, *, tensor_contents: Any = None) -> str:
    vmap = capture.vmap()
    return printing.tensor_str(self) if vmap is None else vmap.text(self) or printing.tensor_str(self)


def __hash__(self: Tensor) -> int:
    return id(self)


def __reversed__(self: Tensor) -> Tensor:
    return shapes.flip(self, 0) if self.ndim else self


def __dir__(self: Tensor) -> list[str]:
    return sorted(set(object.__dir__(self)))


def clone(self: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy, with history."""
    return functional_tensor.clone(self, memory_format=memory_format)


def detach(self: Tensor) -> Tensor:
    """The same memory without history."""
    return functional_tensor.detach(self)


def detach_(self: Tensor) -> Tensor:
    """Drop the history."""
    if self._base is not None:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    self._grad_fn, self._output_nr, self._requires_grad = None, 0, False
    return self


def get_data(self: Tensor) -> Tensor:
    alias = self._alias()
    alias._autograd_extra().untracked = True
    return alias


def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """Set `requires_grad`."""
    if not isinstance(requires_grad, bool):
        raise TypeError(
            f"requires_grad_(): argument 'requires_grad' (position 1) must be bool, not {type(requires_grad).__name__}"
        )
    if requires_grad and self.dtype.kind not in ("float", "complex"):
        raise RuntimeError("only Tensors of floating point dtype can require gradients")
    self.requires_grad = requires_grad
    return self


def backward(
    self: Tensor, gradient: Tensor | None = None, retain_graph: bool | None = None,
    create_graph: bool = False, inputs: Any = None,
) -> None:  # fmt: skip
    """Accumulate the gradients of this tensor into the `.grad` of the leaves it was made from."""
    if gradient is not None and not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    api.backward(
        (self,), None if gradient is None else (gradient,), retain_graph, create_graph, inputs=inputs
    )


def retain_grad(self: Tensor) -> None:
    """Have `backward` fill `.grad` of a tensor that is not a leaf."""
    if not self.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    node = self.grad_fn
    if node is None:
        return
    self._autograd_extra().retains_grad = True
    node.hooks.retain[self._output_nr] = weakref.ref(self)


def retains_grad(self: Tensor) -> bool:
    return self._extra is not None and self._extra.retains_grad


def register_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> hooks.RemovableHandle:
    """`hook(grad) -> None or a new grad` runs when this tensor's gradient is known."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    node = self.grad_fn
    if node is None:
        return hooks.register(self._autograd_extra().hooks, hook, data_changed)
    return hooks.register(node.hooks.tensor.setdefault(self._output_nr, {}), hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> hooks.RemovableHandle:
    """`hook(leaf)` runs after the leaf's `.grad` was accumulated."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if self.grad_fn is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return hooks.register(self._autograd_extra().post_accumulate, hook, data_changed)


def new_tensor(
    self: Tensor, data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`torch.tensor(data)` in this tensor's dtype."""
    where = placement.device_of(self) if device is None else device
    return creation.tensor(data, dtype=dtype or self.dtype, device=where, requires_grad=requires_grad)


def new(self: Tensor, *args: Any) -> Tensor:
    """The legacy constructor of this tensor's type: from sizes or from data."""
    if len(args) == 1 and isinstance(args[0], list | tuple) and not isinstance(args[0], Size):
        return creation.tensor(args[0], dtype=self.dtype)
    return creation.empty(*args, dtype=self.dtype) if args else creation.empty(0, dtype=self.dtype)


def polygamma(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma."""
    return special.polygamma(n, self)


def transposed(self: Tensor) -> Tensor:
    if self.ndim > 2:
        warnings.warn(
            "The use of `x.T` on tensors of dimension other than 2 to reverse their shape is deprecated and it will "
            "throw an error in a future release. Consider `x.mT` to transpose batches of matrices or "
            "`x.permute(*torch.arange(x.ndim - 1, -1, -1))` to reverse the dimensions of a tensor.",
            UserWarning,
            stacklevel=2,
        )
    return shapes.permute(self, tuple(range(self.ndim - 1, -1, -1)))


def conjugate_transposed(self: Tensor) -> Tensor:
    if self.ndim not in (0, 2):
        raise RuntimeError(
            "tensor.H is only supported on matrices (2-D tensors). Got 1-D tensor."
            if self.ndim == 1
            else f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor. For batches of "
            "matrices, consider using tensor.mH"
        )
    return shapes.permute(self, ()) if not self.ndim else memory.adjoint(self)


def matrix_transposed(self: Tensor) -> Tensor:
    if self.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor."
        )
    return shapes.transpose(self, -2, -1)


def where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where the condition holds, else `other`."""
    found: Tensor = pointwise.where(condition, self, other)
    return found


def zero_(self: Tensor) -> Tensor:
    """Every element becomes 0."""
    zeros = dispatch.TENSORS.zeros_like(self)
    return assign(self, zeros, replaced="ZeroBackward0")


def __rsub__(self: Tensor, other: Any) -> Any:
    return arithmetic.rsub(self, other) if is_operand(other) else NotImplemented


def __rtruediv__(self: Tensor, other: Any) -> Any:
    if not is_operand(other):
        return NotImplemented
    if isinstance(other, Tensor | np.ndarray):
        return arithmetic.div(other, self)
    return arithmetic.mul(pointwise.reciprocal(self), other)


def __invert__(self: Tensor) -> Tensor:
    if self.dtype.kind in ("float", "complex"):
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return pointwise.bitwise_not(self)


# The methods that are defined here under their own name.
__all__ = [
    "__array__", "__bool__", "__contains__", "__format__", "__hash__", "__index__",
    "__invert__", "__iter__", "__len__", "__repr__", "__reversed__", "__rsub__",
    "__rtruediv__", "backward", "clone", "cpu", "cuda", "detach", "detach_", "dim",
    "element_size", "is_complex", "is_contiguous", "is_floating_point", "is_inference", "is_signed", "item",
    "new", "new_tensor", "numel", "numpy", "register_hook", "register_post_accumulate_grad_hook",
    "requires_grad_", "retain_grad", "size",
    "to", "tolist", "type_as", "zero_",
]  # fmt: skip
