"""Elements that tensors here do not have: 8-bit and 4-bit floats, integers of 4 and 2 bits.

Such a value is a NumPy array of an `ml_dtypes` type on its way through the graph. It can be converted, quantized to and
dequantized; outputs of the graph are such arrays, inputs may be. Initializers that are only dequantized, the weights of
quantized models, become buffers of the next wider type and compile like others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from .reading import GraphPlan
from .table import ELEMENT_TYPES, ONNXError, Value, as_array

Array = np.ndarray[Any, Any]

_NAMES = (
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn",
    "uint4", "int4", "uint2", "int2",
)  # fmt: skip
# By the name that NumPy shows for the dtype.
NARROW: dict[str, np.dtype[Any]] = {
    np.dtype(d).name: np.dtype(d) for d in (getattr(ml_dtypes, n) for n in _NAMES)
}
_INTEGERS = {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}


def narrow_type(element_type: int) -> np.dtype[Any] | None:
    """The dtype for a number of TensorProto.DataType, if tensors here do not have it."""
    name = ELEMENT_TYPES.get(element_type, "")
    return next(
        (d for n, d in NARROW.items() if n.replace("_", "") in (name, name + "fnu", name + "fn")), None
    )


def is_narrow(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.name in NARROW


def widened(value: Value) -> Value:
    """The value, in a type that tensors have: integers of 8 bits, float32."""
    if not is_narrow(value):
        return value
    name = value.dtype.name
    return value.astype(np.uint8 if name[0] == "u" else np.int8 if name[0] == "i" else np.float32)


def narrowed(value: Value, dtype: np.dtype[Any], saturate: bool = True, round_mode: str = "up") -> Array:
    """The elements in a narrow type; the value must be known. `saturate` takes what is too large for the largest
    number, `round_mode` is that of powers of two."""
    array = as_array(widened(value))
    if dtype.name in _INTEGERS:
        # Whole numbers keep their lowest bits, as in conversions between other integers.
        return array.astype(np.int32 if array.dtype.kind in "fV" else array.dtype).astype(dtype)
    x = array.astype(np.float32)
    if dtype.name == "float8_e8m0fnu":
        return _powers(x, saturate, round_mode).astype(dtype)
    if saturate and dtype.name.startswith("float8"):
        largest = float(ml_dtypes.finfo(dtype).max)
        x = np.clip(x, -largest, largest)
    return x.astype(dtype)


def _powers(x: Array, saturate: bool, round_mode: str) -> Array:
    """Rounded to powers of two from 2^-127 to 2^127: up, down, or to the nearest."""
    fraction, exponent = np.frexp(x)  # fraction in [0.5, 1)
    if round_mode == "up":
        exponent = exponent - (fraction == 0.5)
    elif round_mode == "down":
        exponent = exponent - 1
    elif round_mode == "nearest":
        exponent = exponent - (fraction < 0.75)
    else:
        raise ONNXError(f"round_mode {round_mode!r} is not known")
    exponent = np.where(x > 0, exponent, -127 if saturate else -200)
    outside = (exponent < -127) | (exponent > 127)
    if saturate:
        exponent = np.clip(exponent, -127, 127)
        outside = np.isnan(x)
    found: Array = np.where(outside | np.isnan(x), np.nan, np.ldexp(np.float64(1), exponent))
    return found


def quantized(x: Array, zero: Array | None, dtype: np.dtype[Any], saturate: bool) -> Array:
    """x, divided by its scale already, as elements of a narrow type."""
    if dtype.name not in _INTEGERS:
        return narrowed(x, dtype, saturate)
    found = np.rint(x) if zero is None else np.rint(x) + zero
    return np.clip(found, *_INTEGERS[dtype.name]).astype(np.int8).astype(dtype)


def only_dequantized(plan: GraphPlan) -> set[str]:
    """Names that nothing reads but `DequantizeLinear`."""
    dequantized: set[str] = set()
    others = set(plan.outputs)
    for node in _nodes(plan):
        for position, name in enumerate(node.inputs):
            (dequantized if node.op_type == "DequantizeLinear" and position != 1 else others).add(name)
    return dequantized - others


def _nodes(plan: GraphPlan) -> Iterator[Any]:
    for node in plan.nodes:
        yield node
        for inner in [node.body, *node.attrs.values()]:
            if isinstance(inner, GraphPlan):
                yield from _nodes(inner)
