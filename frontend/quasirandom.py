"""`torch.quasirandom`: points of Sobol's sequence, the ones that PyTorch draws.

I. M. Sobol, "The distribution of points in a cube and the approximate evaluation of integrals", 1967; in Gray code's
order (I. Antonov, V. Saleev, 1979); scrambled as in J. Matoušek, "On the L2-discrepancy for anchored boxes", 1998.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from .creation import arange
from .functional_arithmetic import pow
from .functional_matmul import mv
from .generator import Generator
from .inplace import into
from .ir.dtypes import DType
from .promotion import get_default_dtype
from .random import randint
from .tensor import Array, Tensor, wrap


@cache
def _table() -> tuple[tuple[int, ...], ...]:
    """For each dimension its polynomial over GF(2) and the initial direction numbers."""
    text = resources.files(__package__).joinpath("sobol_directions.txt").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(tuple(map(int, row.split())) for row in rows)


def _directions(dimension: int, bits: int) -> Array:
    """[dimension, bits] integers: what to exclusive-or with where bit j of the point's number in Gray code changes."""
    found = np.ones((dimension, bits), np.int64)
    for row, (polynomial, *initial) in zip(found[1:], _table()):
        degree = len(initial)
        row[:degree] = initial
        for j in range(degree, bits):
            value = row[j - degree] ^ (row[j - degree] << degree)
            for k in range(1, degree):
                if polynomial >> (degree - k) & 1:
                    value ^= row[j - k] << k
            row[j] = value
    return found << np.arange(bits - 1, -1, -1)


def _scrambled(directions: Array, lower: Array) -> Array:
    """The directions times random lower triangular matrices of bits with ones on the diagonal, one a dimension."""
    bits = directions.shape[1]
    index = np.arange(bits)
    lower[:, index, index] = 1
    weights = index[::-1]  # the first bit is the highest
    digits = directions[:, :, None] >> weights & 1
    mixed = np.einsum("dpk,djk->djp", lower, digits) & 1
    return np.asarray((mixed << weights).sum(-1), np.int64)


class SobolEngine:
    """Points of a Sobol sequence in [0, 1)^dimension, one after the other; `scramble` draws from the generator of
    `seed`, or from the default one. PyTorch's engine has 21201 dimensions, this one 1111.
    """

    MAXBIT = 30
    MAXDIM = 1111

    def __init__(self, dimension: int, scramble: bool = False, seed: int | None = None):
        if not 1 <= dimension <= self.MAXDIM:
            raise ValueError(f"Supported range of dimensionality for SobolEngine is [1, {self.MAXDIM}]")
        self.seed, self.scramble, self.dimension = seed, scramble, dimension
        directions, shift = _directions(dimension, self.MAXBIT), wrap(np.zeros(dimension, np.int64))
        if scramble:
            source = None if seed is None else Generator().manual_seed(seed)
            digits = randint(2, (dimension, self.MAXBIT), generator=source)
            shift = mv(digits, pow(2, arange(0, self.MAXBIT)))
            lower = np.tril(randint(2, (dimension, self.MAXBIT, self.MAXBIT), generator=source).numpy())
            directions = _scrambled(directions, lower)
        self.shift, self.sobolstate = shift, wrap(directions)
        self.quasi = shift.clone()
        self.num_generated = 0

    def _advance(self, n: int) -> Array:
        """The next n points, [n, dimension], as integers of MAXBIT bits."""
        start = self.num_generated
        if n <= 0:
            return np.empty((0, self.dimension), np.int64)
        # Point i differs from point i - 1 in the bit that is the lowest 0 of i - 1. The first is the shift.
        before = np.arange(max(start, 1) - 1, start + n - 1)
        lowest = np.log2(~before & (before + 1)).astype(np.int64)
        steps = self.sobolstate.numpy()[:, lowest].T
        first = self.quasi.numpy()[None]
        points = np.bitwise_xor.accumulate(np.concatenate([first, steps]), axis=0)
        self.quasi = wrap(np.ascontiguousarray(points[-1]))
        self.num_generated += n
        return points if start == 0 else points[1:]

    def draw(self, n: int = 1, out: Tensor | None = None, dtype: DType | None = None) -> Tensor:
        """The next n points, [n, dimension]."""
        kind = get_default_dtype() if dtype is None else dtype
        made = wrap(self._advance(n)).to(kind) * 2.0**-self.MAXBIT
        return made if out is None else into(out, made, "draw")

    def draw_base2(self, m: int, out: Tensor | None = None, dtype: DType | None = None) -> Tensor:
        """The next 2^m points; ValueError where all together would not be a power of 2."""
        n = 2**m
        total = self.num_generated + n
        if total & (total - 1):
            raise ValueError(
                "The balance properties of Sobol' points require n to be a power of 2. "
                f"{self.num_generated} points have been previously generated, then: "
                f"n={self.num_generated}+2**{m}={total}. If you still want to do this, please use "
                "'SobolEngine.draw()' instead."
            )
        return self.draw(n, out, dtype)

    def reset(self) -> SobolEngine:
        """Begin again."""
        self.quasi, self.num_generated = self.shift.clone(), 0
        return self

    def fast_forward(self, n: int) -> SobolEngine:
        """Go on by n points."""
        self._advance(n)
        return self

    def __repr__(self) -> str:
        fields: list[Any] = [f"dimension={self.dimension}"]
        fields += ["scramble=True"] * self.scramble
        fields += [] if self.seed is None else [f"seed={self.seed}"]
        return f"SobolEngine({', '.join(fields)})"


__all__ = ["SobolEngine"]
