"""Tensor: typed memory that may be shared, and the autograd state that hangs on it.

This file holds what a tensor *is*. What can be done with one (the functions and methods of PyTorch's API) is
put on the class by `methods.py`, from the functions that live in the `functional_*` files.

Memory. `_storage` stands for the memory: tensors that share memory share it, and its `version` counts
in-place changes. `_views` are the view steps that lead from the storage's base array to this tensor; eager
tensors also hold the NumPy view itself, `_array`. A tensor inside a compiled function has no array: its
backend keeps what it needs in `_value`.

Autograd. `_base` is the tensor this one is a differentiable view of; after a write through any of them the
history of the others starts again at the base (`tape.refresh_view`).
"""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import tape
from .hooks import Hooks
from .ir import dtypes
from .ir.types import TensorType
from .size import Size
from .state import local
from .views import Views, ViewStep

Array = np.ndarray[Any, Any]
_new = object.__new__


class Storage:
    """The memory that a tensor and its views share. `base_array` is None for memory inside a compiled
    function.

    `floating`: on the CPU only because nobody said where; it follows what it meets to a device (`placement.py`).
    `exposed`: code outside may write to the memory without a new version: a NumPy array shares it, say. `prepared`:
    a compiled function keeps what it computed from the memory (`compile/prepared.py`). `captured`: one relies on what
    its tensors are.
    """

    __slots__ = (
        "__weakref__", "base_array", "base_type", "captured", "epoch", "exposed", "floating", "prepared", "version"
    )  # fmt: skip

    def __init__(self, base_array: Array | None, base_type: TensorType | None = None):
        self.base_array = base_array
        self.base_type = base_type
        self.version = 0
        self.epoch = _storage_epoch[0]
        self.floating = new_storages_float[0]
        self.exposed = self.prepared = self.captured = False

    def expose(self) -> None:
        """The memory is handed out, or came from outside."""
        if self.prepared and not self.exposed:
            data_changed()
        self.exposed = True


_storage_epoch = [0]
# Whether new storages are floating: from when a device is first used.
new_storages_float = [False]
_epochs = itertools.count(1)
INFERENCE_EPOCH = -1  # of storages made in inference mode


def new_storage_epoch() -> int:
    """A number that storages made before have not reached: a transform tells by it what its function captured."""
    number = next(_epochs)
    if _storage_epoch[0] != INFERENCE_EPOCH:
        _storage_epoch[0] = number
    return number


def mark_new_storages(inference: bool) -> None:
    """Whether the storages made from now on belong to inference tensors."""
    _storage_epoch[0] = INFERENCE_EPOCH if inference else next(_epochs)


# Moves when any existing tensor is given other memory (`t.data = u`, `t.set_(u)`): compiled functions hold addresses.
data_changes = [0]


def data_changed() -> None:
    """An existing tensor has been given other memory."""
    data_changes[0] += 1


# Moves with every write through a tensor made by `.data`, which counts as no new version.
untracked_writes = [0]

# Moves when any tensor's `.grad` is read or set from outside: then someone may hold a gradient tensor that a compiled
# step made and would like to write over.
grad_accesses = [0]


class AutogradExtra:
    """Autograd state that few tensors have."""

    __slots__ = (
        "accumulator",
        "creation",
        "grad_dtype",
        "hooks",
        "post_accumulate",
        "retains_grad",
        "untracked",
    )

    def __init__(self) -> None:
        self.accumulator: Any = None  # weak reference to the AccumulateGrad node
        self.hooks: Hooks = {}  # of a leaf
        self.post_accumulate: Hooks = {}
        self.retains_grad = False
        self.creation = ""  # why a view may not be written to while grad mode is on
        self.untracked = False  # made by `.data`: writes do not count as new versions
        # What `.grad` is accumulated in; the tensor's own dtype unless set, None for whatever comes.
        self.grad_dtype: dtypes.DType | Literal["own"] | None = "own"


@lru_cache(maxsize=1 << 16)
def _type_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> TensorType:
    return TensorType(shape, dtypes.from_numpy(dtype))


