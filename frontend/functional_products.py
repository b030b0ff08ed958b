"""Products of matrices and vectors beyond `functional_matmul.py`: added up, of chains, of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import dispatch
from .arguments import as_int, numbers_first
from .autocast import lower_precision
from .functional_arithmetic import add, mul, whole_number
from .functional_matmul import bmm, dot, mm, outer
from .functional_pointwise import where
from .functional_reductions import sum as total
from .inplace import finish
from .ir import dtypes
from .promotion import number_in
from .tape_folded import folded
from .tensor import Tensor


def _added(
    name: str,
    input: Tensor,
    operands: tuple[Tensor, Tensor],
    beta: Any,
    alpha: Any,
    product: Callable[[], Tensor],
) -> Tensor:
    """beta * input + alpha * product; with beta 0 the input does not count, NaN or not."""

    def compute() -> Tensor:
        scale, weight = number_in(alpha, operands[0].dtype), number_in(beta, operands[0].dtype)
        scaled = product() if scale == 1 else mul(product(), scale)
        if weight == 0:
            return where(dispatch.constant(False, dtypes.bool_), input, scaled)  # whose gradient is 0
        return add(input if weight == 1 else mul(input, weight), scaled)

    return folded(name, (input, *operands), compute)


@numbers_first("beta", "alpha")
@lower_precision
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta * input + alpha * the sum of the products of a batch of matrices."""
    if batch1.ndim == batch2.ndim == 3 and batch1.shape[2] != batch2.shape[1]:
        (rows, inner), (depth, columns) = tuple(batch1.shape)[1:], tuple(batch2.shape)[1:]
        raise RuntimeError(f"Incompatible matrix sizes for bmm ({rows}x{inner} and {depth}x{columns})")

    def product() -> Tensor:
        return total(bmm(batch1, batch2), 0, dtype=batch1.dtype)

    found = _added("AddbmmBackward0", input, (batch1, batch2), beta, alpha, product)
    return finish(found, out, "addbmm")


@numbers_first("beta", "alpha")
def addr(
    input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta * input + alpha * the outer product of two vectors."""
    for number, vector in enumerate((vec1, vec2), 1):
        if vector.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument vec{number}, but got {vector.ndim}-D")
    if not (input.dtype.is_floating_point or input.dtype.is_complex):
        whole_number(beta, "beta")
        whole_number(alpha, "alpha")
    found = _added("AddrBackward0", input, (vec1, vec2), beta, alpha, lambda: outer(vec1, vec2))
    return finish(found, out, "addr")


def vdot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The sum of the products of two vectors' elements, those of the first conjugated."""
    first = input.conj() if input.dtype.is_complex else input
    return dot(first, other, out=out)


def chain_matmul(*matrices: Any, out: Tensor | None = None) -> Tensor:
    """The product of several matrices, in the order that needs the fewest multiplications."""
    chain = (
        list(matrices[0]) if len(matrices) == 1 and isinstance(matrices[0], list | tuple) else list(matrices)
    )
    for matrix in chain:
        if matrix.ndim != 2:
            raise RuntimeError(f"Tensor dimension is {matrix.ndim}, expected 2 instead.")
    if not chain:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    sizes = [as_int(m.shape[0]) for m in chain] + [as_int(chain[-1].shape[1])]
    return finish(in_cheapest_order(chain, sizes, mm), out, "chain_matmul")


def in_cheapest_order(
    matrices: Sequence[Tensor], sizes: Sequence[Any], product: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The product of matrices[i] of sizes[i] x sizes[i + 1], with the fewest multiplications."""
    known: dict[tuple[int, int], tuple[Any, int]] = {}

    def multiplied(i: int, j: int) -> Tensor:
        if i == j:
            return matrices[i]
        split = cheapest(sizes, i, j, known)[1]
        return product(multiplied(i, split), multiplied(split + 1, j))

    return multiplied(0, len(matrices) - 1)


def cheapest(sizes: Sequence[Any], i: int, j: int, known: dict[tuple[int, int], tuple[Any, int]]) -> Any:
    """The fewest multiplications for matrices i to j, and where to split them (Cormen et al., "Introduction to
    Algorithms", section 15.2)."""
    if (i, j) not in known:
        best: tuple[Any, int] = (0, i)
        for split in range(i, j):
            cost = (
                cheapest(sizes, i, split, known)[0]
                + cheapest(sizes, split + 1, j, known)[0]
                + sizes[i] * sizes[split + 1] * sizes[j + 1]
            )
            if split == i or cost < best[0]:
                best = (cost, split)
        known[i, j] = best
    return known[i, j]


# The names of `torch` that are defined here.
__all__ = ["addbmm", "addr", "chain_matmul", "vdot"]
