"""x86's tile registers (AMX) as LLVM text.

LLVM has two ways to name tiles. Values of type x86_amx are given registers by LLVM, which then writes the configuration
itself, spills and fills them, and expects each with its shape. Here the loop IR says which of the eight registers is
meant, so the other intrinsics are used, whose operands are numbers: one configuration for a whole kernel, no spill.
"""

from __future__ import annotations

from math import prod

from ...ir.dims import DimLike
from ..loops.nodes import (
    TILE_ROWS,
    TILE_WORDS,
    TILES,
    Buffer,
    ClearTile,
    Kernel,
    Load,
    LoadTile,
    MultiplyWords,
    StoreTile,
)
from .index import IndexEmitter
from .memory import MemoryEmitter
from .text import Value, Writer

CONFIG = "@tile_config"
# The operation, and whether its operands are swapped.
_PRODUCTS = {
    ("dot_bf16", False): "tdpbf16ps",
    ("dot_bf16", True): "tdpbf16ps",
    ("dot_u8i8", False): "tdpbusd",
    ("dot_u8i8", True): "tdpbsud",
}


def _config() -> str:
    """Palette 1, every tile 16 rows of 64 bytes (Intel's manual, volume 1, "Programming with Intel AMX")."""
    columns = (4 * TILE_WORDS).to_bytes(2, "little")
    data = bytes([1]) + bytes(15) + columns * TILES + bytes(16) + bytes([TILE_ROWS]) * TILES + bytes(8)
    text = "".join(f"\\{byte:02X}" for byte in data)
    return f'{CONFIG} = private unnamed_addr constant [{len(data)} x i8] c"{text}", align 64'


class TileEmitter:
    """Numbers a kernel's tile registers and writes their instructions."""

    def __init__(self, kernel: Kernel, writer: Writer, index: IndexEmitter, memory: MemoryEmitter):
        self.w = writer
        self.index = index
        self.memory = memory
        self.first: dict[Buffer, int] = {}
        count = 0
        for buffer in kernel.locals:
            if buffer.space == "tile":
                self.first[buffer] = count
                count += prod(size for size in buffer.shape[:-2] if isinstance(size, int))

    def configure(self) -> None:
        """Where the function begins."""
        if self.first:
            self.w.declare(CONFIG, _config())
            self._call("ldtilecfg", f"ptr {CONFIG}")

    def release(self) -> None:
        """Where it returns."""
        if self.first:
            self._call("tilerelease")

    def statement(self, stmt: ClearTile | LoadTile | StoreTile | MultiplyWords) -> None:
        match stmt:
            case ClearTile():
                self._call("tilezero", self._number(stmt.tile))
            case LoadTile():
                name = "tileloaddt164" if stmt.passing else "tileloadd64"
                self._call(name, self._number(stmt.tile), *self._rows(stmt.source, stmt.step))
            case StoreTile():
                self._call("tilestored64", self._number(stmt.tile), *self._rows(stmt.target, stmt.step))
            case MultiplyWords():
                operands = map(self._number, (stmt.total, stmt.left, stmt.right))
                self._call(_PRODUCTS[stmt.op, stmt.swapped], *operands)

    def _number(self, tile: Load) -> str:
        number = 0
        for size, i in zip(tile.buffer.shape[:-2], tile.index[:-2], strict=True):
            position = self.index.decompose(i)
            if not position.is_uniform or position.uniform or not isinstance(size, int):
                raise ValueError(f"tile {tile.buffer.name}: index {i} is not a constant after unrolling")
            number = number * size + position.constant
        return f"i8 {self.first[tile.buffer] + number}"

    def _rows(self, first: Load, step: DimLike) -> tuple[str, str]:
        buffer = first.buffer
        pointer = self.memory.address(buffer, self.index.decompose(buffer.offset(first.index)))
        apart: Value = self.index.value(step * buffer.dtype.itemsize)
        return f"ptr {pointer.text}", f"i64 {apart.text}"

    def _call(self, name: str, *arguments: str) -> None:
        types = ", ".join(
            "i8 immarg" if argument.startswith("i8 ") else argument.split()[0] for argument in arguments
        )
        function = self.w.declare(f"@llvm.x86.{name}", f"declare void @llvm.x86.{name}({types})")
        self.w.line(f"call void {function}({', '.join(arguments)})")
