"""Functions that make tensors: from Python data, from NumPy, filled, counted."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from . import capture, promotion
from .argument_numbers import Number
from .arguments import as_dim, as_int, sizes
from .device import require_cpu
from .dispatch import apply, op_named
from .formats import dims_in_memory
from .functional_shape import laid_out
from .inplace import into
from .ir import dtypes
from .ir.dims import Expr
from .ir.dtypes import DType
from .memory_layout import dims_as_they_lie, is_contiguous
from .nested_data import PYTHON_TYPES, array_of, dtype_or
from .placement import default_gpu, device_of, gpu_of, makes_tensors, on_gpu, transferred
from .tensor import Array, Tensor, cxx_name, exposed, wrap
from .untyped_storage import UntypedStorage

_FULL, _IOTA, _CONVERT = map(op_named, ("full", "iota", "convert"))


def leaf(made: Tensor, requires_grad: bool) -> Tensor:
    if requires_grad:
        if made.dtype.kind not in ("float", "complex"):
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        made.requires_grad = True
    return made


def check_options(dtype: Any, device: Any, layout: Any = None, pin_memory: bool = False) -> None:
    require_cpu(device)
    if dtype is not None and not isinstance(dtype, DType):
        found = PYTHON_TYPES.get(dtype)
        if found is None:
            raise TypeError(f"dtype must be torch.dtype, not {type(dtype).__name__}")


# From data


@makes_tensors
def tensor(
    data: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A new tensor with a copy of the data: numbers, nested sequences, NumPy arrays, tensors."""
    check_options(dtype, device)
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
            "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).",
            UserWarning,
            stacklevel=4,  # two wrappers of `placement.py` lie between
        )
        copied: Tensor = apply(_CONVERT, (data.detach(),), {"dtype": dtype_or(dtype, data.dtype)})
        return leaf(copied, requires_grad)
    if type(data) is Number:
        return _filled((), data, dtype, promotion.number_dtype(data), None, requires_grad, "tensor")
    return leaf(wrap(array_of(data, dtype, True)), requires_grad)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """The data as a tensor, sharing memory with a tensor or NumPy array of that dtype that is on the device already."""
    check_options(dtype, None)
    if isinstance(data, Tensor):
        here = data if device is None else transferred(data, gpu_of(device))
        return here if dtype is None or dtype is data.dtype else promotion.convert(here, dtype)
    if type(data) is Number:
        return _filled((), data, dtype, promotion.number_dtype(data), None, False, "as_tensor")
    if isinstance(data, UntypedStorage):
        data = np.array(data)
    array = array_of(data, dtype, not isinstance(data, np.ndarray))
    made = from_numpy(array) if array is data else wrap(array)
    return transferred(made, default_gpu(device))


def asarray(
    obj: Any,
    *,
    dtype: DType | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`as_tensor`, or with `copy=True` a copy."""
    made = as_tensor(obj, dtype, device)
    if copy and (made is obj or isinstance(obj, np.ndarray)):
        made = made.clone()
    return leaf(made, requires_grad) if requires_grad else made


def from_numpy(array: Array) -> Tensor:
    """A tensor over the array's memory: a change to one is a change to the other."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    try:
        found = dtypes.from_numpy(array.dtype)
    except TypeError:
        kind = array.dtype.type
        raise TypeError(
            f"can't convert np.ndarray of type {kind.__module__}.{kind.__name__}. The only supported types are: "
            "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, "
            "uint8, and bool."
        ) from None
    if any(step < 0 for step in array.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "currently supported. (You can probably work around this by making a copy of your array  with "
            "array.copy().) "
        )
    if array.dtype != found.numpy:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion between byte orders "
            "is currently not supported."
        )
    if not array.flags.writeable:
        warnings.warn(
            "The given NumPy array is not writable, and vitrify does not write to such memory: in-place operations "
            "on this tensor raise. Copy the array first to make it writable.",
            UserWarning,
            stacklevel=3,  # a wrapper of `placement.py` lies between
        )
    return exposed(array.view(np.ndarray))


# Filled


