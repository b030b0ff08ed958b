"""How fast this machine computes and moves memory: the two lines of a roofline.

Measured by kernels of our own compiler, on as many threads as compiled functions use: multiply-adds in registers,
products of tiles where there are tile registers, and a copy between arrays several times as large as the last cache.
Williams, Waterman, Patterson: Roofline (CACM 52:4, 2009). The best of a few short runs counts; on a loaded machine it is
too low. Results are kept in the disk cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np

from ..codegen.loops.nodes import (
    TILE_ROWS,
    TILE_WORDS,
    Buffer,
    ClearTile,
    Const,
    For,
    Kernel,
    Launch,
    Load,
    LoadTile,
    MultiplyWords,
    Program,
    Stmt,
    Store,
    StoreTile,
)
from ..codegen.packed import PACKED
from ..codegen.scalar import SCALAR
from ..codegen.target import Target
from ..ir import dims, dtypes
from ..ir.dtypes import DType
from . import disk_cache
from .execute import compile_program
from .fingerprint import compiler_fingerprint
from .loading import LoadedProgram
from .threads import get_num_threads

# Registers that accumulate: two multiply-adds may start in each cycle and take four to finish, with some to spare.
CHAINS = 12
ROUNDS = 1 << 15
# Of tiles: one product begins every 16 cycles and takes 52 (Intel's optimization manual).
TILE_CHAINS = 4
TILE_ROUNDS = 1 << 12
CHUNKS = 16
COPY_ELEMENTS = 1 << 20  # of a chunk: 64 MiB in all, for f32
RUNS = 7


@dataclass(frozen=True)
class Peaks:
    """10⁹ FLOPs a second by float type ("f32", "f64"), 10⁹ bytes a second of memory (read and written counted), and the
    threads they were measured with. "bf16" and "i8" are those of tile registers (AMX), 0 where there are none."""

    f32: float
    f64: float
    memory: float
    threads: int
    bf16: float = 0.0
    i8: float = 0.0

    @property
    def rates(self) -> str:
        """Those of arithmetic, as text."""
        tiles = f", in tile registers {self.bf16:.0f} bf16, {self.i8:.0f} i8" if self.bf16 or self.i8 else ""
        return f"{self.f32:.0f} GFLOP/s f32, {self.f64:.0f} f64{tiles}"

    def percent(self, dtype: str, flops: float, moved: float, seconds: float) -> float | None:
        """What part of the time is the least that the roofline allows, in percent. More than 100 means that the data
        came from a cache. None where nothing is known: a host call, no time."""
        peak = getattr(self, dtype) if dtype else 0.0
        if not peak or seconds <= 0:
            return None
        least = max(flops / (peak * 1e9), moved / (self.memory * 1e9))
        return 100 * least / seconds


def peaks(threads: int | None = None) -> Peaks:
    """This machine's, measured once; takes a second then."""
    return _peaks(get_num_threads() if threads is None else threads)


@cache
def _peaks(threads: int) -> Peaks:
    target = Target.host()
    key = hashlib.sha256(f"peaks\0{target!r}\0{threads}\0{compiler_fingerprint()}".encode()).hexdigest()
    found = disk_cache.load(key)
    if found is not None:
        return Peaks(**found[0])
    measured = Peaks(
        flops_rate(dtypes.f32, threads) / 1e9,
        flops_rate(dtypes.f64, threads) / 1e9,
        copy_rate(threads) / 1e9,
        threads,
        *(tile_rate(op, threads) / 1e9 if target.has_tiles(op) else 0.0 for op in ("dot_bf16", "dot_u8i8")),
    )
    disk_cache.store(key, asdict(measured), [])
    return measured


def flops_rate(dtype: DType, threads: int) -> float:
    """FLOPs a second of multiply-adds on registers."""
    program = multiply_add_program(dtype, Target.host())
    out = np.zeros(program.outputs[0].shape, dtype.numpy)
    work = 2 * CHUNKS * ROUNDS * CHAINS * Target.host().lanes(dtype)
    return work / _best_seconds(compile_program(program), [], [out], threads)


def tile_rate(op: str, threads: int) -> float:
    """FLOPs (of integers, operations) a second of products in tile registers."""
    program = tile_program(op)
    given = np.zeros(program.inputs[0].shape, np.uint32)
    out = np.zeros(program.outputs[0].shape, program.outputs[0].dtype.numpy)
    pairs = {"dot_bf16": 2, "dot_u8i8": 4}[op]
    work = 2 * CHUNKS * TILE_ROUNDS * TILE_CHAINS * TILE_ROWS * TILE_WORDS * TILE_WORDS * pairs
    return work / _best_seconds(compile_program(program), [given], [out], threads)


def copy_rate(threads: int) -> float:
    """Bytes a second of a copy, those read and those written."""
    program = copy_program(Target.host())
    given = np.ones(program.inputs[0].shape, np.float32)
    out = np.empty_like(given)
    return 2 * given.nbytes / _best_seconds(compile_program(program), [given], [out], threads)


