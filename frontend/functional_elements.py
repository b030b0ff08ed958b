"""Questions about elements: which are distinct, how often each occurs, where they belong, are they the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arguments import also_named, as_int, tensor_argument, wrap_dim, wrap_dims
from .creation import as_tensor
from .dispatch import apply, op_named
from .functional_host import nonzero
from .functional_reductions import all
from .inplace import finish
from .ir import dtypes
from .ir.dtypes import promote
from .promotion import convert, promoted
from .result_types import Histogram
from .tensor import Tensor, scalar_type_name

_UNIQUE, _RUNS, _BINCOUNT, _COUNT, _ISIN, _SEARCHSORTED, _HISTOGRAM, _ISCLOSE, _ALL_EQUAL = map(
    op_named,
    (
        "unique", "unique_consecutive", "bincount", "count_nonzero", "isin", "searchsorted", "histogram", "isclose",
        "all_equal",
    ),
)  # fmt: skip


def argwhere(input: Tensor) -> Tensor:
    """The indices of the nonzero elements, one row per element."""
    return nonzero(input)


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are nonzero, along `dim` or in all."""
    dims = tuple(range(input.ndim)) if dim is None else wrap_dims(dim, input.ndim)
    return apply(_COUNT, (input.detach(),), {"dims": dims if input.ndim else ()})


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements (or slices along `dim`) in ascending order; on request where each element went, and how
    often each occurs."""
    return _distinct(_UNIQUE, input, return_inverse, return_counts, dim)


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The first of each run of equal neighbours; on request which run each element is in, and how long each is."""
    return _distinct(_RUNS, input, return_inverse, return_counts, dim)


def _distinct(op: Any, input: Tensor, return_inverse: bool, return_counts: bool, dim: int | None) -> Any:
    at = None if dim is None else wrap_dim(dim, input.ndim)
    values, inverse, counts = apply(op, (input.detach(),), {"dim": at})
    wanted = [values, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
    return wanted[0] if len(wanted) == 1 else tuple(wanted)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs, or the sum of its weights."""
    _check_kind(input, "bincount_cpu", ("int", "uint"))
    operands = (input,) if weights is None else (input, weights.detach())
    return apply(_BINCOUNT, operands, {"minlength": as_int(minlength)})


def _check_kind(input: Tensor, name: str, kinds: tuple[str, ...]) -> None:
    if input.dtype.kind not in kinds:
        raise NotImplementedError(f"\"{name}\" not implemented for '{scalar_type_name(input.dtype)}'")


@also_named(element="elements", test_element="test_elements")
def isin(
    elements: Any,
    test_elements: Any,
    *,
    assume_unique: bool = False,
    invert: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Which elements are among the test elements."""
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError(
            "isin() received an invalid combination of arguments - got "
            f"({type(elements).__name__}, {type(test_elements).__name__}), but expected at least one tensor"
        )
    tensors = [t.detach() if isinstance(t, Tensor) else as_tensor(t) for t in (elements, test_elements)]
    return finish(apply(_ISIN, tensors, {"invert": invert}), out, "isin")


# Where elements belong


@also_named(self="input")
def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Where each value would have to stand in the sorted rows: before equal elements, or with `right` after them."""
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(
            "torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True"
        )
    values = input
    if not isinstance(input, Tensor):
        whole = isinstance(input, int) or not sorted_sequence.dtype.is_integral
        values = as_tensor(input, sorted_sequence.dtype if whole else dtypes.f64)
    sequence = sorted_sequence
    if sorter is not None:
        if sorter.dtype is not dtypes.i64:
            raise RuntimeError(
                "torch.searchsorted(): sorter must be a tensor of long dtype but got dtype "
                f"{scalar_type_name(sorter.dtype)}"
            )
        sequence = apply(op_named("gather"), (sequence.detach(), sorter), {"dim": sequence.ndim - 1})
    if values.dtype is not sequence.dtype:
        common = promote(sequence.dtype, values.dtype)
        sequence, values = convert(sequence, common), convert(values, common)
    attrs = {"right": right or side == "right", "dtype": dtypes.i32 if out_int32 else dtypes.i64}
    return finish(apply(_SEARCHSORTED, (sequence.detach(), values.detach()), attrs), out, "searchsorted")


@also_named(self="input")
def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False, out: Tensor | None = None
) -> Tensor:
    """The number of the bucket that each value is in: `searchsorted` for one row of boundaries."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right, out=out)


def histc(input: Tensor, bins: int = 100, min: Any = 0, max: Any = 0, *, out: Tensor | None = None) -> Tensor:
    """How many elements are in each of `bins` equal parts of [min, max]; of the elements' own range where both are
    the same."""
    bins = as_int(bins)
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    if max < min:
        raise RuntimeError("torch.histc: max must be larger than min")
    _check_kind(input, "histogram_cpu", ("float",))
    attrs = {"bins": bins, "low": float(min), "high": float(max), "density": False}
    return finish(apply(_HISTOGRAM, (input.detach(),), attrs)[0], out, "histc")


def histogram(
    input: Tensor,
    bins: Any,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
    out: Any = None,
) -> Any:
    """(counts, edges) of equal bins, or of the bins between the given edges; or the density."""
    _check_kind(input, "histogramdd", ("float",))
    operands = [input.detach()]
    attrs: dict[str, Any] = {"density": density}
    if isinstance(bins, Tensor):
        operands.append(bins.detach())
    else:
        low, high = range or (0.0, 0.0)
        attrs |= {"bins": bins, "low": float(low), "high": float(high)}
    if weight is not None:
        operands.append(weight.detach())
    attrs["edges"], attrs["weighted"] = isinstance(bins, Tensor), weight is not None
    into = (None, None) if out is None else out
    hist, edges = apply(_HISTOGRAM, operands, attrs)
    return Histogram(finish(hist, into[0], "histogram"), finish(edges, into[1], "histogram"))


# The same?


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements."""
    tensor_argument(input, "equal", "input", 1)
    tensor_argument(other, "equal", "other", 2)
    if tuple(input.shape) != tuple(other.shape):
        return False
    return bool(apply(_ALL_EQUAL, [t.detach() for t in promoted(input, other)]))


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Where |input - other| <= atol + rtol * |other|."""
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{scalar_type_name(input.dtype)} did not match {scalar_type_name(other.dtype)}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value < 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")
    attrs = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan}
    return apply(_ISCLOSE, (input.detach(), other.detach()), attrs)


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(all(isclose(input, other, rtol, atol, equal_nan)))


# The names of `torch` that are defined here.
__all__ = [
    "allclose", "argwhere", "bincount", "bucketize", "count_nonzero", "equal", "histc", "histogram", "isclose", "isin",
    "searchsorted", "unique", "unique_consecutive",
]  # fmt: skip
