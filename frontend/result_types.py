"""The named tuples that functions with several results return; they print as `torch.return_types.max(...)`."""

from __future__ import annotations

from typing import Any, NamedTuple

from .tensor import Tensor


def _repr(self: Any) -> str:
    parts = ",\n".join(f"{field}={value!r}" for field, value in zip(self._fields, self))
    return f"torch.return_types.{type(self).__name__}(\n{parts})"


class ValuesAndIndices(NamedTuple):
    """Values and where they stood."""

    values: Tensor
    indices: Tensor


class _Extremes(NamedTuple):
    min: Tensor
    max: Tensor


class _HistogramDD(NamedTuple):
    hist: Tensor
    bin_edges: tuple[Tensor, ...]


class _Histogram(NamedTuple):
    hist: Tensor
    bin_edges: Tensor


def named_tuple(name: str, base: type[Any]) -> Any:
    """A tuple with the fields of `base`, called and printed as PyTorch's results are."""
    return type(name, (base,), {"__repr__": _repr, "__slots__": (), "__module__": "torch.return_types"})


RETURN_TYPES: dict[str, type[ValuesAndIndices]] = {
    name: named_tuple(name, ValuesAndIndices)
    for name in (
        "cummax", "cummin", "kthvalue", "max", "median", "min", "mode", "nanmedian", "sort", "topk",
    )
}  # fmt: skip
MinMax: type[_Extremes] = named_tuple("aminmax", _Extremes)
Histogram: type[_Histogram] = named_tuple("histogram", _Histogram)
HistogramDD: type[_HistogramDD] = named_tuple("histogramdd", _HistogramDD)
