"""x86's tile registers (AMX) under the interpreter: what the instructions compute, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir.dims import DimLike
from .nodes import (
    TILE_ROWS,
    TILE_WORDS,
    Buffer,
    ClearTile,
    Load,
    LoadTile,
    MultiplyWords,
    Stmt,
    StoreTile,
)
from .scope import LoopError

Array = np.ndarray[Any, Any]
# From the sums before, `[16, 16]`, and two tiles of words.
Product = Callable[[Array, Array, Array], Array]
Frame = dict[str, Any]
_SMALLEST_NORMAL = np.float32(2.0**-126)


class TileSteps:
    """Part of the interpreter, which has what these names stand for."""

    arrays: dict[Buffer, Array]
    written: dict[Buffer, Array]
    stmt: Stmt | None

    def fail(self, rule: str, frame: Frame) -> LoopError:
        raise NotImplementedError

    def index(self, value: DimLike) -> Callable[[Frame], int]:
        raise NotImplementedError

    def position(self, buffer: Buffer, index: Sequence[DimLike]) -> Callable[[Frame], tuple[int, ...]]:
        raise NotImplementedError

    def tile_statement(
        self, stmt: ClearTile | LoadTile | StoreTile | MultiplyWords
    ) -> Callable[[Frame], None]:
        match stmt:
            case ClearTile():
                return self.clear_tile(stmt)
            case LoadTile():
                return self.load_tile(stmt)
            case StoreTile():
                return self.store_tile(stmt)
            case MultiplyWords():
                return self.multiply_words(stmt)

    def tile(self, load: Load, given: bool = True) -> Callable[[Frame], Array]:
        """A tile register as [16, 16]; `given`: what it holds is read."""
        where, array, written = (
            self.position(load.buffer, load.index),
            self.arrays[load.buffer],
            self.written[load.buffer],
        )

        def find(frame: Frame) -> Array:
            at = where(frame)[:-2]
            if given and not written[at].all():
                raise self.fail(f"the tile {load.buffer.name}{list(at)} is read before it is written", frame)
            written[at] = True
            found: Array = array[at]
            return found

        return find

    def clear_tile(self, stmt: ClearTile) -> Callable[[Frame], None]:
        tile = self.tile(stmt.tile, given=False)

        def run(frame: Frame) -> None:
            self.stmt = stmt
            tile(frame)[...] = 0

        return run

    def rows(self, load: Load, step: DimLike) -> Callable[[Frame], Array]:
        """The places, in a buffer as one row, of 16 rows of 64 bytes."""
        first, apart = self.index(load.buffer.offset(load.index)), self.index(step)
        size = self.arrays[load.buffer].size
        places = np.arange(TILE_WORDS * 4 // load.dtype.itemsize)

        def find(frame: Frame) -> Array:
            at: Array = first(frame) + np.arange(TILE_ROWS)[:, None] * apart(frame) + places
            if at.min() < 0 or at.max() >= size:
                raise self.fail(
                    f"rows of {load.buffer.name} from {at.min()} to {at.max()} are not all in it", frame
                )
            return at

        return find

    def load_tile(self, stmt: LoadTile) -> Callable[[Frame], None]:
        tile, rows = self.tile(stmt.tile, given=False), self.rows(stmt.source, stmt.step)
        source, written = self.arrays[stmt.source.buffer], self.written.get(stmt.source.buffer)

        def run(frame: Frame) -> None:
            self.stmt = stmt
            at = rows(frame)
            if written is not None and not written.reshape(-1)[at].all():
                raise self.fail(f"{stmt.source.buffer.name} is read before it is written", frame)
            into = tile(frame)
            into[...] = source.reshape(-1)[at].view(into.dtype)

        return run

    def store_tile(self, stmt: StoreTile) -> Callable[[Frame], None]:
        tile, rows = self.tile(stmt.tile), self.rows(stmt.target, stmt.step)
        target, written = self.arrays[stmt.target.buffer], self.written[stmt.target.buffer]

        def run(frame: Frame) -> None:
            self.stmt = stmt
            at = rows(frame)
            target.reshape(-1)[at] = tile(frame)
            written.reshape(-1)[at] = True

        return run

    def multiply_words(self, stmt: MultiplyWords) -> Callable[[Frame], None]:
        total, left, right = map(self.tile, (stmt.total, stmt.left, stmt.right))
        product = tile_product(stmt.op, stmt.swapped)

        def run(frame: Frame) -> None:
            self.stmt = stmt
            sums = total(frame)
            sums[...] = product(sums, left(frame), right(frame))

        return run


def tile_product(op: str, swapped: bool) -> Product:
    """What `MultiplyWords` makes of its tiles."""
    if op == "dot_bf16":
        return _bf16
    types = (np.int8, np.uint8) if swapped else (np.uint8, np.int8)

    def product(total: Array, left: Array, right: Array) -> Array:
        rows, columns = (_numbers(x).view(t) for x, t in zip((left, right), types, strict=True))
        sums = np.einsum("mki,kni->mn", rows.astype(np.int64), columns.astype(np.int64))
        return (total + sums).astype(np.int32)

    return product


def _numbers(words: Array) -> Array:
    """The words' bytes as a last dim."""
    return np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)


def _bf16(total: Array, left: Array, right: Array) -> Array:
    """TDPBF16PS (Intel's manual, volume 2): the first numbers of words and the second ones are added up apart, fused,
    and from zero; denormal numbers are zeros."""
    (a0, a1), (b0, b1) = (
        (_flushed(x.view(np.float32)) for x in (words << np.uint32(16), words & np.uint32(0xFFFF0000)))
        for words in (left, right)
    )
    sums = np.zeros((2, *total.shape), np.float32)
    for k in range(left.shape[1]):
        sums[0] = _flushed(_fused(a0[:, k, None], b0[None, k], sums[0]))
        sums[1] = _flushed(_fused(a1[:, k, None], b1[None, k], sums[1]))
    return _flushed(_flushed(total) + _flushed(sums[0] + sums[1]))


def _fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once, of factors with 8 bits: their product is exact in float64, and so that the sum is rounded
    only once, it is made odd there where it is not exact."""
    product = a.astype(np.float64) * b
    wide = product + c
    back = wide - product
    lost = (product - (wide - back)) + (c - back)
    bits = wide.view(np.int64)
    inexact = np.isfinite(wide) & (lost != 0)
    down = inexact & ((lost < 0) != np.signbit(wide))
    odd = np.where(inexact, (bits - down) | 1, bits).view(np.float64)
    return odd.astype(np.float32)


def _flushed(x: Array) -> Array:
    """The numbers, zeros where they are denormal."""
    return np.where(np.abs(x) < _SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)
