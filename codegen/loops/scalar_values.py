"""The scalar protocol's operations on NumPy scalars: what each means, slowly and plainly.

float16 and bfloat16 compute in float32 and round after every operation; functions such as exp are computed in float64
and rounded, so that they are the values compiled code is measured against.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from ...ir import dtypes
from ...ir.array_scalars import ARRAY_SCALARS
from ...ir.dtypes import DType
from ...ir.special_functions import FORMULAS
from ..packed import PACKINGS, WIDENINGS

Scalar = Any  # a NumPy scalar
Function = Callable[..., Scalar]

_HALF = (dtypes.f16, dtypes.bf16)
_COMPARE: dict[str, Function] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}
_PLAIN: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "mod": np.remainder,
}
# On two scalars of one dtype Python's operators are NumPy's functions, in a tenth of the time.
_FLOAT: dict[str, Function] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "div": operator.truediv,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.rint,
    "floordiv": np.floor_divide,
}


def _formula(formula: Callable[..., Any]) -> Function:
    def function(x: Scalar) -> Scalar:
        with np.errstate(all="ignore"):
            return np.float64(formula(ARRAY_SCALARS, np.float64(x)))

    return function


_ELEMENTARY: dict[str, Function] = {
    "exp": np.exp,
    **dict.fromkeys(
        ("exp_below", "exp_below_short"),
        lambda x: np.exp(x) if x > -87.7 or np.isnan(x) else np.float64(0),
    ),
    "exp_short": np.exp,
    "exp2_fast": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid_short": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: np.float64(math.erf(x)),
    "pow": np.power,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    **{name: _formula(formula) for name, formula in FORMULAS.items()},
}


def rounded_to_tf32(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The nearest float32 numbers of 10 bits behind the point, ties away from zero (PTX's `cvt.rna.tf32.f32`)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    near = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), near, bits).view(np.float32)


def scalar_function(op: str, operand: DType, result: DType) -> Function:
    """The operation on NumPy scalars of dtype `operand`; NotImplementedError where it has no meaning."""
    if op in PACKED_VALUES:
        return PACKED_VALUES[op]
    if op == "cast":
        return lambda x: cast(x, operand, result)
    if op == "bitcast":
        return lambda x: np.asarray(x).view(result.numpy)[()]
    if op == "tf32":
        return lambda x: rounded_to_tf32(x)[0]
    if op in _COMPARE:
        compare = _COMPARE[op]
        return lambda a, b: np.bool_(compare(a, b))
    if operand in _HALF:
        wide = scalar_function(op, dtypes.f32, dtypes.f32)
        return lambda *args: result.numpy.type(wide(*map(np.float32, args)))
    if operand.kind == "float":
        return _float_function(op, operand)
    if op in _PLAIN and op != "mod":
        if operand is dtypes.bool_:
            return _PLAIN[{"add": "or", "mul": "and", "max": "or", "min": "and"}.get(op, op)]
        return _PLAIN[op]
    return _integer_function(op, operand)


def _float_function(op: str, operand: DType) -> Function:
    to = operand.numpy.type
    if op == "fma":
        return lambda a, b, c: to(_fma(a, b, c))
    if op == "ldexp":
        return lambda x, n: to(np.nan if np.isnan(n) else np.ldexp(np.float64(x), int(n)))
    if op in _ELEMENTARY:
        function = _ELEMENTARY[op]
        return lambda *args: to(function(*map(np.float64, args)))
    found = _FLOAT.get(op) or _PLAIN.get(op)
    if found is None:
        raise NotImplementedError(f"{op} on {operand.name}")
    return lambda *args: to(found(*args))


def _fma(a: Scalar, b: Scalar, c: Scalar) -> Scalar:
    x, y, z = float(a), float(b), float(c)
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return c if math.isfinite(x) and math.isfinite(y) else a * b + c
    if not isinstance(a, np.float64):
        near = _sum_to_odd(x * y, z)
        return np.float32(near) if near else a * b + c
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    if exact == 0:
        return a * b + c
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, exact)


def _sum_to_odd(a: float, b: float) -> float:
    """a + b rounded to odd, so that float32 can be rounded to from it as if from the sum itself (Boldo and Melquiond,
    Emulation of FMA and correctly rounded sums, 2008). What the rounded sum lacks is Knuth's two-sum."""
    near = a + b
    added = near - a
    lacks = (a - (near - added)) + (b - added)
    if lacks and int(math.ldexp(math.frexp(near)[0], 53)) % 2 == 0:
        return math.nextafter(near, math.copysign(math.inf, lacks))
    return near


def _pack(*numbers: Scalar) -> Scalar:
    return np.array(numbers).view(np.uint32)[0]


