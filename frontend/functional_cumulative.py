"""Along one dim: running sums and extremes, differences, integrals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .arguments import as_int, wrap_dim
from .dispatch import apply, constant, op_named
from .functional_arithmetic import add, div, mul, sub
from .functional_pointwise import eq, logical_or, ne, where
from .functional_reductions import gathered
from .functional_reductions import sum as total
from .functional_shape import cat, reshape
from .functional_slices import narrow, select
from .inplace import finish, into
from .ir import dtypes
from .ir.dtypes import DType
from .promotion import convert
from .result_types import RETURN_TYPES, ValuesAndIndices
from .tape_folded import folded
from .tensor import Tensor, scalar_type_name

_IOTA, _CUMMAX = map(op_named, ("iota", "cummax"))


def _running(name: str, input: Tensor, dim: int, dtype: DType | None, out: Tensor | None) -> Tensor:
    if dtype is None and input.dtype.kind not in ("float", "complex"):
        dtype = dtypes.i64
    attrs = {"dim": wrap_dim(dim, input.ndim)}
    if dtype is None or dtype is input.dtype:
        return finish(apply(op_named(name), (input,), attrs), out, name)
    node = name.capitalize() + "Backward0"
    found = folded(node, (input,), lambda: apply(op_named(name), (convert(input, dtype),), attrs))
    return finish(found, out, name)


def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None, out: Tensor | None = None) -> Tensor:
    """The running sum along the dim."""
    return _running("cumsum", input, dim, dtype, out)


def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None, out: Tensor | None = None) -> Tensor:
    """The running product along the dim."""
    return _running("cumprod", input, dim, dtype, out)


def logcumsumexp(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """The logarithm of the running sum of exponentials along the dim."""
    if input.dtype.kind not in ("float", "complex"):
        raise NotImplementedError(
            f"\"logcumsumexp_out_cpu\" not implemented for '{scalar_type_name(input.dtype)}'"
        )
    attrs = {"dim": wrap_dim(dim, input.ndim)}
    return finish(apply(op_named("logcumsumexp"), (input,), attrs), out, "logcumsumexp")


def _running_extreme(name: str) -> Callable[..., ValuesAndIndices]:
    op = op_named(name)

    def function(input: Tensor, dim: int, *, out: Any = None) -> ValuesAndIndices:
        at = wrap_dim(dim, input.ndim)
        data = input.detach()
        if data.dtype is dtypes.bool_:
            data = convert(data, dtypes.u8)
        indices = _last_hits(data, apply(op, (data,), {"dim": at}), at)
        values = gathered(input, at, indices, True, f"{name.capitalize()}Backward0")
        if out is None:
            return RETURN_TYPES[name](values, indices)
        return RETURN_TYPES[name](into(out[0], values, name), into(out[1], indices, name))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"(values, indices) of the running {name[3:]}imum along the dim; of equal ones the last."
    )
    return function


def _last_hits(input: Tensor, best: Tensor, dim: int) -> Tensor:
    """For each element the last place up to it where the running extreme stood."""
    if not input.ndim:
        return constant(0, dtypes.i64).clone()
    shape = tuple(input.shape)
    place = apply(_IOTA, (), {"shape": shape, "dim": dim, "dtype": dtypes.i64})
    hit = eq(input, best)
    if input.dtype.is_floating_point:
        hit = logical_or(hit, ne(input, input))
    hits: Tensor = apply(_CUMMAX, (where(hit, place, constant(0, dtypes.i64)),), {"dim": dim})
    return hits


cummax, cummin = _running_extreme("cummax"), _running_extreme("cummin")


# Differences


def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None,
    *, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The n-th differences of neighbours along a dim, of the input with `prepend` before and `append` after it."""
    if not input.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    at = wrap_dim(dim, input.ndim)
    for other in (prepend, append):
        if other is not None and other.ndim != input.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input")
    parts = [x for x in (prepend, input, append) if x is not None]
    value = cat(parts, at) if len(parts) > 1 else input
    n = min(n, as_int(value.shape[at]))
    for _ in range(n):
        count = max(as_int(value.shape[at]) - 1, 0)
        first, second = narrow(value, at, 0, count), narrow(value, at, min(1, as_int(value.shape[at])), count)
        value = ne(second, first) if value.dtype is dtypes.bool_ else sub(second, first)
    return finish(value.clone() if n == 0 else value, out, "diff")


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """The derivative along each of the dims, by differences of second order; at the edges of first order, or with
    `edge_order=2` of second. `spacing`: the distance of the samples, one for all dims or one for each, or their
    coordinates, a tensor for each dim.
    """
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    dims = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    along = [wrap_dim(d, input.ndim) for d in dims]
    if len(set(along)) != len(along):
        raise RuntimeError("dim 0 appears multiple times in the list of dims")
    if isinstance(spacing, Sequence):
        spacings = list(spacing)
    else:
        spacings = [spacing] * len(along)
    if len(spacings) != len(along):
        raise RuntimeError(
            f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to 'self.dim() "
            f"= {input.ndim}', since dim argument was not given, but got a list of length {len(spacings)}"
            if dim is None
            else f"torch.gradient expected spacing to be unspecified, a scalar or it's spacing and dim arguments to "
            f"have the same length, but got a spacing argument of length {len(spacings)} and a dim argument of "
            f"length {len(along)}."
        )
    for at in along:
        if as_int(input.shape[at]) < edge_order + 1:
            raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    return tuple(_slope(input, at, h, edge_order) for at, h in zip(along, spacings))


