"""L D L^T of symmetric (or Hermitian) matrices that need not be definite.

The diagonal pivoting of J. Bunch and L. Kaufman, "Some stable methods for calculating inertia and solving symmetric
linear systems" (1977), with D in blocks of one or two; packed and numbered as LAPACK's sytrf does, lower triangle.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, broadcast, made
from .linalg_common import INFO, check_floating, check_square

_GROWTH = (1 + math.sqrt(17)) / 8  # the ratio that bounds the growth of both kinds of step alike
HERMITIAN = {"hermitian": Attr("bool", False)}


def _size(x: Array, hermitian: bool) -> Array:
    if x.dtype.kind == "c" and not hermitian:
        return np.abs(x.real) + np.abs(x.imag)
    return np.abs(x)


def _exchange(a: Array, first: int, other: int, hermitian: bool) -> None:
    """Rows and columns `first` < `other` of the trailing matrix (its lower triangle) exchanged."""
    a[other + 1 :, [first, other]] = a[other + 1 :, [other, first]]
    column, row = a[first + 1 : other, first].copy(), a[other, first + 1 : other].copy()
    if hermitian:
        column, row = column.conj(), row.conj()
        a[other, first] = np.conj(a[other, first])
    a[first + 1 : other, first], a[other, first + 1 : other] = row, column
    a[first, first], a[other, other] = a[other, other], a[first, first]


def _pivot(a: Array, k: int, hermitian: bool) -> tuple[int, int]:
    """The row to exchange with, and the size of the block: 0 where the whole column is zero."""
    diagonal = float(_size(a[k, k], hermitian))
    column = _size(a[k + 1 :, k], hermitian)
    largest = float(column.max(initial=0.0))
    if max(diagonal, largest) == 0 or math.isnan(diagonal):
        return k, 0
    if diagonal >= _GROWTH * largest:
        return k, 1
    at = k + 1 + int(column.argmax())
    row = max(
        float(_size(a[at, k:at], hermitian).max(initial=0.0)),
        float(_size(a[at + 1 :, at], hermitian).max(initial=0.0)),
    )
    if diagonal >= _GROWTH * largest * (largest / row):
        return k, 1
    return at, 1 if float(_size(a[at, at], hermitian)) >= _GROWTH * row else 2


def _whole(block: Array, hermitian: bool) -> Array:
    """The matrix of which the lower triangle is given."""
    below = np.tril(block, -1)
    return np.tril(block) + (below.conj().T if hermitian else below.T)


def _factor(a: Array, pivots: Array, hermitian: bool) -> int:
    """Factor one matrix in place; its info."""
    n, k, info = len(a), 0, 0
    while k < n:
        other, step = _pivot(a, k, hermitian)
        if not step:
            info = info or k + 1
            pivots[k], k = k + 1, k + 1
            continue
        last = k + step - 1
        if other != last:
            _exchange(a, last, other, hermitian)
            if step == 2:
                a[k + 1, k], a[other, k] = a[other, k], a[k + 1, k]
        below = a[k + step :, k : k + step]
        block = _whole(a[k : k + step, k : k + step], hermitian)
        scaled = below @ np.linalg.inv(block)
        a[k + step :, k + step :] -= np.tril(scaled @ (below.conj().T if hermitian else below.T))
        a[k + step :, k : k + step] = scaled
        pivots[k : k + step] = other + 1 if step == 1 else -(other + 1)
        k += step
    return info


def _factor_numpy(a: Array, hermitian: bool) -> tuple[Array, Array, Array]:
    result = np.tril(a)
    pivots = np.zeros(a.shape[:-1], np.int32)
    info = np.zeros(a.shape[:-2], np.int32)
    for at in np.ndindex(a.shape[:-2]):
        info[at] = _factor(result[at], pivots[at], hermitian)
    return result, pivots, info


def _factor_infer(a: TensorType, hermitian: bool) -> tuple[TensorType, ...]:
    check_square("torch.linalg.ldl_factor_ex", a)
    check_floating("torch.linalg.ldl_factor_ex", a)
    return a, TensorType(a.shape[:-1], dtypes.i32), TensorType(a.shape[:-2], INFO)


def _symmetric(*shape: int) -> Any:
    def make(rng: Any) -> list[Array]:
        a = rng.normal(size=shape)
        a[..., range(shape[-1]), range(shape[-1])] *= 0.1
        return [a + np.swapaxes(a, -1, -2)]

    return make


declare(
    Op(
        "linalg_ldl_factor",
        "L and D of A = L D L^T (L D L^H with `hermitian`) in one matrix, the exchanges (negative in pairs for "
        "blocks of two) and info. https://docs.pytorch.org/docs/stable/generated/torch.linalg.ldl_factor_ex.html",
        infer=_factor_infer,
        numpy=_factor_numpy,
        attrs=HERMITIAN,
        results=3,
        lowering="host",
        samples=(made(_symmetric(5, 5), gradient=False), made(_symmetric(2, 3, 3), gradient=False)),
    )
)


def _solve(a: Array, pivots: Array, b: Array, hermitian: bool) -> None:
    """Solve for one matrix, in place of b."""
    n = len(a)
    upper = a.conj() if hermitian else a
    k = 0
    while k < n:
        step = 1 if pivots[k] > 0 else 2
        last, other = k + step - 1, abs(int(pivots[k])) - 1
        if other != last:
            b[[last, other]] = b[[other, last]]
        b[k + step :] -= a[k + step :, k : k + step] @ b[k : k + step]
        block = _whole(a[k : k + step, k : k + step], hermitian)
        if step == 1:
            b[k] /= block[0, 0]
        else:
            b[k : k + step] = np.linalg.inv(block) @ b[k : k + step]
        k += step
    k = n - 1
    while k >= 0:
        step = 1 if pivots[k] > 0 else 2
        other = abs(int(pivots[k])) - 1
        b[k - step + 1 : k + 1] -= upper[k + 1 :, k - step + 1 : k + 1].T @ b[k + 1 :]
        if other != k:
            b[[k, other]] = b[[other, k]]
        k -= step


def _solve_numpy(a: Array, pivots: Array, b: Array, hermitian: bool) -> Array:
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*lead, *a.shape[-2:]))
    pivots = np.broadcast_to(pivots, (*lead, pivots.shape[-1]))
    x = np.array(np.broadcast_to(b, (*lead, *b.shape[-2:])))
    with np.errstate(all="ignore"):
        for at in np.ndindex(lead):
            _solve(a[at], pivots[at], x[at], hermitian)
    return x


def _solve_infer(a: TensorType, pivots: TensorType, b: TensorType, hermitian: bool) -> TensorType:
    name = "torch.linalg.ldl_solve"
    check_square(name, a, "LD")
    check_floating(name, a)
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"Expected b and A to have the same dtype, but found b of type {b.dtype.scalar_type} and A of type "
            f"{a.dtype.scalar_type} instead."
        )
    if b.rank < 2 or b.shape[-2] != a.shape[-1]:
        rows, columns = (b.shape[-2], b.shape[-1]) if b.rank >= 2 else (b.shape[0], 1)
        raise RuntimeError(
            f"Incompatible matrix sizes for {name}: each A matrix is {a.shape[-1]} by {a.shape[-1]} but each b matrix "
            f"is {rows} by {columns}"
        )
    return b.with_shape((*broadcast(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]))


def _factored(rng: Any) -> list[Array]:
    ld, pivots, _ = _factor_numpy(_symmetric(4, 4)(rng)[0], False)
    return [ld, pivots, rng.normal(size=(4, 2))]


declare(
    Op(
        "linalg_ldl_solve",
        "X of A X = B from `linalg_ldl_factor` of A. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.ldl_solve.html",
        infer=_solve_infer,
        numpy=_solve_numpy,
        attrs=HERMITIAN,
        arity=(3, 3),
        lowering="host",
        samples=(made(_factored, gradient=False),),
    )
)