def _pair(*numbers: Scalar) -> Scalar:
    return _pack(*(x.astype(np.int16) for x in numbers))


def _flushed(x: Scalar) -> Scalar:
    """The number, a zero where it is denormal."""
    return np.copysign(np.float32(0), x) if abs(x) < _SMALLEST_NORMAL else x


_SMALLEST_NORMAL = np.float32(2.0**-126)


def _dot_bf16(total: Scalar, x: Scalar, y: Scalar) -> Scalar:
    pairs = [
        [
            _flushed(np.uint32(bits).view(np.float32))
            for bits in (int(word) & 0xFFFF0000, int(word) << 16 & 0xFFFFFFFF)
        ]
        for word in (x, y)
    ]
    total = _flushed(total)
    for a, b in zip(*pairs):
        total = _flushed(np.float32(_fma(a, b, total)))
    return total


def _round_bf16(*numbers: Scalar) -> Scalar:
    return _pack(*(_flushed(x).astype(dtypes.bf16.numpy) for x in numbers))


def _dot_integers(left: type[np.integer[Any]], right: type[np.integer[Any]]) -> Function:
    def dot(total: Scalar, x: Scalar, y: Scalar) -> Scalar:
        a, b = (np.array([w], np.uint32).view(t).astype(np.int64) for w, t in ((x, left), (y, right)))
        return np.array(int(total) + int(a @ b)).astype(np.int32)[()]

    return dot


PACKED_VALUES: dict[str, Function] = {
    **dict.fromkeys(PACKINGS, _pack),
    **dict.fromkeys(WIDENINGS, _pair),
    "round_bf16": _round_bf16,
    "dot_bf16": _dot_bf16,
    "dot_u8i8": _dot_integers(np.uint8, np.int8),
    "dot_i16": _dot_integers(np.int16, np.int16),
}


def _integer_function(op: str, operand: DType) -> Function:
    to = operand.numpy.type
    width = operand.itemsize * 8

    def wrap(value: int) -> Scalar:
        return np.array(value & ((1 << width) - 1), np.uint64).astype(operand.numpy)[()]

    def shift(a: Scalar, amount: Scalar) -> Scalar:
        count = int(amount) if 0 <= int(amount) < width else width
        return wrap(int(a) << count if op == "shl" else int(a) >> count)

    def power(a: Scalar, b: Scalar) -> Scalar:
        if int(b) >= 0:
            return wrap(pow(int(a), int(b), 1 << width))
        return to({1: 1, -1: -1 if int(b) % 2 else 1}.get(int(a), 0))

    table: dict[str, Function] = {
        "fma": lambda a, b, c: wrap(int(a) * int(b) + int(c)),
        "div": lambda a, b: to(0) if b == 0 else wrap(_truncated(int(a), int(b))),
        "floordiv": lambda a, b: to(0) if b == 0 else wrap(int(a) // int(b)),
        "mod": lambda a, b: to(0) if b == 0 else wrap(int(a) % int(b)),
        "shl": shift,
        "shr": shift,
        "umulhi": lambda a, b: wrap((_unsigned(a, width) * _unsigned(b, width)) >> width),
        "pow": power,
        **dict.fromkeys(("floor", "ceil", "trunc", "round"), lambda a: a),
    }
    if op not in table or operand is dtypes.bool_:
        raise NotImplementedError(f"{op} on {operand.name}")
    return table[op]


def _truncated(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def _unsigned(a: Scalar, width: int) -> int:
    return int(a) & ((1 << width) - 1)


def cast(x: Scalar, source: DType, dtype: DType) -> Scalar:
    """Value conversion. A float outside the integer type's range gives what x86's instruction gives: the lowest number
    of the signed type it is converted through (i32 for narrow types, i64 for u32)."""
    if dtype is dtypes.bool_:
        return np.bool_(x != 0)
    if source.kind == "float" and dtype.kind in ("int", "uint"):
        via = 32 if dtype.itemsize < 4 or dtype is dtypes.i32 else 64
        low, high = (0, 1 << 64) if dtype is dtypes.u64 else (-(1 << (via - 1)), 1 << (via - 1))
        number = float(x)
        whole = math.trunc(number) if math.isfinite(number) else low - 1
        if not low <= whole < high:
            whole = -(1 << (via - 1))
        return np.array(whole & ((1 << 64) - 1), np.uint64).astype(dtype.numpy)[()]
    if source.kind in ("int", "uint") and dtype in _HALF and source.itemsize >= 4:
        return np.float64(x).astype(dtype.numpy)
    return np.asarray(x).astype(dtype.numpy)[()]
