"""Functions that reduce dims: sums, extremes, norms, and softmax, which belongs to the same dims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import promotion
from .arguments import as_int, tensor_argument, wrap_dim, wrap_dims
from .autocast import full_precision, full_precision_on_cuda
from .dispatch import apply, constant, op_named
from .elementwise import floating
from .functional_arithmetic import add, sub
from .functional_complex import imag, real
from .functional_pointwise import eq, exp, isfinite, log, ne, sqrt, where
from .functional_shape import flatten, reshape, unsqueeze
from .inplace import finish
from .ir import dtypes
from .ir.dtypes import DType
from .promotion import convert
from .result_types import RETURN_TYPES, MinMax
from .tape_folded import folded
from .tensor import Tensor, scalar_type_name

_SUM, _PROD, _MEAN, _VAR, _AMAX, _AMIN, _ANY, _ALL, _ARGMAX, _ARGMIN, _GATHER = map(
    op_named, ("sum", "prod", "mean", "var", "amax", "amin", "any", "all", "argmax", "argmin", "gather")
)


def _all_if_empty(dim: Any, rank: int) -> tuple[int, ...]:
    """The dims to reduce: of `dim=()`, as of None, all."""
    return wrap_dims(None if dim == () or dim == [] else dim, rank)


# Sums


def _dtype_of(out: Tensor | None, input: Tensor, dtype: DType | None) -> DType | None:
    """In what floats are added up: where nobody says, in the dtype of `out`."""
    if dtype is None and out is not None and out.dtype.is_floating_point and input.dtype.is_floating_point:
        return out.dtype
    return dtype


def sum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The sum over the dims, or of all elements. Integers and bool are summed as int64."""
    tensor_argument(input, "sum")
    name = "SumBackward0" if dim is None else "SumBackward1"
    dtype = _dtype_of(out, input, dtype)
    if dtype is None and input._type.dtype.kind not in ("float", "complex"):
        dtype = dtypes.i64
    attrs = {"dims": _all_if_empty(dim, input.ndim), "keepdim": bool(keepdim)}
    if dtype is None or dtype is input._type.dtype:
        result = apply(_SUM, (input,), attrs, name)
    else:
        result = folded(name, (input,), lambda: apply(_SUM, (convert(input, dtype),), attrs))
    return finish(result, out, "sum")


