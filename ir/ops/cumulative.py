"""Running sums, products and extremes along a dim.

NumPy and the kernels for CPUs accumulate one element after the other; the decomposition combines by doubling shifts, in
log2(n) passes that GPUs run in parallel (Hillis & Steele, "Data parallel algorithms", 1986).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .by_decomposition import vjp_by_decomposition
from .common import (
    NUMBER,
    REAL,
    Array,
    check_dim,
    check_dtype,
    distinct,
    integers,
    part,
    shape_of,
    torch_name,
    uniform,
    values,
    wide,
)

Combine = Callable[[Any, Any, Any], Any]


def _doubling(combine: Combine) -> Callable[..., Any]:
    def decompose(F: Any, x: Any, dim: int, reverse: bool = False) -> Any:
        shape = shape_of(F, x)
        if not shape:
            return F.reshape(x, shape=())
        size, by = shape[dim], 1
        if not isinstance(size, int):
            raise RuntimeError(
                f"a running sum, product or extreme along the symbolic dim {size} is not supported"
            )
        while by < size:
            if reverse:
                kept = part(F, x, dim, size - by, size)
                moved = combine(F, part(F, x, dim, 0, size - by), part(F, x, dim, by, size))
                x = F.concat(moved, kept, dim=dim)
            else:
                kept = part(F, x, dim, 0, by)
                moved = combine(F, part(F, x, dim, 0, size - by), part(F, x, dim, by, size))
                x = F.concat(kept, moved, dim=dim)
            by *= 2
        return x

    return decompose


def _accumulate(ufunc: Any, double: bool) -> Callable[..., Array]:
    """`double`: float32 is accumulated in float64, as ATen does."""

    def rule(x: Array, dim: int, reverse: bool = False) -> Array:
        if not x.ndim:
            return x.copy()
        wider = np.float64 if double and x.dtype == np.float32 else x.dtype
        ordered = np.flip(x, dim) if reverse else x
        found = ufunc.accumulate(ordered, dim, dtype=wider).astype(x.dtype, copy=False)
        return np.flip(found, dim).copy() if reverse else found

    return rule


def _infer(name: str, kinds: frozenset[str]) -> Callable[..., TensorType]:
    def infer(x: TensorType, dim: int, reverse: bool = False) -> TensorType:
        check_dtype(name, x, kinds)
        check_dim(dim, x.rank)
        return x

    return infer


def _log_add(F: Any, a: Any, b: Any) -> Any:
    high, low = F.maximum(a, b), F.minimum(a, b)
    # Equal infinities have no difference.
    return F.add(high, F.log1p(F.exp(F.where(F.eq(low, high), 0.0, F.sub(low, high)))))


def _declare(
    name: str,
    doc: str,
    ufunc: Any,
    combine: Combine,
    kinds: frozenset[str],
    samples: tuple[Sample, ...],
    vjp: Callable[..., Any] | None,
    saves: tuple[str, ...] = (),
    double: bool = False,
    reverse: bool = False,
) -> None:
    attrs = {"dim": Attr("int")}
    if reverse:
        attrs["reverse"] = Attr("bool", False)
    declare(
        Op(
            name,
            f"{doc} https://docs.pytorch.org/docs/stable/generated/torch.{name}.html",
            infer=_infer(name, kinds),
            numpy=wide(_accumulate(ufunc, double)),
            attrs=attrs,
            level="composite",
            lowering="none" if name == "logcumsumexp" else "running",
            vjp=vjp,
            decompose=_doubling(combine),
            saves=saves,
            grad_name=torch_name(name) if vjp is not None else "",
            samples=samples,
        )
    )


USUAL = (
    uniform((7,), dim=0),
    uniform((3, 4), dim=1),
    uniform((2, 5, 3), dim=1),
    uniform((), dim=0),
    uniform((3, 0), dim=1),
    uniform((1, 3), dim=0),
)
_WHOLE = integers((5, 3), low=-3, high=4, dim=0)


def _cumsum_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    return [F.cumsum(dy, dim=ctx.attrs["dim"], reverse=not ctx.attrs["reverse"])]


_declare(
    "cumsum",
    "The running sum along `dim`; with `reverse` from the end.",
    np.add,
    lambda F, a, b: F.add(a, b),
    NUMBER,
    (*USUAL, uniform((3, 4), dim=1, reverse=True), _WHOLE),
    _cumsum_vjp,
    double=True,
    reverse=True,
)
_declare(
    "cumprod",
    "The running product along `dim`.",
    np.multiply,
    lambda F, a, b: F.mul(a, b),
    NUMBER,
    (*USUAL, values([[1.0, 0.0, 2.0, 0.0, 3.0]], gradient=True, dim=1), _WHOLE),
    vjp_by_decomposition(_doubling(lambda F, a, b: F.mul(a, b))),
    ("input:0",),
    double=True,
)
_declare(
    "logcumsumexp",
    "The logarithm of the running sum of exponentials along `dim`.",
    np.logaddexp,
    _log_add,
    frozenset({"float"}),
    (*USUAL, values([[-np.inf, -np.inf, 1.0, np.inf, 2.0]], dim=1)),
    vjp_by_decomposition(_doubling(_log_add)),
    ("input:0",),
)
_NANS = values(np.array([[1.0, 3.0, np.nan, 2.0, 5.0]]), dim=1)
_declare(
    "cummax",
    "The running maximum along `dim`; NaN from the first NaN on. Values only.",
    np.maximum,
    lambda F, a, b: F.maximum(a, b),
    REAL,
    (distinct((3, 4), gradient=False, dim=1), distinct((), gradient=False, dim=0), _WHOLE, _NANS),
    None,
)
_declare(
    "cummin",
    "The running minimum along `dim`; NaN from the first NaN on. Values only.",
    np.minimum,
    lambda F, a, b: F.minimum(a, b),
    REAL,
    (distinct((3, 4), gradient=False, dim=1), distinct((), gradient=False, dim=0), _WHOLE, _NANS),
    None,
)
