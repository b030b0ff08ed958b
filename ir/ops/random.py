"""Random numbers that depend on nothing but a seed, a call number and an element's index: the same eager and
compiled, for any number of threads, in any order.

Philox4x32-10: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
https://doi.org/10.1145/2063384.2063405.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import FLOAT, Array, Shape, check_dtype, check_shape, made, shape_of, wide

PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
# How many of a word's 32 bits a result keeps, so that it is exact and below 1.
MANTISSA_BITS = {dtypes.f16: 11, dtypes.bf16: 8, dtypes.f32: 24, dtypes.f64: 32}


def philox(counter: tuple[Array | int, ...], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Four words of 32 random bits (as uint64) for a counter of four words and a key of two."""
    low32, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(PHILOX_ROUNDS):
        product0, product1 = c0 * np.uint64(PHILOX_MULTIPLIERS[0]), c2 * np.uint64(PHILOX_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> shift) ^ c1 ^ np.uint64(k0),
            product1 & low32,
            (product0 >> shift) ^ c3 ^ np.uint64(k1),
            product0 & low32,
        )
        k0, k1 = (k0 + PHILOX_WEYL[0]) & 0xFFFFFFFF, (k1 + PHILOX_WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _halves(value: int) -> tuple[int, int]:
    """The low and the high 32 bits of a 64-bit two's complement number."""
    return value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF


def _check_state(name: str, state: TensorType) -> None:
    if state != TensorType((2,), dtypes.i64):
        raise RuntimeError(f"{name}: the state must be i64[2] (seed, call number), got {state}")


def _uniform_infer(state: TensorType, shape: Shape, dtype: DType, stream: int) -> TensorType:
    _check_state("random_uniform", state)
    if dtype not in MANTISSA_BITS:
        raise RuntimeError(f"random_uniform: expected a floating point dtype, got {dtype!r}")
    check_shape(shape)
    return TensorType(shape, dtype)


def uniform_numbers(state: Array, shape: tuple[int, ...], dtype: DType, stream: int) -> Array:
    seed, call = int(state[0]), int(state[1]) + stream
    count = int(np.prod(shape, dtype=np.int64))
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counter = (blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32), *_halves(call))
    words = np.stack(philox(counter, _halves(seed)), axis=-1).reshape(-1)[:count]
    bits = MANTISSA_BITS[dtype]
    fraction = (words >> np.uint64(32 - bits)).astype(np.float64) * 2.0**-bits
    return fraction.astype(dtype.numpy).reshape(shape)


def _state(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


declare(
    Op(
        "random_uniform",
        "random_uniform(state): independent numbers in [0, 1). state = (seed, call number), i64. Element n "
        "takes word n mod 4 of Philox4x32-10 with the key (seed's low, high 32 bits) and the counter (n // "
        "4's low, high 32 bits, low, high 32 bits of call number + stream); its leading 24 bits (f32; f64: "
        "32, f16: 11, bf16: 8) are the fraction. A program that draws n times gives the draws the streams 0 "
        "to n - 1 and advances the call number by n, so it draws what the same calls one by one would.",
        infer=_uniform_infer,
        numpy=uniform_numbers,
        attrs={"shape": Attr("dims"), "dtype": Attr("dtype", dtypes.f32), "stream": Attr("int", 0)},
        lowering="random",
        samples=(
            made(lambda rng: [_state(0, 0)], gradient=False, shape=(3, 5), dtype=dtypes.f32),
            made(lambda rng: [_state(-7, 1 << 40)], gradient=False, shape=(9,), dtype=dtypes.f32, stream=3),
            made(lambda rng: [_state(1 << 62, 5)], gradient=False, shape=(2, 3), dtype=dtypes.f64),
            made(lambda rng: [_state(1, 2)], gradient=False, shape=(), dtype=dtypes.f32),
            made(lambda rng: [_state(1, 2)], gradient=False, shape=(0, 3), dtype=dtypes.f32),
            made(lambda rng: [_state(1, 2)], gradient=False, shape=(7,), dtype=dtypes.bf16),
        ),
    )
)


def _dropout_infer(x: TensorType, state: TensorType, p: float, stream: int) -> TensorType:
    _check_state("dropout", state)
    check_dtype("dropout", x, FLOAT)
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    return x


def _random_dtype(dtype: DType) -> DType:
    """Narrow floats are compared in f32, so that p is met as closely there."""
    return dtypes.f64 if dtype is dtypes.f64 else dtypes.f32


def dropout_scale(p: float) -> float:
    return 1.0 / (1.0 - p) if p < 1 else 0.0


def _dropout_numpy(x: Array, state: Array, p: float, stream: int) -> Array:
    dtype = _random_dtype(dtypes.from_numpy(x.dtype))
    keep = uniform_numbers(state, x.shape, dtype, stream) >= dtype.numpy.type(p)
    return x * np.where(keep, x.dtype.type(dropout_scale(p)), x.dtype.type(0))


def _dropout_decompose(F: Any, x: Any, state: Any, p: float, stream: int) -> Any:
    type_ = F.type_of(x)
    draw = F.random_uniform(state, shape=shape_of(F, x), dtype=_random_dtype(type_.dtype), stream=stream)
    factor = F.where(F.ge(draw, p), F.constant(dropout_scale(p), type_.dtype), F.constant(0.0, type_.dtype))
    return F.mul(x, factor)


declare(
    Op(
        "dropout",
        "dropout(x, state): each element with probability p times 0, else times 1 / (1 - p), as "
        "`random_uniform` of the state draws it. https://jmlr.org/papers/v15/srivastava14a.html",
        infer=_dropout_infer,
        numpy=wide(_dropout_numpy),
        attrs={"p": Attr("float", 0.5), "stream": Attr("int", 0)},
        arity=(2, 2),
        level="composite",
        # Linear in x: the gradient is the same dropout of dy.
        vjp=lambda F, ctx, dy: [F.dropout(dy, ctx.inputs[1], **ctx.attrs), None],
        decompose=_dropout_decompose,
        saves=("input:1",),
        grad_name="NativeDropoutBackward0",
        samples=(
            made(lambda rng: [rng.normal(size=(3, 5)), _state(3, 4)], p=0.5),
            made(lambda rng: [rng.normal(size=(17,)), _state(3, 4)], p=0.25, stream=2),
            made(lambda rng: [rng.normal(size=(4,)), _state(3, 4)], p=1.0),
            made(lambda rng: [rng.normal(size=(4,)), _state(3, 4)], p=0.0),
            made(lambda rng: [rng.normal(size=(0, 4)), _state(3, 4)]),
        ),
    )
)