@makes_tensors
def full(
    size: Any, fill_value: Any, *, out: Tensor | None = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """Every element `fill_value`."""
    if isinstance(fill_value, Tensor) and not fill_value.ndim:
        fill_value = fill_value.item()
    if isinstance(size, Tensor):
        raise TypeError("full(): argument 'size' (position 1) must be tuple of ints, not Tensor")
    if not isinstance(fill_value, bool | int | float | complex | np.generic | Expr):
        raise TypeError(
            f"full(): argument 'fill_value' (position 2) must be Number, not {type(fill_value).__name__}"
        )
    shape = sizes((size,), "full")
    made = _filled(
        shape, fill_value, dtype, promotion.number_dtype(fill_value), device, requires_grad, "full"
    )
    return made if out is None else into(out, made, "full")


def _filled(
    shape: tuple[Any, ...],
    value: Any,
    dtype: Any,
    default: DType,
    device: Any,
    requires_grad: bool,
    name: str,
) -> Tensor:
    check_options(dtype, device)
    for size in shape:
        if type(size) is int and size < 0:
            if name == "zeros":
                raise RuntimeError("zeros: Dimension size must be non-negative.")
            raise RuntimeError(f"Trying to create tensor with negative dimension {size}: {list(shape)}")
    if isinstance(value, complex) and value.imag and not dtype_or(dtype, default).is_complex:
        raise RuntimeError(
            f"value cannot be converted to type {cxx_name(dtype_or(dtype, default))} without overflow"
        )
    made: Tensor = apply(_FULL, (), {"shape": shape, "value": value, "dtype": dtype_or(dtype, default)})
    return leaf(made, requires_grad)


@makes_tensors
def zeros(
    *args: Any, size: Any = None, out: Tensor | None = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Every element 0."""
    shape = sizes(args, "zeros", size)
    made = _filled(shape, 0, dtype, promotion.get_default_dtype(), device, requires_grad, "zeros")
    return made if out is None else into(out, made, "zeros")


@makes_tensors
def ones(
    *args: Any, size: Any = None, out: Tensor | None = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Every element 1."""
    shape = sizes(args, "ones", size)
    made = _filled(shape, 1, dtype, promotion.get_default_dtype(), device, requires_grad, "ones")
    return made if out is None else into(out, made, "ones")


@makes_tensors
def empty(
    *args: Any, size: Any = None, out: Tensor | None = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """Elements that are not defined (here they are 0, so that runs repeat)."""
    shape = sizes(args, "empty", size)
    made = _filled(shape, 0, dtype, promotion.get_default_dtype(), device, False, "empty")
    order = dims_in_memory(memory_format, len(shape))
    if order is not None and order != tuple(range(len(shape))):
        made = laid_out(made, order)
    return leaf(made, requires_grad) if out is None else into(out, made, "empty")


def _like(
    input: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool, memory_format: Any, name: str
) -> Tensor:
    with on_gpu(gpu_of(device_of(input) if device is None else device)):
        made = _filled(tuple(input.shape), value, dtype, input.dtype, None, False, name)
    order = dims_in_memory(memory_format, input.ndim)
    if order is None and not is_contiguous(input):
        order = dims_as_they_lie(input)
    if order is not None and order != tuple(range(input.ndim)):
        made = laid_out(made, order)
    vmap = capture.vmap()
    return leaf(made if vmap is None else vmap.like(made, input), requires_grad)


def zeros_like(
    input: Tensor, *, memory_format: Any = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0 everywhere, of the input's shape and dtype."""
    return _like(input, 0, dtype, device, requires_grad, memory_format, "zeros_like")


def ones_like(
    input: Tensor, *, memory_format: Any = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """1 everywhere, of the input's shape and dtype."""
    return _like(input, 1, dtype, device, requires_grad, memory_format, "ones_like")


def empty_like(
    input: Tensor, *, memory_format: Any = None, dtype: DType | None = None, layout: Any = None, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Undefined elements (here 0), of the input's shape and dtype."""
    return _like(input, 0, dtype, device, requires_grad, memory_format, "empty_like")


def full_like(
    input: Tensor, fill_value: Any, *, memory_format: Any = None, dtype: DType | None = None, layout: Any = None,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`fill_value` everywhere, of the input's shape and dtype."""
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    return _like(input, fill_value, dtype, device, requires_grad, memory_format, "full_like")


# Counted


@makes_tensors
def arange(
    start: Any = None, end: Any = None, step: Any = 1, *, out: Tensor | None = None, dtype: DType | None = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ... below end; integers unless one of the three is a float."""
    check_options(dtype, device)
    if start is None and end is None:
        raise TypeError("arange() missing 1 required argument: 'end'")
    if start is None or end is None:
        start, end = 0, start if end is None else end
    start, end, step = (v.item() if isinstance(v, Tensor | np.generic) else v for v in (start, end, step))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if any(isinstance(v, float) and not math.isfinite(v) for v in (start, end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    integral = all(isinstance(v, int | Expr) for v in (start, end, step))
    kind = dtype_or(dtype, dtypes.i64 if integral else promotion.get_default_dtype())
    if kind.is_complex:
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{kind.scalar_type}'")
    if integral:
        count = -(-(end - start) // step)
        count = count if isinstance(count, Expr) else max(0, count)
    else:
        count = math.ceil((end - start) / step)
    made = counted(count, start, step, kind)
    return leaf(made, requires_grad) if out is None else into(out, made, "arange")


def counted(count: int, start: Any, step: Any, dtype: DType) -> Tensor:
    """start + step * i, computed in int64 or float64."""
    wide = dtypes.i64 if isinstance(start, int | Expr) and isinstance(step, int | Expr) else dtypes.f64
    index: Tensor = apply(_IOTA, (), {"shape": (count,), "dim": 0, "dtype": wide})
    if step != 1:
        index = apply(op_named("mul"), (index, promotion.as_operand(step, wide)))
    if start != 0:
        index = apply(op_named("add"), (index, promotion.as_operand(start, wide)))
    return promotion.convert(index, dtype)


@makes_tensors
def linspace(
    start: Any, end: Any, steps: int, *, out: Tensor | None = None, dtype: DType | None = None,
    layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` numbers from start to end, both included, equally far apart."""
    check_options(dtype, device)
    steps = as_int(steps)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    if isinstance(start, Tensor) or isinstance(end, Tensor):
        made = _between(start, end, steps, dtype_or(dtype, promotion.get_default_dtype()))
        return leaf(made, requires_grad) if out is None else into(out, made, "linspace")
    default = promotion.get_default_dtype()
    if isinstance(start, complex) or isinstance(end, complex):
        default = default.to_complex()
    kind = dtype_or(dtype, default)
    work = np.dtype(np.float64)
    if kind.kind in ("float", "complex") and kind.itemsize >= 4:
        work = kind.numpy
    index = np.arange(steps)
    first, last = work.type(start), work.type(end)
    step = (last - first) / work.type(max(steps - 1, 1))
    # From both ends towards the middle, as ATen does, so that the last number is exactly `end`.
    rising, falling = first + step * index.astype(work), last - step * (steps - 1 - index).astype(work)
    values = np.where(index < steps // 2, rising, falling) if steps != 1 else np.full(1, first)
    made = wrap(values.astype(kind.numpy))
    return leaf(made, requires_grad) if out is None else into(out, made, "linspace")


def _between(start: Any, end: Any, steps: int, kind: DType) -> Tensor:
    """`linspace` where a bound is a 0-d tensor, whose value may not be known yet."""
    work = dtypes.c128 if kind.is_complex else dtypes.f64
    first, last = (
        promotion.as_operand(v.detach() if isinstance(v, Tensor) else v, work) for v in (start, end)
    )
    index = arange(steps, dtype=work)
    step = (last - first) / max(steps - 1, 1)
    rising, falling = first + step * index, last - step * (steps - 1 - index)
    early = arange(steps) < max(steps // 2, 1)
    return promotion.convert(apply(op_named("where"), (early, rising, falling)), kind)


@makes_tensors
def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, out: Tensor | None = None, dtype: DType | None = None,
    layout: Any = None, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """base to the powers from start to end."""
    powers = linspace(start, end, steps, dtype=dtypes.f64, device=device)
    kind = dtype_or(dtype, promotion.get_default_dtype())
    values = apply(op_named("pow"), (promotion.as_operand(float(base), dtypes.f64), powers))
    made = promotion.convert(values, kind)
    return leaf(made, requires_grad) if out is None else into(out, made, "logspace")


@makes_tensors
def eye(
    n: int,
    m: int | None = None,
    *,
    out: Tensor | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:
    """1 on the diagonal, 0 elsewhere."""
    check_options(dtype, device)
    shape = as_dim(n), as_dim(n if m is None else m)
    for size in shape:
        if isinstance(size, int) and size < 0:
            raise RuntimeError(f"n must be greater or equal to 0, got {size}")
    rows = apply(_IOTA, (), {"shape": shape, "dim": 0, "dtype": dtypes.i64})
    columns = apply(_IOTA, (), {"shape": shape, "dim": 1, "dtype": dtypes.i64})
    equal = apply(op_named("eq"), (rows, columns))
    made = promotion.convert(equal, dtype_or(dtype, promotion.get_default_dtype()))
    return leaf(made, requires_grad) if out is None else into(out, made, "eye")


@makes_tensors
def scalar_tensor(
    s: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None, pin_memory: bool = False,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A 0-d tensor."""
    return _filled((), s, dtype, promotion.get_default_dtype(), device, requires_grad, "scalar_tensor")


# The names of `torch` that are defined here.
__all__ = [
    "arange", "as_tensor", "asarray", "empty", "empty_like", "eye", "from_numpy", "full", "full_like",
    "linspace", "logspace", "ones", "ones_like", "scalar_tensor", "tensor", "zeros", "zeros_like",
]  # fmt: skip