def nansum(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The sum without the NaNs."""
    zero = constant(0, input.dtype)
    found = folded(
        "NansumBackward0",
        (input,),
        lambda: sum(where(ne(input, input), zero, input), dim, keepdim, dtype=dtype),
    )
    return finish(found, out, "nansum")


@full_precision
def prod(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The product along the dim, or of all elements."""
    name = "ProdBackward0" if dim is None else "ProdBackward1"
    if dtype is None and input.dtype.kind not in ("float", "complex"):
        dtype = dtypes.i64
    attrs = {"dims": wrap_dims(dim, input.ndim), "keepdim": bool(keepdim)}
    if dtype is None:
        return finish(apply(_PROD, (input,), attrs, name), out, "prod")
    found = folded(name, (input,), lambda: apply(_PROD, (convert(input, dtype),), attrs))
    return finish(found, out, "prod")


def mean(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The mean over the dims, or of all elements."""
    dtype = _dtype_of(out, input, dtype)
    value = input if dtype is None else convert(input, dtype)
    _need_floating("mean", value)
    name = "MeanBackward0" if dim is None else "MeanBackward1"
    dims = _all_if_empty(dim, input.ndim)
    return finish(apply(_MEAN, (value,), {"dims": dims, "keepdim": bool(keepdim)}, name), out, "mean")


def _need_floating(name: str, value: Tensor) -> None:
    if value.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {scalar_type_name(value.dtype)}"
        )


def nanmean(
    input: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The mean without the NaNs."""
    if input.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            "nanmean(): expected input to have floating point or complex dtype but got "
            f"{scalar_type_name(input.dtype)}"
        )
    counted = sum(eq(input, input), dim, keepdim)
    return finish(nansum(input, dim, keepdim, dtype=dtype) / counted, out, "nanmean")


def _correction(unbiased: Any, correction: Any) -> int:
    if unbiased is not None:
        return 1 if unbiased else 0
    return 1 if correction is None else as_int(correction)


def _variance_dims(dim: Any, unbiased: Any) -> tuple[Any, Any]:
    """`var(unbiased)`: a bool in the place of dim."""
    return (None, dim) if isinstance(dim, bool) else (dim, unbiased)


def _var(input: Tensor, dim: Any, correction: int, keepdim: bool) -> Tensor:
    if input.dtype.kind not in ("float", "complex"):
        raise RuntimeError("std and var only support floating point and complex dtypes")
    attrs = {"dims": _all_if_empty(dim, input.ndim), "keepdim": bool(keepdim), "correction": correction}
    if input.dtype.is_complex:
        return folded(
            "VarBackward0",
            (input,),
            lambda: add(*(apply(_VAR, (part(input),), attrs) for part in (real, imag))),
        )
    result: Tensor = apply(_VAR, (input,), attrs)
    return result


def var(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The variance; `correction` is subtracted from the count (1: Bessel's)."""
    dim, unbiased = _variance_dims(dim, unbiased)
    return finish(_var(input, dim, _correction(unbiased, correction), keepdim), out, "var")


def std(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The standard deviation; where it is 0 its gradient is 0."""
    dim, unbiased = _variance_dims(dim, unbiased)
    count = _correction(unbiased, correction)
    found = folded("StdBackward0", (input,), lambda: safe_sqrt(_var(input, dim, count, keepdim)))
    return finish(found, out, "std")


def safe_sqrt(value: Tensor) -> Tensor:
    """sqrt whose gradient at 0 is 0 instead of infinite."""
    at_zero = eq(value, 0)
    return where(at_zero, value, sqrt(where(at_zero, constant(1, value.dtype), value)))


def var_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """Variance and mean."""
    where_, count = _variance_dims(dim, unbiased)
    count = _correction(count, correction)
    return (
        folded("VarMeanBackward0", (input,), lambda: _var(input, where_, count, keepdim)),
        folded("VarMeanBackward0", (input,), lambda: mean(input, where_, keepdim)),
    )


def std_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean."""
    where_, count = _variance_dims(dim, unbiased)
    count = _correction(count, correction)
    return (
        folded("StdMeanBackward0", (input,), lambda: safe_sqrt(_var(input, where_, count, keepdim))),
        folded("StdMeanBackward0", (input,), lambda: mean(input, where_, keepdim)),
    )


@full_precision_on_cuda
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """log(sum(exp(input))), shifted by the maximum."""
    input = floating(input)

    def compute() -> Tensor:
        if input.ndim and 0 in [input.shape[d] for d in wrap_dims(dim, input.ndim)]:
            return log(sum(exp(input), dim, keepdim))  # no maximum; -inf
        high = amax(input.detach(), dim, True)
        shift = where(isfinite(high), high, constant(0, high.dtype))
        total = log(sum(exp(sub(input, shift)), dim, True))
        shifted = add(total, shift)
        if keepdim:
            return shifted
        dims = wrap_dims(dim, input.ndim)
        return reshape(shifted, tuple(s for i, s in enumerate(shifted.shape) if i not in dims))

    return finish(folded("LogsumexpBackward0", (input,), compute), out, "logsumexp")


# Extremes


def _extreme(name: str, whole: Any, arg: Any, pairwise: str) -> Callable[..., Any]:
    title = name.capitalize()

    def function(
        input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None
    ) -> Any:
        if isinstance(dim, Tensor) or other is not None:
            first, second = promotion.promoted(input, dim if other is None else other)
            return finish(apply(op_named(pairwise), (first, second)), out, name)
        if dim is None:
            if input._type.numel == 0:
                raise RuntimeError(
                    f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                    "reduction dim with the 'dim' argument."
                )
            dims = tuple(range(input.ndim))
            return finish(
                apply(whole, (input,), {"dims": dims, "keepdim": False}, f"{title}Backward1"), out, name
            )
        at = wrap_dim(dim, input.ndim)
        if input.dtype.is_complex:
            raise RuntimeError(f"{name}(): does not support complex input")
        if input.ndim and input.shape[at] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {at} to have non-zero size.")
        indices = apply(arg, (input,), {"dim": at, "keepdim": True})
        values = gathered(input, at, indices, keepdim, f"{title}Backward0")
        if not keepdim and input.ndim:
            indices = dropped(indices, at)
        if out is not None:
            return RETURN_TYPES[name](finish(values, out[0], name), finish(indices, out[1], name))
        return RETURN_TYPES[name](values, indices)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The {name}imum of all elements; with `dim` the (values, indices) along it; of two tensors."
    )
    return function


def dropped(value: Tensor, dim: int) -> Tensor:
    shape = tuple(value.shape)
    dropped = reshape(value, (*shape[:dim], *shape[dim + 1 :]))
    dropped._base = None
    return dropped


def gathered(input: Tensor, dim: int, indices: Tensor, keepdim: bool, name: str) -> Tensor:
    def compute() -> Tensor:
        values: Tensor = apply(_GATHER, (input, indices), {"dim": dim})
        return values if keepdim or not input.ndim else dropped(values, dim)

    return folded(name, (input,), compute)


max = _extreme("max", _AMAX, _ARGMAX, "maximum")
min = _extreme("min", _AMIN, _ARGMIN, "minimum")


def _along_dims(name: str, op: Any) -> Callable[..., Tensor]:
    def function(input: Tensor, dim: Any = (), keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
        dims = _all_if_empty(dim, input.ndim)
        if dim in ((), []) and input._type.numel == 0:
            raise RuntimeError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction "
                "dim with the 'dim' argument."
            )
        for d in dims:
            if input.ndim and input.shape[d] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
        if input.dtype is dtypes.bool_:
            return (any if name == "amax" else all)(input, dims, keepdim, out=out)
        return finish(apply(op, (input,), {"dims": dims, "keepdim": bool(keepdim)}), out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The {name[1:]}imum over the dims, or of all elements; equal ones share the gradient."
    return function


amax, amin = _along_dims("amax", _AMAX), _along_dims("amin", _AMIN)


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False, out: Any = None) -> Any:
    """Minimum and maximum of all elements, or along a dim."""
    if dim is None and input._type.numel == 0:
        raise RuntimeError(
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity."
        )
    if dim is not None and input.ndim and input.shape[wrap_dim(dim, input.ndim)] == 0:
        raise IndexError(f"aminmax: Expected reduction dim {dim} to have non-zero size.")
    dims: Any = () if dim is None else dim

    def extreme(function: Callable[..., Tensor]) -> Tensor:
        found = folded("AminmaxBackward0", (input,), lambda: function(input, dims, keepdim))
        return reshape(found, (1,) * input.ndim) if keepdim and dim is None else found

    low, high = extreme(amin), extreme(amax)
    if out is None:
        return MinMax(low, high)
    return MinMax(finish(low, out[0], "aminmax"), finish(high, out[1], "aminmax"))


def _position(name: str, op: Any) -> Callable[..., Tensor]:
    def function(
        input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
    ) -> Tensor:
        return finish(position(input, dim, keepdim), out, name)

    def position(input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
        if input.dtype is dtypes.bool_:
            raise RuntimeError(f"{name}(): does not support bool input")
        if dim is None:
            if input._type.numel == 0:
                raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
            rank = input.ndim
            found: Tensor = apply(op, (flatten(input.detach()),), {"dim": 0, "keepdim": False})
            return reshape(found, (1,) * rank) if keepdim else found
        at = wrap_dim(dim, input.ndim)
        if input.ndim and input.shape[at] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {at} to have non-zero size.")
        result: Tensor = apply(op, (input.detach(),), {"dim": at, "keepdim": bool(keepdim)})
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The index of the extreme element: along `dim`, or counted through all elements."
    return function


argmax, argmin = _position("argmax", _ARGMAX), _position("argmin", _ARGMIN)


def _truth(name: str, op: Any) -> Callable[..., Tensor]:
    def function(
        input: Tensor, dim: Any = None, keepdim: bool = False, *, out: Tensor | None = None
    ) -> Tensor:
        attrs = {"dims": wrap_dims(dim, input.ndim), "keepdim": bool(keepdim)}
        value = input if input.dtype is dtypes.bool_ else ne(input, 0)
        result: Tensor = apply(op, (value,), attrs)
        return finish(convert(result, dtypes.u8) if input.dtype is dtypes.u8 else result, out, name)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Whether {name} elements along the dims are nonzero."
    return function


any, all = _truth("any", _ANY), _truth("all", _ALL)


# Softmax


def softmax(input: Tensor, dim: int, dtype: DType | None = None, *, out: Tensor | None = None) -> Tensor:
    """exp(input) / sum(exp(input)) along the dim."""
    return finish(_softmax("softmax", input, dim, dtype), out, "softmax")


def log_softmax(input: Tensor, dim: int, dtype: DType | None = None, *, out: Tensor | None = None) -> Tensor:
    """log(softmax(input)), computed as one."""
    return finish(_softmax("log_softmax", input, dim, dtype), out, "log_softmax")


def _softmax(name: str, input: Tensor, dim: int, dtype: DType | None) -> Tensor:
    value = input if dtype is None else convert(input, dtype)
    if value.dtype.kind != "float":
        raise NotImplementedError(
            f"\"{name}_lastdim_kernel_impl\" not implemented for '{scalar_type_name(value.dtype)}'"
        )
    at = wrap_dim(dim, value.ndim)
    if value.ndim == 0:
        return reshape(_softmax(name, unsqueeze(value, 0), 0, None), ())
    result: Tensor = apply(op_named(name), (value,), {"dim": at})
    return result


# The names of `torch` that are defined here.
__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "log_softmax", "logsumexp",
    "max", "mean", "min", "nanmean", "nansum", "prod", "softmax", "std", "std_mean", "sum", "var",
    "var_mean",
]  # fmt: skip