def _slope(input: Tensor, dim: int, spacing: Any, edge_order: int) -> Tensor:
    count = as_int(input.shape[dim])

    def part(start: int, length: int) -> Tensor:
        return narrow(input, dim, start, length)

    if isinstance(spacing, Tensor) and spacing.ndim:
        column = (-1,) + (1,) * (input.ndim - dim - 1)
        gaps = reshape(diff(spacing), column)
        a, b = narrow(gaps, 0, 0, count - 2), narrow(gaps, 0, 1, count - 2)
        inner = _weighted(
            (-b / (a * (a + b)), part(0, count - 2)),
            ((b - a) / (a * b), part(1, count - 2)),
            (a / (b * (a + b)), part(2, count - 2)),
        )
        first, last = select(gaps, 0, 0), select(gaps, 0, -1)
        if edge_order == 1:
            before = sub(part(1, 1), part(0, 1)) / first
            after = sub(part(count - 1, 1), part(count - 2, 1)) / last
        else:
            second, next_to_last = select(gaps, 0, 1), select(gaps, 0, -2)
            before = _one_sided(part(0, 1), part(1, 1), part(2, 1), first, second)
            after = -_one_sided(
                part(count - 1, 1), part(count - 2, 1), part(count - 3, 1), last, next_to_last
            )
        return cat([before, inner, after], dim)
    inner = div(sub(part(2, count - 2), part(0, count - 2)), mul(spacing, 2))
    if edge_order == 1:
        before = div(sub(part(1, 1), part(0, 1)), spacing)
        after = div(sub(part(count - 1, 1), part(count - 2, 1)), spacing)
    else:
        before = div(_weighted((-1.5, part(0, 1)), (2.0, part(1, 1)), (-0.5, part(2, 1))), spacing)
        ends = (1.5, part(count - 1, 1)), (-2.0, part(count - 2, 1)), (0.5, part(count - 3, 1))
        after = div(_weighted(*ends), spacing)
    return cat([before, inner, after], dim)


def _one_sided(x0: Tensor, x1: Tensor, x2: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The derivative at x0 from it and two neighbours on one side, in their direction."""
    return _weighted(
        (-(near * 2 + far) / (near * (near + far)), x0),
        ((near + far) / (near * far), x1),
        (-near / (far * (near + far)), x2),
    )


def _weighted(*terms: tuple[Any, Tensor]) -> Tensor:
    found: Tensor | None = None
    for weight, value in terms:
        found = mul(value, weight) if found is None else add(found, mul(value, weight))
    assert found is not None
    return found


# Integrals


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of samples along a dim by the trapezoidal rule; `x`: where they were taken, or `dx` apart."""
    at = _check_samples("trapezoid", y, x, dx, dim)
    if as_int(y.shape[at]) == 0:
        shape = tuple(n for i, n in enumerate(y.shape) if i != at)
        found: Tensor = apply(op_named("full"), (), {"shape": shape, "value": 0, "dtype": y.dtype})
        return found
    if x is None:
        ends = mul(add(select(y, at, 0), select(y, at, -1)), 0.5)
        return mul(sub(total(y, at), ends), 1.0 if dx is None else dx)
    return div(total(_areas("trapezoid", y, x, at), at), 2.0)


trapz = trapezoid


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral up to each sample but the first."""
    at = _check_samples("cumulative_trapezoid", y, x, dx, dim)
    if x is None:
        count = max(as_int(y.shape[at]) - 1, 0)
        sums = add(narrow(y, at, 1, count), narrow(y, at, 0, count)) if count else narrow(y, at, 0, 0)
        return mul(cumsum(sums, at), (1.0 if dx is None else dx) / 2.0)
    return div(cumsum(_areas("cumulative_trapezoid", y, x, at), at), 2.0)


def _check_samples(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> int:
    if y.dtype is dtypes.bool_ or (x is not None and x.dtype is dtypes.bool_):
        which = "`y`" if x is None else "`x` or `y`"
        raise RuntimeError(f"{name}: received a bool input for {which}, but bool is not supported")
    if x is not None and dx is not None:
        raise TypeError(f"{name}() received both x and dx")
    return wrap_dim(dim, y.ndim)


def _areas(name: str, y: Tensor, x: Tensor, at: int) -> Tensor:
    """Twice the area between each sample and the next."""
    count = as_int(y.shape[at])
    if x.ndim == 1:
        if x.shape[0] != count:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
        x = reshape(x, (-1,) + (1,) * (y.ndim - at - 1))
        gaps = diff(x, 1, 0)
    else:
        if x.ndim < y.ndim:
            x = reshape(x, (1,) * (y.ndim - x.ndim) + tuple(x.shape))
        gaps = diff(x, 1, at)
    return mul(add(narrow(y, at, 0, count - 1), narrow(y, at, 1, count - 1)), gaps)


# The names of `torch` that are defined here.
__all__ = [
    "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "diff", "gradient", "logcumsumexp",
    "trapezoid", "trapz",
]  # fmt: skip
