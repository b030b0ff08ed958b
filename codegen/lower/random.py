"""Random numbers: Philox4x32-10 in 32-bit scalar operations, four results for each block
(`ir/ops/random.py`)."""

from __future__ import annotations

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ir.ops.random import (
    MANTISSA_BITS,
    PHILOX_MULTIPLIERS,
    PHILOX_ROUNDS,
    PHILOX_WEYL,
    dropout_scale,
)
from ..loops.nodes import Expr, Index, Load
from ..scalar import SCALAR
from .context import Args, LowerContext, Names
from .elementwise import Nest, launch_nests
from .indexing import constant, number
from .template import Axis, Element

Words = tuple[Expr, Expr, Expr, Expr]


def lower_random_uniform(ctx: LowerContext, name: str, body: Graph, args: Args, op: Node) -> None:
    """Whole blocks of four elements, then the elements of the last, partial one."""
    (state,), (result,) = op.inputs, op.outputs
    if state not in body.inputs:
        raise ValueError(f"{op}: the state must come from memory")
    place = ctx.flat(args[state])
    seed = Load(place, (0,))
    call = SCALAR.add(Load(place, (1,)), op.attrs["stream"])
    out = ctx.flat(args[result])
    count = result.type.numel
    whole, left = dims.floordiv(count, 4), dims.mod(count, 4)
    names = Names()
    nests = []
    blocks = Axis(names("b"), whole)
    if whole != 0:
        words = philox(Index(blocks.index), call, seed)
        dtype = result.type.dtype
        elements = [Element(out, blocks.index * 4 + k, fraction(word, dtype)) for k, word in enumerate(words)]
        nests.append(Nest(names, [blocks], elements))
    if left != 0:
        axis = Axis(names("i"), left)
        words = philox(number(whole, dtypes.i64), call, seed)
        word = words[3]
        for k in reversed(range(3)):
            word = SCALAR.select(SCALAR.eq(Index(axis.index), k), words[k], word)
        element = Element(out, whole * 4 + axis.index, fraction(word, result.type.dtype))
        nests.append(Nest(names, [axis], [element]))
    launch_nests(ctx, name, nests)


def _halves(value: Expr) -> tuple[Expr, Expr]:
    """The low and the high 32 bits."""
    bits = SCALAR.bitcast(value, dtypes.u64)
    low = SCALAR.cast(SCALAR.and_(bits, 0xFFFFFFFF), dtypes.u32)
    return low, SCALAR.cast(SCALAR.shr(bits, 32), dtypes.u32)


def philox(block: Expr, call: Expr, seed: Expr) -> Words:
    """Four words of 32 random bits for a block number, a call number and a seed (all i64)."""
    c0, c1 = _halves(block)
    c2, c3 = _halves(call)
    k0, k1 = _halves(seed)
    m0, m1 = (constant(m, dtypes.u32) for m in PHILOX_MULTIPLIERS)
    for _ in range(PHILOX_ROUNDS):
        high0, low0 = SCALAR.umulhi(c0, m0), SCALAR.mul(c0, m0)
        high1, low1 = SCALAR.umulhi(c2, m1), SCALAR.mul(c2, m1)
        c0, c1, c2, c3 = (
            SCALAR.xor(SCALAR.xor(high1, c1), k0),
            low1,
            SCALAR.xor(SCALAR.xor(high0, c3), k1),
            low0,
        )
        k0, k1 = (SCALAR.add(k, w) for k, w in zip((k0, k1), PHILOX_WEYL))
    return c0, c1, c2, c3


def fraction(word: Expr, dtype: DType) -> Expr:
    """The leading bits of a word as a number in [0, 1), exact in its dtype."""
    bits = MANTISSA_BITS[dtype]
    wide = dtypes.f64 if dtype is dtypes.f64 else dtypes.f32
    leading = SCALAR.shr(word, 32 - bits) if bits < 32 else word
    return SCALAR.cast(SCALAR.mul(SCALAR.cast(leading, wide), 2.0**-bits), dtype)


def kept_factor(position: DimLike, seed: Expr, call: Expr, p: float, dtype: DType) -> Expr:
    """What dropout multiplies the element at this linear position with."""
    block, number = dims.floordiv(position, 4), dims.mod(position, 4)
    words = philox(Index(block), call, seed)
    word = words[3]
    if isinstance(number, int):
        word = words[number]
    else:
        for k in reversed(range(3)):
            word = SCALAR.select(SCALAR.eq(Index(number), k), words[k], word)
    return SCALAR.select(SCALAR.ge(fraction(word, dtype), p), constant(dropout_scale(p), dtype), 0.0)
