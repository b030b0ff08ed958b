"""Pointwise ops of two operands, and `where`. Operands are of one dtype and broadcast; the front end
promotes.

Meanings are those of https://docs.pytorch.org/docs/stable/torch.html#pointwise-ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..op import Op, Sample, declare
from ..types import TensorType
from .common import (
    ANY,
    INTEGRAL,
    NUMBER,
    REAL,
    Array,
    broadcast,
    check_same_dtype,
    distinct,
    integers,
    made,
    needed,
    pointwise,
    strided,
    torch_name,
    uniform,
    values,
    wide,
)

INF, NAN = math.inf, math.nan


def _binary(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    scalar: Callable[..., Any],
    vjp: Callable[..., Sequence[Any]] | None = None,
    saves: tuple[str, ...] = (),
    kinds: frozenset[str] = ANY,
    result: DType | None = None,
    samples: tuple[Sample, ...] = (),
    infer: Callable[..., TensorType] | None = None,
    grad_name: str = "",
) -> Op:
    return declare(
        Op(
            name,
            doc,
            infer=infer or pointwise(name, kinds, result),
            numpy=wide(numpy) if result is None else numpy,
            arity=(2, 2),
            lowering="pointwise",
            vjp=vjp,
            scalar=scalar,
            saves=saves,
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


BROADCAST = (
    distinct((3, 5), (3, 5)),
    distinct((3, 1), (5,)),
    distinct((2, 3, 4), (3, 1)),
    distinct((), (4,)),
    distinct((), ()),
    uniform((0, 3), (1, 3)),
    strided((3, 4), (3, 4)),
)
EDGES = made(
    lambda rng: [
        np.repeat([0.0, -0.0, 1.0, -2.5, INF, -INF, NAN], 7),
        np.tile([0.0, -0.0, 1.0, -2.5, INF, -INF, NAN], 7),
    ],
    gradient=False,
    label="edges",
)
POSITIVE = (
    uniform((3, 5), (3, 5), between=(0.5, 2.0)),
    uniform((3, 1), (5,), between=(0.5, 2.0)),
    uniform((), (4,), between=(0.5, 2.0)),
    uniform((0, 3), (1, 3)),
)
NONZERO_INTEGERS = made(
    lambda rng: [rng.integers(-20, 20, (4, 5)), rng.choice([-7, -3, -1, 1, 2, 5], (4, 5))],
    gradient=False,
    label="integers",
)

# Arithmetic

_binary(
    "add",
    "a + b; or on bool.",
    np.add,
    lambda s, a, b: s.or_(a, b) if a.dtype is dtypes.bool_ else s.add(a, b),
    lambda F, ctx, dy: [dy, dy],
    samples=(*BROADCAST, integers((3, 4), (4,)), EDGES, values([True, False], [[True], [False]])),
)


_one_dtype = pointwise("sub", ANY)


def _sub_infer(a: TensorType, b: TensorType) -> TensorType:
    if a.dtype is dtypes.bool_:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
            "`logical_xor()` operator instead."
        )
    return _one_dtype(a, b)


_binary(
    "sub",
    "a - b.",
    np.subtract,
    lambda s, a, b: s.sub(a, b),
    lambda F, ctx, dy: needed(ctx, lambda: dy, lambda: F.neg(dy)),
    infer=_sub_infer,
    samples=(*BROADCAST, integers((3, 4), (4,)), EDGES),
)
_binary(
    "mul",
    "a * b; and on bool.",
    np.multiply,
    lambda s, a, b: s.and_(a, b) if a.dtype is dtypes.bool_ else s.mul(a, b),
    lambda F, ctx, dy: needed(
        ctx,
        lambda: F.mul(dy, F.conj(ctx.inputs[1])),
        lambda: F.mul(dy, F.conj(ctx.inputs[0])),
    ),
    ("input:0", "input:1"),
    samples=(*BROADCAST, integers((3, 4), (4,)), EDGES, values([True, False], [[True], [False]])),
)


def _check_divisor(b: Array) -> None:
    if b.dtype.kind in "iu" and not np.all(b):
        raise RuntimeError("ZeroDivisionError")


def _div_numpy(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    _check_divisor(b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


def _div_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    da = F.div(dy, F.conj(ctx.inputs[1]))
    # Divided again, as PyTorch does it: a quotient may be written to in place. One graph has one division.
    return needed(ctx, lambda: da, lambda: F.neg(F.mul(da, F.conj(F.div(*ctx.inputs)))))


_binary(
    "div",
    "a / b. Integers divide toward zero (torch.div with rounding_mode='trunc'); an integer divided by 0 "
    "raises RuntimeError here and gives 0 in compiled code.",
    _div_numpy,
    lambda s, a, b: s.div(a, b),
    _div_vjp,
    ("input:0", "input:1"),
    NUMBER,
    samples=(*POSITIVE, *BROADCAST, EDGES, NONZERO_INTEGERS),
)


def _floor_divide_numpy(a: Array, b: Array) -> Array:
    _check_divisor(b)
    return np.floor_divide(a, b)


_binary(
    "floor_divide",
    "floor(a / b), computed as a division with remainder (so 1 // 0.1 is 9). Integer division by 0 as in "
    "`div`.",
    _floor_divide_numpy,
    lambda s, a, b: s.floordiv(a, b),
    lambda F, ctx, dy: needed(ctx, lambda: F.zeros_like(dy), lambda: F.zeros_like(dy)),
    kinds=NUMBER - {"complex"},
    samples=(
        uniform((3, 5), (5,), between=(0.5, 2.0)),
        EDGES,
        NONZERO_INTEGERS,
        values([1.0, -1.0], [0.1, 0.1]),
    ),
)


def _remainder_numpy(a: Array, b: Array) -> Array:
    _check_divisor(b)
    return np.remainder(a, b)


_binary(
    "remainder",
    "a - b * floor(a / b): Python's %, with the sign of b. Integer division by 0 as in `div`.",
    _remainder_numpy,
    lambda s, a, b: s.mod(a, b),
    lambda F, ctx, dy: needed(
        ctx, lambda: dy, lambda: F.neg(F.mul(dy, F.floor_divide(ctx.inputs[0], ctx.inputs[1])))
    ),
    ("input:0", "input:1"),
    NUMBER - {"complex"},
    samples=(
        uniform((3, 5), (5,), between=(0.5, 2.0)),
        uniform((0, 3), (3,)),
        NONZERO_INTEGERS,
        values([5.0, -5.0, 5.0, -5.0, 1.0, NAN], [3.0, 3.0, -3.0, INF, 0.0, 1.0]),
    ),
    grad_name="RemainderBackward1",
)


def _pow_numpy(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        if b.ndim == 0 and a.dtype in (np.float32, np.float64) and b in (3, 4):  # as `simplify` writes them
            squared = a * a
            return np.asarray(squared * (a if b == 3 else squared))
        return np.power(a, b)
    # Integers to negative powers: 1 and -1 have one, the others round to 0, as ATen's powi.
    odd = (b % 2).astype(bool)
    inverse = np.where(a == 1, 1, np.where(a == -1, np.where(odd, -1, 1), 0)).astype(a.dtype)
    return np.where(b < 0, inverse, np.power(a, np.maximum(b, 0)))


def _pow_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    a, b = ctx.inputs

    def base() -> Any:
        slope = F.mul(b, F.pow(a, F.sub(b, 1.0)))
        return F.mul(dy, F.conj(F.where(F.eq(b, 0.0), F.zeros_like(slope), slope)))

    def exponent() -> Any:
        # 0 ** b has the slope 0 in b, not 0 * log(0). The logarithm's operand is kept off 0 so that the
        # branch not taken has finite derivatives.
        real = F.convert(b, dtype=F.type_of(b).dtype.to_real()) if F.type_of(b).dtype.is_complex else b
        flat = F.logical_and(F.eq(a, 0.0), F.ge(real, 0.0))
        slope = F.mul(ctx.outputs[0], F.log(F.where(flat, F.ones_like(a), a)))
        return F.mul(dy, F.conj(F.where(flat, F.zeros_like(slope), slope)))

    return needed(ctx, base, exponent)


_binary(
    "pow",
    "a to the b. Integers to negative powers give 0, except for 1 and -1.",
    _pow_numpy,
    lambda s, a, b: s.pow(a, b),
    _pow_vjp,
    ("input:0", "input:1", "output:0"),
    NUMBER,
    samples=(
        *POSITIVE,
        values([-2.0, -1.5, 0.0, 2.0, -2.0, INF, NAN, 0.0], [3.0, 0.5, 0.0, -1.0, 2.0, 0.0, 0.0, -1.0]),
        values([2, -1, 1, 3, -1, 0], [-1, -3, -2, 4, -2, 0]),
    ),
    grad_name="PowBackward1",
)


def _extreme_vjp(beaten: str) -> Callable[..., Sequence[Any]]:
    """The gradient of maximum (`beaten` "lt") or minimum ("gt"): to the winner, halved among equals."""

    def vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
        a, b = ctx.inputs
        shared = F.where(F.eq(a, b), F.mul(dy, 0.5), dy)
        zero = F.zeros_like(dy)
        lost = getattr(F, beaten)
        return needed(
            ctx, lambda: F.where(lost(a, b), zero, shared), lambda: F.where(lost(b, a), zero, shared)
        )

    return vjp


TIES = values([1.0, 2.0, NAN, 3.0, -0.0], [1.0, NAN, 2.0, 4.0, 0.0])
_binary(
    "maximum",
    "The larger; NaN if either is NaN. Equal operands share the gradient.",
    np.maximum,
    lambda s, a, b: s.max(a, b),
    _extreme_vjp("lt"),
    ("input:0", "input:1"),
    REAL,
    samples=(*BROADCAST, TIES, integers((3, 4), (4,))),
)
_binary(
    "minimum",
    "The smaller; NaN if either is NaN. Equal operands share the gradient.",
    np.minimum,
    lambda s, a, b: s.min(a, b),
    _extreme_vjp("gt"),
    ("input:0", "input:1"),
    REAL,
    samples=(*BROADCAST, TIES, integers((3, 4), (4,))),
)

# Comparison

COMPARED = (
    distinct((3, 5), (3, 5), gradient=False),
    distinct((3, 1), (5,), gradient=False),
    uniform((0, 3), (1, 3), gradient=False),
    EDGES,
    integers((4, 5), (5,), low=-2, high=3),
)
_binary(
    "lt", "a < b.", np.less, lambda s, a, b: s.lt(a, b), kinds=REAL, result=dtypes.bool_, samples=COMPARED
)
_binary(
    "le",
    "a <= b.",
    np.less_equal,
    lambda s, a, b: s.le(a, b),
    kinds=REAL,
    result=dtypes.bool_,
    samples=COMPARED,
)
_binary(
    "gt", "a > b.", np.greater, lambda s, a, b: s.gt(a, b), kinds=REAL, result=dtypes.bool_, samples=COMPARED
)
_binary(
    "ge",
    "a >= b.",
    np.greater_equal,
    lambda s, a, b: s.ge(a, b),
    kinds=REAL,
    result=dtypes.bool_,
    samples=COMPARED,
)
_binary("eq", "a == b.", np.equal, lambda s, a, b: s.eq(a, b), result=dtypes.bool_, samples=COMPARED)
_binary("ne", "a != b.", np.not_equal, lambda s, a, b: s.ne(a, b), result=dtypes.bool_, samples=COMPARED)

# Logic and bits

LOGIC = (
    values([[True], [False]], [True, False]),
    integers((3, 4), (4,), low=-1, high=2),
    EDGES,
)
BITS = (values([[True], [False]], [True, False]), integers((3, 4), (4,)))
_binary(
    "logical_and",
    "Whether both are nonzero.",
    np.logical_and,
    lambda s, a, b: s.and_(s.ne(a, 0), s.ne(b, 0)),
    result=dtypes.bool_,
    samples=LOGIC,
)
_binary(
    "logical_or",
    "Whether one or both are nonzero.",
    np.logical_or,
    lambda s, a, b: s.or_(s.ne(a, 0), s.ne(b, 0)),
    result=dtypes.bool_,
    samples=LOGIC,
)
_binary(
    "logical_xor",
    "Whether exactly one is nonzero.",
    np.logical_xor,
    lambda s, a, b: s.xor(s.ne(a, 0), s.ne(b, 0)),
    result=dtypes.bool_,
    samples=LOGIC,
)
_binary("bitwise_and", "a & b.", np.bitwise_and, lambda s, a, b: s.and_(a, b), kinds=INTEGRAL, samples=BITS)
_binary("bitwise_or", "a | b.", np.bitwise_or, lambda s, a, b: s.or_(a, b), kinds=INTEGRAL, samples=BITS)
_binary("bitwise_xor", "a ^ b.", np.bitwise_xor, lambda s, a, b: s.xor(a, b), kinds=INTEGRAL, samples=BITS)

# Choice


def _where_infer(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    if condition.dtype is not dtypes.bool_:
        raise RuntimeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{condition.dtype.scalar_type}"
        )
    check_same_dtype("where", a, b)
    return TensorType(broadcast(condition.shape, a.shape, b.shape), a.dtype)


def _where_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    condition, zero = ctx.inputs[0], F.constant(0.0, F.type_of(dy).dtype)
    return needed(
        ctx,
        lambda: None,
        lambda: F.where(condition, dy, zero),
        lambda: F.where(condition, zero, dy),
    )


declare(
    Op(
        "where",
        "a where the condition holds, else b.",
        infer=_where_infer,
        numpy=np.where,
        arity=(3, 3),
        lowering="pointwise",
        vjp=_where_vjp,
        scalar=lambda s, condition, a, b: s.select(condition, a, b),
        saves=("input:0",),
        grad_name="WhereBackward0",
        samples=(
            made(lambda rng: [rng.random((3, 5)) < 0.5, rng.normal(size=(3, 5)), rng.normal(size=(3, 5))]),
            made(lambda rng: [rng.random((3, 1)) < 0.5, rng.normal(size=(5,)), rng.normal(size=())]),
            made(lambda rng: [np.array(True), rng.normal(size=(2, 1)), rng.normal(size=(3,))]),
            made(lambda rng: [np.zeros((0, 3), bool), rng.normal(size=(3,)), rng.normal(size=(0, 1))]),
            values([True, False], [NAN, NAN], [1.0, 1.0]),
            made(
                lambda rng: [rng.random(6) < 0.5, rng.integers(0, 9, 6), rng.integers(0, 9, 6)],
                gradient=False,
            ),
        ),
    )
)