def multiply_add_program(dtype: DType, target: Target) -> Program:
    """`CHAINS` vectors of accumulators in each of `CHUNKS` chunks, `ROUNDS` times x = x * a + b, whose fixed point
    keeps the numbers ordinary."""
    lanes = target.lanes(dtype)
    out = Buffer("out", dtype, (CHUNKS, CHAINS, lanes))
    acc = Buffer("acc", dtype, (CHAINS, lanes), "register")
    chunk, chain, lane = dims.symbol("i", 0, CHUNKS - 1), dims.symbol("u", 0, CHAINS - 1), _lane(lanes)

    def each(statement: Store) -> For:
        return For("u", CHAINS, (For("v", lanes, (statement,), "vector", lanes),), "unroll")

    step = SCALAR.fma(Load(acc, (chain, lane)), Const(0.5, dtype), Const(1.0, dtype))
    body = (
        each(Store(acc, (chain, lane), Const(1.5, dtype))),
        For("k", ROUNDS, (each(Store(acc, (chain, lane), step)),)),
        each(Store(out, (chunk, chain, lane), Load(acc, (chain, lane)))),
    )
    loop = For("i", CHUNKS, body, "parallel")
    cost = 2 * ROUNDS * CHAINS * lanes
    kernel = Kernel("multiply_add", (out,), frozenset({"out"}), (loop,), (), (acc,), cost)
    return Program("multiply_add", (), (out,), (), (Launch(kernel, (out,)),))


def tile_program(op: str, rounds: int = TILE_ROUNDS) -> Program:
    """`TILE_CHAINS` tiles of sums in each of `CHUNKS` chunks, to which `rounds` times the products of two tiles are
    added."""
    dtype = PACKED[op][1]
    size = TILE_ROWS * TILE_WORDS
    given, out = Buffer("given", dtypes.u32, (2 * size,)), Buffer("out", dtype, (CHUNKS, TILE_CHAINS * size))
    sums = Buffer("sums", dtype, (TILE_CHAINS, TILE_ROWS, TILE_WORDS), "tile")
    words = Buffer("words", dtypes.u32, (2, TILE_ROWS, TILE_WORDS), "tile")
    kept = Buffer("kept", dtype, (TILE_CHAINS * size,), "stack")
    chunk, chain, row = (
        dims.symbol(n, 0, c - 1)
        for n, c in (("i", CHUNKS), ("u", TILE_CHAINS), ("j", TILE_CHAINS * TILE_ROWS))
    )
    total, left, right = Load(sums, (chain, 0, 0)), Load(words, (0, 0, 0)), Load(words, (1, 0, 0))
    place = row * TILE_WORDS + _lane(TILE_WORDS)
    stored = Store(out, (chunk, place), Load(kept, (place,)))

    def each(statement: Stmt) -> For:
        return For("u", TILE_CHAINS, (statement,), "unroll")

    body = (
        each(ClearTile(total)),
        LoadTile(left, Load(given, (0,)), TILE_WORDS),
        LoadTile(right, Load(given, (size,)), TILE_WORDS),
        For("k", rounds, (each(MultiplyWords(total, left, right, op)),)),
        each(StoreTile(Load(kept, (chain * size,)), total, TILE_WORDS)),
        For("j", TILE_CHAINS * TILE_ROWS, (For("v", TILE_WORDS, (stored,), "vector", TILE_WORDS),)),
    )
    loop = For("i", CHUNKS, body, "parallel")
    cost = 2 * rounds * TILE_CHAINS * size
    kernel = Kernel("tiles", (given, out), frozenset({"out"}), (loop,), (), (sums, words, kept), cost)
    return Program("tiles", (given,), (out,), (), (Launch(kernel, (given, out)),))


def copy_program(target: Target) -> Program:
    """A copy of f32 numbers in `CHUNKS` chunks."""
    lanes = target.lanes(dtypes.f32)
    given, out = (Buffer(name, dtypes.f32, (CHUNKS, COPY_ELEMENTS)) for name in ("given", "out"))
    groups = COPY_ELEMENTS // lanes
    place = (dims.symbol("i", 0, CHUNKS - 1), lanes * dims.symbol("j", 0, groups - 1) + _lane(lanes))
    vector = For("v", lanes, (Store(out, place, Load(given, place)),), "vector", lanes)
    loop = For("i", CHUNKS, (For("j", groups, (vector,)),), "parallel")
    kernel = Kernel("copy", (given, out), frozenset({"out"}), (loop,), (), (), COPY_ELEMENTS)
    return Program("copy", (given,), (out,), (), (Launch(kernel, (given, out)),))


def _lane(lanes: int) -> dims.DimLike:
    return dims.symbol("v", 0, lanes - 1)


def _best_seconds(
    native: LoadedProgram, inputs: list[np.ndarray], outputs: list[np.ndarray], threads: int
) -> float:
    given, made = (
        (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
        for arrays in (inputs, outputs)
    )
    best = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        native.run(given, made, 0, (ctypes.c_int64 * 1)(), threads)
        best = min(best, time.perf_counter() - start)
    return best
