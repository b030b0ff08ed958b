"""PyTorch's methods on Tensor, put there from the functions, with the operators and the in-place forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import (
    capture,
    copying,
    creation,
    formats,
    functional_tensor,
    indexing,
    placement,
    promotion,
    random,
    spectrograms,
)
from . import functional_arithmetic as arithmetic
from . import functional_complex as complexes
from . import functional_cumulative as cumulative
from . import functional_elements as elements
from . import functional_floats as floats
from . import functional_hash as hashing
from . import functional_host as host
from . import functional_indexing as indexed
from . import functional_joining as joining
from . import functional_linalg as algebra
from . import functional_matmul as matrices
from . import functional_memory as memory
from . import functional_order as order
from . import functional_pointwise as pointwise
from . import functional_products as products
from . import functional_reductions as reductions
from . import functional_shape as shapes
from . import functional_slices as slices
from . import functional_special as special
from . import functional_statistics as statistics
from . import tensor_memory as own_memory
from . import tensor_methods as own
from . import tensor_object as own_object
from .arguments import WITHOUT_NUMPY_NAMES, is_operand, with_keywords
from .inplace import overwrite
from .ir import dtypes
from .ir.dtypes import DType
from .nn import activations
from .sparse_tensor import to_dense, to_sparse
from .tensor import Tensor, scalar_type_name


def _method(function: Callable[..., Any], name: str = "") -> None:
    setattr(Tensor, name or function.__name__, function)


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _property(name: str, get: Callable[[Tensor], Any], doc: str, put: Any = None) -> None:
    setattr(Tensor, name, property(get, put, doc=doc))


# Functions that are methods too: all of these files' functions but the ones that take no tensor first.

_NO_METHODS = frozenset(
    {
        "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes", "broadcast_tensors",
        "bucketize", "cartesian_prod", "cat", "cdist", "chain_matmul", "column_stack", "combinations",
        "complex", "concat", "concatenate", "constant_pad_nd", "cumulative_trapezoid", "dstack",
        "einsum", "fill", "frobenius_norm", "gradient", "hstack", "imag", "lobpcg", "lu_unpack",
        "meshgrid", "nuclear_norm", "pca_lowrank", "polar", "real", "row_stack", "rsub", "searchsorted",
        "segment_reduce", "stack", "std_mean", "svd_lowrank", "tensordot", "trapezoid", "trapz",
        "unravel_index", "vander", "var_mean", "view_as_complex", "view_as_real", "vstack", "where",
    }
)  # fmt: skip
_METHODS_ONLY = {
    shapes: ("view", "view_as", "reshape_as", "contiguous", "expand", "expand_as", "repeat"),
    indexing: ("fill_", "copy_", "index_put_"),
    memory: ("fill_diagonal_", "unfold"),
    random: ("uniform_", "normal_", "random_", "bernoulli_", "exponential_"),
}

for _module in (
    arithmetic, pointwise, reductions, order, shapes, slices, matrices, indexed, indexing, host, cumulative,
    elements, joining, memory, products, statistics, algebra, complexes, spectrograms, floats, special,
):  # fmt: skip
    for _name in _module.__all__:
        if _name not in _NO_METHODS:
            _method(with_keywords(getattr(_module, _name), _name not in WITHOUT_NUMPY_NAMES), _name)
for _module, _names in _METHODS_ONLY.items():
    for _name in _names:
        _method(with_keywords(getattr(_module, _name)), _name)
_method(activations.hardshrink)
_method(activations.prelu)
for _name, _removed in algebra.REMOVED.items():
    _method(_removed, _name)
_method(random.bernoulli, "bernoulli")
_method(random.multinomial, "multinomial")

for _module in (own, own_memory, own_object, copying):
    for _name in _module.__all__:
        _method(with_keywords(getattr(_module, _name)), _name)
_method(own.type_, "type")
_method(own.dim, "ndimension")
_method(own.numel, "nelement")
_method(own.number_method(float), "__float__")
_method(own.number_method(int), "__int__")
_method(own.number_method(complex), "__complex__")
_method(own.where_method, "where")
_method(own.polygamma)
_method(functional_tensor.is_nonzero, "is_nonzero")
_method(hashing.hash_tensor, "hash_tensor")
_method(functional_tensor.get_device, "get_device")

_property(
    "data", own.get_data, "The same memory, outside autograd: writes are not tracked.", own_memory.set_data
)
_property("device", placement.device_of, "Where the memory is.")
_property("retains_grad", own.retains_grad, "Whether `retain_grad` was called.")
_property("layout", lambda self: formats.strided, "How the elements are stored: by strides.")
_property("is_cpu", lambda self: placement.device_of(self).type == "cpu", "Whether the memory is the CPU's.")
_property(
    "is_cuda", lambda self: placement.device_of(self).type == "cuda", "Whether the memory is a CUDA device's."
)
_property(
    "is_meta",
    lambda self: placement.device_of(self).type == "meta",
    "Whether there are no elements, only their type.",
)
_method(to_dense)
_method(to_sparse)
for _name in ("is_sparse", "is_quantized", "is_mps", "is_xpu"):
    _property(_name, lambda self: False, "False: tensors are dense, on the CPU or a CUDA device.")
_property("_cdata", own_object._cdata, "A number that no other tensor has meanwhile.")
_property("itemsize", own.element_size, "Bytes per element.")
_property("nbytes", lambda self: self._type.nbytes, "Bytes of all elements.")
_property("T", own.transposed, "The dims in reverse order.")
_property("mT", own.matrix_transposed, "The last two dims exchanged.")
_property("mH", memory.matrix_adjoint, "The last two dims exchanged, conjugated.")
_property("H", own.conjugate_transposed, "The conjugate transpose of a matrix.")
_property("real", complexes.real, "The real parts, a view; a real tensor itself.", complexes.set_real)
_property("imag", complexes.imag, "The imaginary parts, a view.", complexes.set_imag)


# Conversions and constructors by dtype


def _as(name: str, dtype: DType) -> None:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return promotion.convert(self, dtype)

    _method(_named(method, name, f"The tensor as {dtype!r}."))


for _name, _dtype in {
    "float": dtypes.f32, "double": dtypes.f64, "half": dtypes.f16, "bfloat16": dtypes.bf16,
    "long": dtypes.i64, "int": dtypes.i32, "short": dtypes.i16, "char": dtypes.i8, "byte": dtypes.u8,
    "bool": dtypes.bool_, "cfloat": dtypes.c64, "cdouble": dtypes.c128,
}.items():  # fmt: skip
    _as(_name, _dtype)


def _new(name: str) -> None:
    function = getattr(creation, name)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = self.dtype
        if kwargs.get("device") is None and type(self._array) is not np.ndarray:
            kwargs["device"] = placement.device_of(self)
        made: Tensor = function(*args, **kwargs)
        vmap = capture.vmap()
        return made if vmap is None else vmap.like(made, self)

    _method(_named(method, f"new_{name}", f"`torch.{name}` in this tensor's dtype."))


for _name in ("zeros", "ones", "empty", "full"):
    _new(_name)


# In-place forms


def _inplace(name: str, function: Callable[..., Tensor]) -> None:
    """`x.name_(...)`: the value of `x.name(...)` written to x."""
    function = with_keywords(function)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return overwrite(self, lambda: function(self, *args, **kwargs))

    _method(_named(method, name + "_", f"`{name}` in place."))


_INPLACE: dict[Any, tuple[str, ...]] = {
    arithmetic: (
        "add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "floor_divide",
        "remainder", "fmod", "pow", "square", "neg", "negative", "lerp", "addcmul", "addcdiv",
    ),
    pointwise: (
        "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "sin",
        "cos", "tan", "sinh", "cosh", "tanh", "erf", "sigmoid", "abs", "absolute", "sign", "relu",
        "floor", "ceil", "trunc", "fix", "round", "hypot", "nan_to_num", "erfc", "deg2rad", "rad2deg",
        "clamp", "clip", "clamp_min", "clamp_max", "masked_fill", "bitwise_and", "bitwise_or",
        "bitwise_xor", "bitwise_not", "bitwise_left_shift", "bitwise_right_shift", "asin", "acos", "atan", "asinh",
        "acosh", "atanh", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "atan2", "arctan2",
    ),
    floats: ("copysign", "frac", "gcd", "heaviside", "lcm", "ldexp", "nextafter"),
    special: (
        "digamma", "erfinv", "i0", "igamma", "igammac", "lgamma", "logit", "mvlgamma", "sinc",
        "xlogy",
    ),
    complexes: ("conj_physical", "sgn"),
    cumulative: ("cumsum", "cumprod"),
    shapes: ("tril", "triu"),
    matrices: ("addmm", "baddbmm", "addmv"),
    products: ("addbmm", "addr"),
    statistics: ("renorm",),
    indexed: (
        "index_add", "index_copy", "index_fill", "index_reduce", "masked_scatter", "put", "scatter", "scatter_add",
        "scatter_reduce",
    ),
}  # fmt: skip
for _module, _names in _INPLACE.items():
    for _name in _names:
        _inplace(_name, getattr(_module, _name))
_inplace("polygamma", own.polygamma)


def _compared(name: str) -> None:
    function = getattr(pointwise, name)

    def compared(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return promotion.convert(function(self, *args, **kwargs), self.dtype)

    _inplace(name, compared)


for _name in (
    "lt", "le", "gt", "ge", "eq", "ne", "less", "less_equal", "greater", "greater_equal", "not_equal", "logical_and",
    "logical_or", "logical_xor", "logical_not",
):  # fmt: skip
    _compared(_name)


def _float_power_(self: Tensor, exponent: Any) -> Tensor:
    result = special.float_power(self, exponent)
    if self.dtype is not result.dtype:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {scalar_type_name(self.dtype)} but the operation's result "
            f"requires dtype {scalar_type_name(result.dtype)}"
        )
    return overwrite(self, lambda: special.float_power(self, exponent))


_method(_named(_float_power_, "float_power_", "`float_power` in place."))


def _reshaping(name: str) -> None:
    """`squeeze_`, `t_` and their like: this tensor becomes a view of itself."""
    function = with_keywords(getattr(shapes, name))

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return own_memory.become_view(self, function(self, *args, **kwargs))

    _method(_named(method, name + "_", f"`{name}` in place."))


for _name in ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims"):
    _reshaping(_name)


# Operators


def _operator(name: str, function: Callable[..., Tensor], takes: Callable[[Any], bool] = is_operand) -> None:
    def forward(self: Tensor, other: Any) -> Any:
        return function(self, other) if takes(other) else NotImplemented

    def reflected(self: Tensor, other: Any) -> Any:
        return function(other, self) if takes(other) else NotImplemented

    def inplace(self: Tensor, other: Any) -> Any:
        return overwrite(self, lambda: function(self, other)) if takes(other) else NotImplemented

    for prefix, method in (("", forward), ("r", reflected), ("i", inplace)):
        full = f"__{prefix}{name}__"
        if not hasattr(own, full):
            _method(_named(method, full, ""))


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "add": arithmetic.add, "sub": arithmetic.sub, "mul": arithmetic.mul, "truediv": arithmetic.div,
    "floordiv": arithmetic.floor_divide, "mod": arithmetic.remainder, "pow": arithmetic.pow,
    "lshift": pointwise.bitwise_left_shift,
    "rshift": pointwise.bitwise_right_shift, "and": pointwise.bitwise_and, "or": pointwise.bitwise_or,
    "xor": pointwise.bitwise_xor,
}  # fmt: skip
for _name, _operation in _OPERATORS.items():
    _operator(_name, _operation)
_operator("matmul", matrices.matmul, lambda other: isinstance(other, Tensor))


def _comparison(name: str) -> None:
    function = getattr(pointwise, name)

    def method(self: Tensor, other: Any) -> Any:
        return function(self, other) if is_operand(other) else NotImplemented

    _method(_named(method, f"__{name}__", ""))


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _comparison(_name)
_method(arithmetic.neg, "__neg__")
_method(arithmetic.positive, "__pos__")
_method(pointwise.abs, "__abs__")
_method(indexing.getitem, "__getitem__")
_method(indexing.setitem, "__setitem__")
