"""The `reduction` argument of losses, and its two deprecated predecessors."""

from __future__ import annotations

from ..dispatch import apply, op_named
from ..functional_reductions import mean, sum
from ..tensor import Tensor
from ..user_warnings import warn_user

_NAMES = ("none", "mean", "sum")


def check(reduction: str) -> str:
    """The name; ValueError if it is none of "none", "mean", "sum"."""
    if reduction not in _NAMES:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def legacy(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """`reduction`, or what the deprecated arguments say."""
    if size_average is None and reduce is None:
        return check(reduction)
    size_average = True if size_average is None else size_average
    reduce = True if reduce is None else reduce
    name = "none" if not reduce else "mean" if size_average else "sum"
    warn_user(f"size_average and reduce args will be deprecated, please use reduction='{name}' instead.")
    return name


def reduced(values: Tensor, reduction: str, grad_name: str | None = None) -> Tensor:
    """The values, their mean or their sum; `grad_name` is what the tape's node is called then."""
    if check(reduction) == "none":
        return values
    if not values.dtype.is_floating_point:
        return sum(values) if reduction == "sum" else mean(values)
    attrs = {"dims": tuple(range(values.ndim)), "keepdim": False}
    result: Tensor = apply(op_named(reduction), (values,), attrs, grad_name)
    return result
