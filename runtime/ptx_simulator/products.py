"""Products of warpgroups that are under way: their accumulators and operands are nobody else's until they have been
waited for (PTX ISA, "wgmma.fence", "wgmma.wait_group")."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import Race
from .executor import Frame, Registers
from .syntax import Instruction
from .types import U32, Array

_PIECE = 16


@dataclass
class Product:
    """One instruction: its results by register, and the pieces of 16 bytes of shared memory that it reads."""

    registers: Registers
    values: dict[int, Array]
    pieces: Array
    unknown: Array  # what the registers hold meanwhile
    group: int = -1


@dataclass
class Flight:
    """The products of a batch that have not been waited for."""

    reading: Array  # how many products read each piece of shared memory
    products: list[Product] = field(default_factory=list)
    groups: int = 0
    fenced: tuple[Registers, list[Array]] | None = None  # registers at the last wgmma.fence

    def accumulator(self, f: Frame, item: Instruction, r: Registers, number: int) -> Array:
        """What a product adds to. Race where the register was written behind the last fence."""
        held: Array = r[number]
        for product in reversed(self.products):
            if held is product.unknown and product.registers is r:
                return product.values[number]
        if self.fenced is None or self.fenced[0] is not r or self.fenced[1][number] is not held:
            message = "the accumulator was written and no wgmma.fence has followed"
            raise f.fault(Race, 0, item, message)
        return held

    def begin(self, f: Frame, r: Registers, values: dict[int, Array], places: Array) -> None:
        unknown = np.full(f.size, 0x7FC00BAD, U32)
        pieces = places // _PIECE
        self.reading[pieces] += 1
        self.products.append(Product(r, values, pieces, unknown))
        for number in values:
            r[number] = unknown

    def commit(self, r: Registers) -> None:
        for product in self.products:
            if product.registers is r and product.group < 0:
                product.group = self.groups
        self.groups += 1

    def wait(self, r: Registers, left: int) -> None:
        """Until the last `left` groups are all that is under way; those that were committed by the same threads."""
        mine = sorted({p.group for p in self.products if p.registers is r and p.group >= 0})
        done = set(mine[: len(mine) - left] if left else mine)
        kept = []
        for product in self.products:
            if product.registers is not r or product.group not in done:
                kept.append(product)
                continue
            self.reading[product.pieces] -= 1
            for number, value in product.values.items():
                if r[number] is product.unknown:
                    r[number] = value
        self.products = kept

    def reads(self, positions: Array) -> Array:
        """Where a product under way reads."""
        found: Array = self.reading[positions.view(np.int64) // _PIECE] > 0
        return found


def in_flight(f: Frame) -> Flight:
    """Of the frame's batch."""
    states = f.batch.states
    if "wgmma" not in states:
        states["wgmma"] = Flight(np.zeros(-(-f.batch.shared.size // _PIECE), np.int32))
    found = states["wgmma"]
    assert isinstance(found, Flight)
    return found
