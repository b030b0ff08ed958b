"""What a warp does with tensor cores: fragments out of shared memory, and their products (PTX ISA, "Warp Level Matrix
Multiply-Accumulate Instructions")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..llvm.text import Value
from ..loops.nodes import WARP, Load, LoadFragment, MultiplyTile

if TYPE_CHECKING:
    from .emit import PtxEmitter


def multiply_tile(e: PtxEmitter, stmt: MultiplyTile) -> None:
    """mma.sync.m16n8k16, m16n8k8 of tf32."""
    w, narrow = e.w, stmt.left.dtype
    half = narrow is dtypes.f16
    kind = "<2 x half>" if half else "i32"
    places = [(load, i) for load, n in ((stmt.left, 4), (stmt.right, 2)) for i in range(n)]
    if narrow is dtypes.f32:
        operands = [_word(e, load, i) for load, i in places]
    else:
        operands = [pair(e, load, 2 * i, half) for load, i in places]
    sums = [e.memory.load(stmt.total.buffer, (*stmt.total.index[:-1], c)) for c in range(4)]
    shape = {dtypes.f16: "m16n8k16.row.col.f32.f32", dtypes.bf16: "m16n8k16.row.col.bf16"}
    name = f"@llvm.nvvm.mma.{shape.get(narrow, 'm16n8k8.row.col.tf32')}"
    four = "{ float, float, float, float }"
    w.declare(name, f"declare {four} {name}({', '.join([kind] * 6 + ['float'] * 4)})")
    made = w.fresh("%mma")
    given = [*(f"{kind} {x}" for x in operands), *map(str, sums)]
    w.line(f"{made} = call {four} {name}({', '.join(given)})")
    for c in range(4):
        element = w.effect(f"extractvalue {four} {made}, {c}", dtypes.f32)
        e.memory.store(stmt.total.buffer, (*stmt.total.index[:-1], c), element)


def _word(e: PtxEmitter, load: Load, i: int) -> str:
    value = e.memory.load(load.buffer, (*load.index[:-1], i))
    return e.ops.apply("bitcast", [value], dtypes.u32).text


def pair(e: PtxEmitter, load: Load, first: int, half: bool) -> str:
    """Two elements of a fragment in one register."""
    vector = "<2 x half>" if half else "<2 x i16>"
    made = "poison"
    for i in range(2):
        element = e.memory.load(load.buffer, (*load.index[:-1], first + i))
        name = e.w.fresh("%pair")
        e.w.line(f"{name} = insertelement {vector} {made}, {element}, i64 {i}")
        made = name
    if half:
        return made
    name = e.w.fresh("%pair")
    e.w.line(f"{name} = bitcast <2 x i16> {made} to i32")
    return name


def load_fragment(e: PtxEmitter, stmt: LoadFragment) -> None:
    """ldmatrix; of float32 that lies with the sum along its rows, loads."""
    thread = dims.symbol("thread", 0, e.kernel.threads - 1)
    if stmt.source.dtype is dtypes.f32 and stmt.turned:
        with e.known({"thread": e.thread}):
            _load_turned(e, stmt, thread)
        return
    _load_matrices(e, stmt, _shared_row(e, stmt, thread))


def _shared_row(e: PtxEmitter, stmt: LoadFragment, thread: DimLike) -> str:
    """The address of a row of 16 bytes that each lane gives, the matrices in the order of the fragment's registers."""
    line, matrix = dims.mod(thread, 8), dims.floordiv(dims.mod(thread, WARP), 8)
    wide = 16 // stmt.source.dtype.itemsize
    if stmt.rows == 16:
        row, depth = dims.mod(matrix, 2) * 8, dims.floordiv(matrix, 2) * wide
        if stmt.pair:
            row, depth = dims.floordiv(matrix, 2) * 8, dims.mod(matrix, 2) * wide
    else:
        row, depth = 0, dims.mod(matrix, 2) * wide
    *lead, first, second = stmt.source.index
    place = (first + depth + line, second + row) if stmt.turned else (first + row + line, second + depth)
    with e.known({"thread": e.thread}):
        pointer = e.address(Load(stmt.source.buffer, (*lead, *place)))
    return e.in_space(pointer, 3)


def _load_matrices(e: PtxEmitter, stmt: LoadFragment, address: str) -> None:
    w, narrow = e.w, stmt.source.dtype
    count = stmt.rows // 4
    made, words = w.fresh("%matrix"), "{ " + ", ".join(["i32"] * count) + " }"
    turned = ".trans" if stmt.turned else ""
    name = f"@llvm.nvvm.ldmatrix.sync.aligned.m8n8.x{count}{turned}.b16.p3"
    w.declare(name, f"declare {words} {name}(ptr addrspace(3))")
    w.line(f"{made} = call {words} {name}(ptr addrspace(3) {address})")
    kind = "<2 x half>" if narrow is dtypes.f16 else "<2 x i16>"
    for i in range(count):
        word = w.effect(f"extractvalue {words} {made}, {i}", dtypes.u32)
        if narrow is dtypes.f32:
            _put_rounded(e, stmt, i, e.ops.apply("bitcast", [word], dtypes.f32))
            continue
        both = w.fresh("%pair")
        w.line(f"{both} = bitcast {word} to {kind}")
        for k in range(2):
            element = w.effect(f"extractelement {kind} {both}, i64 {k}", narrow)
            e.memory.store(stmt.fragment.buffer, _place(stmt, 2 * i + k), element)


def _load_turned(e: PtxEmitter, stmt: LoadFragment, thread: DimLike) -> None:
    """One by one: ldmatrix turns elements of 16 bits only."""
    *lead, depth, row = stmt.source.index
    lane = dims.mod(thread, WARP)
    for number in range(stmt.rows // 4):
        i = dims.floordiv(lane, 4) + (number // 2 * 8 if stmt.pair else number * 8 % stmt.rows)
        k = dims.mod(lane, 4) + (number % 2 if stmt.pair else number * 8 // stmt.rows) * 4
        value = e.memory.load(stmt.source.buffer, (*lead, depth + k, row + i))
        _put_rounded(e, stmt, number, value)


def _put_rounded(e: PtxEmitter, stmt: LoadFragment, number: int, value: Value) -> None:
    """An element of a fragment, as tf32."""
    e.memory.store(stmt.fragment.buffer, _place(stmt, number), e.expressions.rounded(value))


def _place(stmt: LoadFragment, number: int) -> tuple[DimLike, ...]:
    """Where the thread's element of that number goes."""
    if not stmt.pair:
        return (*stmt.fragment.index[:-1], number)
    half = stmt.rows // stmt.fragment.dtype.itemsize // 2
    return (*stmt.fragment.index[:-2], number // half, number % half)
