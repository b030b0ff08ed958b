"""The transform of `normal_transform.box_muller_f32` as a kernel of our own compiler, for many numbers.

It computes the same float32 and float64 operations one after another, so the numbers are the same to the last bit, in an
eighth of the time: NumPy writes each of a hundred intermediate results to memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .eager_kernels import call, compiled
from .ir import dtypes
from .ir.builder import GraphBuilder
from .ir.dims import Dim
from .ir.graph import Value
from .ir.types import TensorType
from .normal_transform import (
    COS,
    FOUR_OVER_PI,
    LN2_HIGH,
    LN2_LOW,
    LOG,
    PI_OVER_4_NEGATED,
    SIN,
    SQRT_HALF,
    TWO_PI,
)
from .runtime.compiled_graph import CompiledGraph

Array = np.ndarray[Any, Any]


def box_muller(draws: Array, mean: float, std: float) -> Array:
    """float32 numbers of N(mean, std**2) from as many uint32 draws (1-D, a multiple of 16), of which the last 24 bits
    count."""
    scaled = mean != 0.0 or std != 1.0
    operands = [draws.view(np.int32).reshape(-1, 2, 8)]
    if scaled:
        operands += [np.array(value, np.float32) for value in (std, mean)]
    found = call(_kernel(scaled), operands, {"blocks": draws.size // 16})
    out = np.empty((draws.size // 16, 2, 8), np.float32)
    for half, values in enumerate(found):
        out[:, half] = values
    return out.reshape(-1)


class _Scalars:
    """float32 arithmetic in a graph, written as `normal_transform` writes it."""

    def __init__(self, F: GraphBuilder):
        self.F = F

    def number(self, value: float | np.floating[Any]) -> Value:
        return self.F.constant(float(value), dtypes.f32)

    def integer(self, value: int) -> Value:
        return self.F.constant(int(value), dtypes.i32)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        F = self.F
        a, b, c = (F.convert(x, dtype=dtypes.f64) for x in (a, b, c))
        return F.convert(F.add(F.mul(a, b), c), dtype=dtypes.f32)

    def polynomial(self, x: Value, coefficients: list[np.float32]) -> Value:
        y = self.number(coefficients[0])
        for c in coefficients[1:]:
            y = self.fma(y, x, self.number(c))
        return y

    def log(self, x: Value) -> Value:
        F, number, integer = self.F, self.number, self.integer
        bits = F.bitcast(F.maximum(x, number(np.finfo(np.float32).tiny)), dtype=dtypes.i32)
        exponent = F.convert(F.sub(F.floor_divide(bits, integer(1 << 23)), integer(126)), dtype=dtypes.f32)
        fraction = F.bitwise_or(F.bitwise_and(bits, integer(0x007FFFFF)), integer(0x3F000000))
        mantissa = F.bitcast(fraction, dtype=dtypes.f32)
        small = F.lt(mantissa, number(SQRT_HALF))
        x = F.add(F.sub(mantissa, number(1)), F.where(small, mantissa, number(0)))
        exponent = F.sub(exponent, F.convert(small, dtype=dtypes.f32))
        z = F.mul(x, x)
        y = F.mul(self.polynomial(x, LOG), x)
        y = self.fma(y, z, F.mul(exponent, number(LN2_LOW)))
        y = self.fma(z, number(-0.5), y)
        return self.fma(exponent, number(LN2_HIGH), F.add(x, y))

    def sin_cos(self, x: Value) -> tuple[Value, Value]:
        F, number, integer = self.F, self.number, self.integer
        octant = F.convert(F.mul(x, number(FOUR_OVER_PI)), dtype=dtypes.i32)
        octant = F.bitwise_and(F.add(octant, integer(1)), integer(~1))
        y = F.convert(octant, dtype=dtypes.f32)
        for part in PI_OVER_4_NEGATED:
            x = self.fma(y, number(part), x)
        z = F.mul(x, x)
        half = F.mul(z, number(-0.5))
        cosine = F.add(self.fma(F.mul(self.polynomial(z, COS), z), z, half), number(1))
        sine = self.fma(F.mul(self.polynomial(z, SIN), z), x, x)

        def has(value: Value, bit: int) -> Value:
            return F.ne(F.bitwise_and(value, integer(bit)), integer(0))

        swapped = has(octant, 2)
        s, c = F.where(swapped, cosine, sine), F.where(swapped, sine, cosine)
        return (
            F.where(has(octant, 4), F.neg(s), s),
            F.where(has(F.sub(octant, integer(2)), 4), c, F.neg(c)),
        )


@cache
def _kernel(scaled: bool) -> CompiledGraph:
    F = GraphBuilder("box_muller")
    blocks = Dim("blocks", 0)
    draws = F.input("draws", TensorType((blocks, 2, 8), dtypes.i32))
    scalars = _Scalars(F)
    unit = F.convert(F.bitwise_and(draws, scalars.integer(0xFFFFFF)), dtype=dtypes.f32)
    unit = F.mul(unit, scalars.number(2.0**-24))

    def half(number: int) -> Value:
        part = F.slice(unit, starts=(0, number, 0), stops=(blocks, number + 1, 8), steps=(1, 1, 1))
        return F.reshape(part, shape=(blocks, 8))

    radius = F.sqrt(F.mul(scalars.number(-2), scalars.log(F.sub(scalars.number(1), half(0)))))
    sine, cosine = scalars.sin_cos(F.mul(scalars.number(TWO_PI), half(1)))
    results = [F.mul(radius, cosine), F.mul(radius, sine)]
    if scaled:
        std, mean = (F.input(name, TensorType((), dtypes.f32)) for name in ("std", "mean"))
        results = [scalars.fma(x, std, mean) for x in results]
    return compiled(F.finish(results))