class Tensor:
    """A multi-dimensional array with PyTorch's API. Make one with `torch.tensor`, `torch.zeros`, ..."""

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_array",
        "_base",
        "_extra",
        "_grad",
        "_grad_fn",
        "_known_type",
        "_output_nr",
        "_requires_grad",
        "_storage",
        "_value",
        "_view_version",
        "_views",
    )
    __array_priority__ = 1000  # numpy_array + tensor is a tensor's business

    _array: Array | None
    _base: Tensor | None
    _extra: AutogradExtra | None
    _grad: Tensor | None
    _grad_fn: tape.Node | None
    _known_type: TensorType | None
    _output_nr: int
    _requires_grad: bool
    _storage: Storage
    _value: Any
    _view_version: int
    _views: Views

    if TYPE_CHECKING:
        # Put on the class by `methods.py`; type checkers look operators up here.
        data: Any
        __add__: Any
        __radd__: Any
        __iadd__: Any
        __sub__: Any
        __rsub__: Any
        __isub__: Any
        __mul__: Any
        __rmul__: Any
        __imul__: Any
        __truediv__: Any
        __rtruediv__: Any
        __itruediv__: Any
        __floordiv__: Any
        __rfloordiv__: Any
        __mod__: Any
        __rmod__: Any
        __pow__: Any
        __rpow__: Any
        __matmul__: Any
        __rmatmul__: Any
        __and__: Any
        __rand__: Any
        __or__: Any
        __ror__: Any
        __xor__: Any
        __rxor__: Any
        __neg__: Any
        __pos__: Any
        __abs__: Any
        __invert__: Any
        __lt__: Any
        __le__: Any
        __gt__: Any
        __ge__: Any
        __eq__: Any
        __ne__: Any
        __getitem__: Any
        __setitem__: Any
        __len__: Any
        __iter__: Any
        __bool__: Any
        __int__: Any
        __float__: Any
        __index__: Any
        __contains__: Any

        def __getattr__(self, name: str) -> Any: ...

    @property
    def _type(self) -> TensorType:
        """Shape and dtype as the IR has them."""
        known = self._known_type
        if known is None:
            assert self._array is not None
            known = self._known_type = _type_of(self._array.shape, self._array.dtype)
        return known

    @property
    def shape(self) -> Size:
        array = self._array
        return Size(array.shape if array is not None else self._type.shape)

    @property
    def dtype(self) -> dtypes.DType:
        return self._type.dtype

    @property
    def ndim(self) -> int:
        array = self._array
        return array.ndim if array is not None else len(self._type.shape)

    # Autograd state

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad or (self._base is not None and self._base._requires_grad)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise RuntimeError("requires_grad must be a bool")
        if self.grad_fn is not None:
            if not value:
                raise RuntimeError(
                    "you can only change requires_grad flags of leaf variables. If you want to use a computed "
                    "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
                )
            return
        if value and self.dtype.kind not in ("float", "complex"):
            raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
        notify = local.backend.on_requires_grad_set
        if notify is not None:
            notify(self, self._requires_grad)
        if value is not self._requires_grad and self._storage.captured:
            data_changed()  # compiled functions look again at what they captured
        self._requires_grad = value

    @property
    def grad_fn(self) -> tape.Node | None:
        """The node of the tape that made this tensor; None for a leaf."""
        if self._base is not None:
            tape.refresh_view(self)
        return self._grad_fn

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def output_nr(self) -> int:
        return self._output_nr

    @property
    def _version(self) -> int:
        return self._storage.version

    def _is_view(self) -> bool:
        return self._base is not None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` accumulated; None before."""
        grad_accesses[0] += 1
        notify = local.backend.on_grad_read
        if notify is not None:
            notify(self)
        if self._grad is None and self._grad_fn is not None and not self._autograd_extra().retains_grad:
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute "
                "won't be populated during autograd.backward(). If you indeed want the .grad field to be populated "
                "for a non-leaf Tensor, use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor "
                "by mistake, make sure you access the leaf Tensor instead. See github.com/pytorch/pytorch/pull/30531 "
                "for more informations.",
                UserWarning,
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    def grad(self, new: Tensor | None) -> None:
        if new is not None:
            self._check_grad(new)
        self._set_grad(new)

    @grad.deleter
    def grad(self) -> None:
        self._set_grad(None)

    def _set_grad(self, new: Tensor | None) -> None:
        """The one place where `.grad` changes: a backend that records effects is told."""
        grad_accesses[0] += 1
        notify = local.backend.on_grad_set
        if notify is not None:
            notify(self, self._grad)
        self._grad = new

    @property
    def grad_dtype(self) -> dtypes.DType | None:
        """The dtype in which `.grad` is accumulated: the tensor's own unless it is set; None for whatever comes."""
        found = "own" if self._extra is None else self._extra.grad_dtype
        return self.dtype if found == "own" else found

    @grad_dtype.setter
    def grad_dtype(self, value: dtypes.DType | None) -> None:
        if self.grad_fn is not None:
            raise RuntimeError("grad_dtype can only be set on leaf tensors.")
        if value is not None and not isinstance(value, dtypes.DType):
            raise TypeError(f"grad_dtype must be a torch.dtype or None, not {type(value).__name__}")
        if self._grad is not None and value is not None and self._grad.dtype is not value:
            raise RuntimeError(
                f"Cannot set grad_dtype to '{scalar_type_name(value)}' because there is already a gradient with dtype "
                f"'{_scalar_type(self._grad)}'."
            )
        self._autograd_extra().grad_dtype = value

    def _check_grad(self, new: Any) -> None:
        if not isinstance(new, Tensor):
            raise TypeError(
                f"assigned grad expected to be a Tensor or None but got grad of type {type(new).__name__}"
            )
        if new is self:
            raise RuntimeError("can't assign Variable as its own grad")
        wanted = self.grad_dtype
        if wanted is not None and new.dtype is not wanted:
            raise RuntimeError(
                f"attempting to assign a gradient with dtype '{_CXX_NAMES[new.dtype.name]}' to a tensor with "
                f"grad_dtype '{scalar_type_name(wanted)}'. The gradient must match the tensor's grad_dtype (defaults to "
                "the tensor's dtype). You can set the tensor's grad_dtype attribute with a specific dtype, or None "
                "to allow any dtype. Set grad_dtype with caution. Diverging the dtypes of a tensor and its gradient "
                "may break downstream systems that assume they match."
            )
        if tuple(new.shape) != tuple(self.shape):
            raise RuntimeError(
                f"attempting to assign a gradient of size '{list(new.shape)}' to a tensor of size "
                f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same size"
            )

    def _autograd_extra(self) -> AutogradExtra:
        if self._extra is None:
            self._extra = AutogradExtra()
        return self._extra

    # Making tensors out of tensors

    def _alias(self, cls: type[Tensor] | None = None) -> Tensor:
        """A tensor over the same memory, without history."""
        if cls is not None and cls not in _classes:
            _first_of(cls)
        alias = _new(cls or Tensor)
        alias._array = self._array
        alias._value = self._value
        alias._storage = self._storage
        alias._views = self._views
        alias._known_type = self._known_type
        _fresh_autograd(alias)
        return alias

    @staticmethod
    def _make_subclass(cls: type[Tensor], data: Tensor, requires_grad: bool = False) -> Any:
        """A leaf of class `cls` over the memory of `data`."""
        made = data._alias(cls)
        if requires_grad:
            made.requires_grad = True
        return made


# The subclasses that there have been tensors of, and who is told of each before its first.
_classes: weakref.WeakSet[type] = weakref.WeakSet()
told_of_classes: list[Callable[[type], None]] = []


def _first_of(cls: type) -> None:
    for told in told_of_classes:
        told(cls)
    _classes.add(cls)


_SCALAR_TYPES = {
    "bool": "Bool", "u8": "Byte", "u16": "UInt16", "u32": "UInt32", "u64": "UInt64", "i8": "Char",
    "i16": "Short", "i32": "Int", "i64": "Long", "f16": "Half", "bf16": "BFloat16", "f32": "Float",
    "f64": "Double", "c64": "ComplexFloat", "c128": "ComplexDouble",
}  # fmt: skip
_CXX_NAMES = {
    "bool": "bool", "u8": "unsigned char", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t",
    "i8": "signed char", "i16": "short", "i32": "int", "i64": "long int", "f16": "c10::Half",
    "bf16": "c10::BFloat16", "f32": "float", "f64": "double", "c64": "c10::complex<float>",
    "c128": "c10::complex<double>",
}  # fmt: skip


def cxx_name(dtype: dtypes.DType) -> str:
    """The C++ type by which some of PyTorch's messages call the dtype."""
    return _CXX_NAMES[dtype.name]


def scalar_type_name(dtype: dtypes.DType) -> str:
    """The name by which PyTorch's messages and legacy types call the dtype: Float, Long, Byte ..."""
    return _SCALAR_TYPES[dtype.name]


def _scalar_type(tensor: Tensor) -> str:
    return scalar_type_name(tensor.dtype)


def _fresh_autograd(tensor: Tensor) -> None:
    tensor._base = None
    tensor._requires_grad = False
    tensor._grad = None
    tensor._grad_fn = None
    tensor._output_nr = 0
    tensor._extra = None
    tensor._view_version = 0


def wrap(array: Array) -> Tensor:
    """A tensor over the array's memory."""
    tensor = _new(Tensor)
    tensor._array = array
    tensor._value = None
    tensor._storage = Storage(array)
    tensor._views = ()
    tensor._known_type = None
    tensor._base = None
    tensor._requires_grad = False
    tensor._grad = None
    tensor._grad_fn = None
    tensor._output_nr = 0
    tensor._extra = None
    tensor._view_version = 0
    return tensor


def exposed(array: Array) -> Tensor:
    """A tensor over the array's memory, to which code outside may write."""
    tensor = wrap(array)
    tensor._storage.exposed = True
    return tensor


def without_array(type_: TensorType, value: Any) -> Tensor:
    """A tensor that a backend other than the eager one computes: it owns new memory, and `value` is the
    backend's.
    """
    tensor = _new(Tensor)
    tensor._array = None
    tensor._value = value
    tensor._storage = Storage(None, type_)
    tensor._views = ()
    tensor._known_type = type_
    _fresh_autograd(tensor)
    return tensor


def view_of(operand: Tensor, step: ViewStep, array: Array | None, type_: TensorType | None = None) -> Tensor:
    """A tensor over (part of) the operand's memory, one view step further from its base."""
    view = _new(Tensor)
    view._array = array
    view._value = None
    view._storage = operand._storage
    view._views = (*operand._views, step)
    view._known_type = type_
    view._base = operand if operand._base is None else operand._base
    view._requires_grad = False
    view._grad = None
    view._grad_fn = None
    view._output_nr = 0
    view._view_version = operand._storage.version
    extra = operand._extra
    if extra is not None and extra.untracked:
        view._extra = AutogradExtra()
        view._extra.untracked = True
    else:
        view._extra = None
    return view
