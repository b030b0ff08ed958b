"""The rules of x86's tile registers (AMX)."""

from __future__ import annotations

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..packed import PACKED
from .nodes import (
    TILE_ROWS,
    TILE_WORDS,
    TILES,
    Buffer,
    ClearTile,
    Load,
    LoadTile,
    MultiplyWords,
    StoreTile,
)
from .rules import Rules
from .scope import Scope


class TileRules(Rules):
    """Part of the verifier, which has what these names stand for."""

    buffers: set[Buffer]

    def tile_registers(self) -> None:
        """The kernel's tile registers: their shape, and how many there are."""
        found = [b for b in self.kernel.locals if b.space == "tile"]
        for buffer in found:
            if buffer.shape[-2:] != (TILE_ROWS, TILE_WORDS) or buffer.dtype.itemsize != 4:
                raise self.fail(f"{buffer} is no array of tiles, {TILE_ROWS} rows of {TILE_WORDS} words")
        count = sum(dims.evaluate(b.numel, {}) for b in found) // (TILE_ROWS * TILE_WORDS)
        if count > TILES:
            raise self.fail(f"{count} tile registers: there are {TILES}")

    def tile_statement(self, stmt: ClearTile | LoadTile | StoreTile | MultiplyWords, scope: Scope) -> None:
        if scope.vector is not None:
            raise self.fail(f"tile registers inside the vector loop {scope.vector}")
        match stmt:
            case ClearTile():
                self.tile(stmt.tile, scope)
            case LoadTile():
                self.tile(stmt.tile, scope)
                self.rows(stmt.source, stmt.step, scope)
            case StoreTile():
                self.tile(stmt.tile, scope)
                self.rows(stmt.target, stmt.step, scope)
                if stmt.target.buffer.space != "stack" or stmt.target.dtype is not stmt.tile.dtype:
                    raise self.fail(f"a tile of {stmt.tile.dtype.name} is stored on the stack, as such")
            case MultiplyWords():
                types, result = PACKED[stmt.op] if stmt.op.startswith("dot_") else ((), None)
                if result is not stmt.total.dtype:
                    raise self.fail(f"tiles of {stmt.total.dtype.name} do not add up by {stmt.op!r}")
                for load, dtype in zip((stmt.total, stmt.left, stmt.right), types, strict=True):
                    self.tile(load, scope)
                    if load.dtype is not dtype:
                        raise self.fail(f"{stmt.op} takes tiles of {dtype.name}, not {load.buffer}")

    def tile(self, load: Load, scope: Scope) -> None:
        buffer, index = load.buffer, load.index
        if buffer not in self.buffers or buffer.space != "tile" or len(index) != len(buffer.shape):
            raise self.fail(f"{buffer} is no tile register of the kernel")
        if index[-2:] != (0, 0):
            raise self.fail(f"a tile is given by its first element, not {list(index)}")
        for size, i in zip(buffer.shape, index, strict=True):
            self.index_symbols(i, scope)
            if isinstance(i, int) and isinstance(size, int) and not 0 <= i < size:
                raise self.fail(f"index {i} is outside {buffer}")
            if any(scope.symbols[s.name] not in ("unroll", "let") for s in dims.symbols(i)):
                raise self.fail(f"{buffer.name}: the tile's number {i} must be a constant once unrolled")

    def rows(self, load: Load, step: DimLike, scope: Scope) -> None:
        """16 rows in memory; those of a stack array are provably inside, others not provably outside."""
        buffer = load.buffer
        if buffer.space not in ("global", "stack") or buffer.dtype is dtypes.bool_:
            raise self.fail(f"tiles lie in memory, not in {buffer}")
        self.access(buffer, load.index, scope)
        self.index_symbols(step, scope)
        first = buffer.offset(load.index)
        last = first + step * (TILE_ROWS - 1) + (4 * TILE_WORDS // buffer.dtype.itemsize - 1)
        (low, high), spare = dims.bounds(first), dims.bounds(buffer.numel - 1 - last)
        inside = low >= 0 and spare[0] >= 0
        if not inside and (buffer.space == "stack" or high < 0 or spare[1] < 0):
            raise self.fail(f"rows from {first} to {last} are not inside {buffer}")
