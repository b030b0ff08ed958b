"""The printed form of tensors: PyTorch's, character for character.

One number format serves a whole tensor: whole floats print as `1.`, others with four decimals, and all of
them in scientific notation where the sizes spread over more than three orders of magnitude or leave [1e-4,
1e8].
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .ir import dtypes
from .ir.dtypes import DType
from .promotion import get_default_dtype
from .runtime.gpu.arrays import DeviceArray
from .runtime.gpu.meta import META
from .tensor import Tensor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PrintOptions:
    """precision: decimals; threshold: elements above which only `edgeitems` per side show; linewidth:
    characters; sci_mode: True or False forces the notation, None lets the numbers decide."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}
_options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print; what is not given stays, except `sci_mode`, which returns to None.

    `profile` is "default", "short" or "full"; ValueError for another name.
    """
    global _options
    base = _options
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"unknown print profile {profile!r}; there are {', '.join(_PROFILES)}")
        base = _PROFILES[profile]
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    _options = replace(base, **changes, sci_mode=sci_mode)


def get_printoptions() -> dict[str, Any]:
    return asdict(_options)


@contextlib.contextmanager
def printoptions(**changes: Any) -> Iterator[None]:
    """`set_printoptions` for the length of a `with` block."""
    saved = get_printoptions()
    set_printoptions(**changes)
    try:
        yield
    finally:
        set_printoptions(**saved)


class _NumberFormat:
    """How the numbers of one tensor print, chosen from all that will be shown."""

    def __init__(self, shown: Array, is_float: bool):
        self.is_float = is_float
        self.whole = True
        self.scientific = False
        self.width = 1
        values = shown.reshape(-1)
        if not is_float:
            self.width = max((len(str(v)) for v in values.tolist()), default=1)
            return
        values = values[np.isfinite(values) & (values != 0)]
        if values.size == 0:
            return
        sizes = np.abs(values).astype(np.float64)
        smallest, largest = sizes.min(), sizes.max()
        self.whole = bool((values == np.ceil(values)).all())
        if _options.sci_mode is None:
            self.scientific = bool(largest / smallest > 1000.0 or largest > 1.0e8 or smallest < 1.0e-4)
        else:
            self.scientific = _options.sci_mode
        self.width = max(1, *(len(self._bare(v)) for v in values.tolist()))

    def _bare(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{_options.precision}e}"
        if self.whole:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{_options.precision}f}"

    def __call__(self, value: Any) -> str:
        return (self._bare(value) if self.is_float else str(value)).rjust(self.width)


class _ComplexFormat:
    def __init__(self, shown: Array):
        self.real = _NumberFormat(shown.real, True)
        self.imag = _NumberFormat(shown.imag, True)
        self.width = self.real.width + self.imag.width + 1

    def __call__(self, value: complex) -> str:
        imag = (self.imag(value.imag) + "j").lstrip()
        return self.real(value.real) + ("" if imag[0] in "+-" else "+") + imag


def _corners(array: Array) -> Array:
    """The elements that a summary shows: `edgeitems` at both ends of every dim."""
    edge = _options.edgeitems
    for dim, size in enumerate(array.shape):
        if edge == 0 and array.ndim > 1:
            return array[:0]
        if size > 2 * edge:
            keep = np.r_[0:edge, size - edge : size]
            array = array.take(keep, dim)
    return array


def _body(array: Array, indent: int, summarize: bool, form: Any) -> str:
    edge = _options.edgeitems
    if array.ndim == 0:
        return str(form(array.item()))
    elide = summarize and array.shape[0] > 2 * edge
    if array.ndim == 1:
        if summarize and not edge:
            parts = ["..."]
        elif elide:
            head, tail = array[:edge].tolist(), array[-edge:].tolist()
            parts = [form(v) for v in head] + [" ..."] + [form(v) for v in tail]
        else:
            parts = [form(v) for v in array.tolist()]
        per_line = max(1, (_options.linewidth - indent) // (form.width + 2))
        lines = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    if elide:
        rows = [*array[:edge], None, *array[array.shape[0] - edge :]]
    else:
        rows = list(array)
    slices = ["..." if row is None else _body(row, indent + 1, summarize, form) for row in rows]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(slices) + "]"


def array_str(array: Array, is_float: bool, indent: int) -> str:
    """The bracketed numbers; continuation lines are indented by `indent`."""
    if array.size == 0:
        return "[]"
    if is_float and array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    summarize = array.size > _options.threshold
    shown = _corners(array) if summarize else array
    form = _ComplexFormat(shown) if np.iscomplexobj(array) else _NumberFormat(shown, is_float)
    return _body(array, indent, summarize, form)


def _with_suffixes(text: str, suffixes: Sequence[str], indent: int) -> str:
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"


def render(
    array: Array | None,
    shape: Sequence[Any],
    dtype: DType,
    default_dtype: DType,
    prefix: str = "tensor(",
    grad_fn: str | None = None,
    requires_grad: bool = False,
    device: str = "",
) -> str:
    """A tensor's text from its parts. Without an array (inside a traced function) the numbers are `...`."""
    indent = len(prefix)
    size = "size=(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
    suffixes: list[str] = [f"device='{device}'"] if device else []
    if array is None or array.size == 0:
        if array is None or len(shape) != 1:
            suffixes.append(size)
        if dtype is not default_dtype:
            suffixes.append(f"dtype={dtype!r}")
    else:
        default_complex = dtypes.c128 if default_dtype is dtypes.f64 else dtypes.c64
        if not _options.edgeitems:
            suffixes.append(size)
        if dtype not in (default_dtype, default_complex, dtypes.i64, dtypes.bool_):
            suffixes.append(f"dtype={dtype!r}")
    body = "..." if array is None else array_str(array, dtype.is_floating_point, indent)
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes, indent)


def tensor_str(tensor: Tensor) -> str:
    """`repr(tensor)`."""
    kind = type(tensor)
    name = "tensor" if kind is Tensor else getattr(kind, "_printed_name", kind.__name__)
    node = tensor.grad_fn
    array: Any = tensor._array
    device = ""
    if type(array) is DeviceArray:
        device, array = str(array.gpu), None if array.gpu is META else array.to_host()
    return render(
        array,
        tuple(tensor.shape),
        tensor.dtype,
        get_default_dtype(),
        prefix=f"{name}(",
        grad_fn=None if node is None else node.name().rsplit("::", 1)[-1],
        requires_grad=tensor.requires_grad,
        device=device,
    )
