"""What the linear algebra ops share: checks in PyTorch's words, triangles and diagonals, and the factorizations that
NumPy lacks (LU, triangular solves), over stacks of matrices `[..., m, n]`.

The ops run on the host, through NumPy's LAPACK. Their gradients are ordinary rules over ops; the formulas are those
of Giles, "Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008), where
a file names no other source, with conjugates for complex matrices.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..dims import DimLike
from ..types import TensorType
from .common import Array, Shape, part, shape_of, shape_text

INFO = dtypes.i32
BLOCK = 32  # columns of a panel in the blocked LU factorization


class LinAlgError(RuntimeError):
    """A matrix for which the result does not exist: singular, not positive definite, no convergence."""


# Checks


def check_floating(name: str, a: TensorType) -> None:
    """RuntimeError for dtypes that LAPACK has no routines for."""
    if a.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {a.dtype.scalar_type}"
        )
    if a.dtype in (dtypes.f16, dtypes.bf16):
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {a.dtype.scalar_type}")


def check_matrix(name: str, a: TensorType, argument: str = "A") -> None:
    if a.rank < 2:
        raise RuntimeError(f"{name}: The input tensor {argument} must have at least 2 dimensions.")


def check_square(name: str, a: TensorType, argument: str = "A") -> None:
    check_matrix(name, a, argument)
    if a.shape[-1] != a.shape[-2]:
        prefix = f"{name}: " if name else ""
        raise RuntimeError(
            f"{prefix}{argument} must be batches of square matrices, but they are {a.shape[-2]} by {a.shape[-1]} "
            "matrices"
        )


def check_solvable(name: str, a: TensorType, b: TensorType, left: bool) -> None:
    """RuntimeError where A X = B (or X A = B) makes no sense for the types."""
    prefix = f"{name}: " if name else ""
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"{prefix}Expected A and B to have the same dtype, but found A of type {a.dtype.scalar_type} and B of "
            f"type {b.dtype.scalar_type} instead"
        )
    check_square(name, a)
    if b.rank < 2:
        raise RuntimeError(f"{prefix}The input tensor B must have at least 2 dimensions.")
    if a.shape[-1] != b.shape[-2 if left else -1]:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"{prefix}Incompatible shapes of A and B for the equation {equation} ({a.shape[-2]}x{a.shape[-1]} and "
            f"{b.shape[-2]}x{b.shape[-1]})"
        )


def smaller(m: DimLike, n: DimLike) -> DimLike:
    """min(m, n); RuntimeError where symbolic dims do not say which that is."""
    if isinstance(m, int) and isinstance(n, int):
        return min(m, n)
    if m == n:
        return m
    raise RuntimeError(
        f"the rows and columns of a matrix that is factored must be known, got {shape_text((m, n))}"
    )


def first_failure(info: Array) -> tuple[str, int]:
    """Of the info of a stack of matrices the first that is not 0, and how messages name its matrix."""
    flat = info.reshape(-1)
    at = int(np.flatnonzero(flat)[0])
    return (f"(Batch element {at}): " if info.ndim else ""), int(flat[at])


def transposed_array(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def adjoint_array(a: Array) -> Array:
    return np.conjugate(np.swapaxes(a, -1, -2))


def stacked(a: Array) -> Array:
    """The stack with one leading dim, copied."""
    return np.array(a.reshape((math.prod(a.shape[:-2]), *a.shape[-2:])))


# LU, by columns in panels (Golub and Van Loan, "Matrix Computations", section 3.4)


def lu_arrays(a: Array) -> tuple[Array, Array, Array]:
    """(LU packed, pivots counted from 1, info) of `[..., m, n]`, with row exchanges, as LAPACK's getrf."""
    lead, (m, n) = a.shape[:-2], a.shape[-2:]
    lu = stacked(a)
    k = min(m, n)
    count = len(lu)
    pivots = np.zeros((count, k), np.int32)
    info = np.zeros(count, np.int32)
    every = np.arange(count)
    for start in range(0, k, BLOCK):
        stop = min(start + BLOCK, k)
        for j in range(start, stop):
            column = lu[:, j:, j]
            size = np.abs(column.real) + np.abs(column.imag) if column.dtype.kind == "c" else np.abs(column)
            pivot = size.argmax(1) + j
            pivots[:, j] = pivot + 1
            lu[every, j], lu[every, pivot] = lu[every, pivot], lu[every, j]
            diagonal = lu[:, j, j]
            zero = diagonal == 0
            info[zero & (info == 0)] = j + 1
            lu[:, j + 1 :, j] /= np.where(zero, 1, diagonal)[:, None]
            lu[:, j + 1 :, j + 1 : stop] -= lu[:, j + 1 :, j, None] * lu[:, j, None, j + 1 : stop]
        if stop < n:
            for j in range(start + 1, stop):
                lu[:, j, stop:] -= (lu[:, j, None, start:j] @ lu[:, start:j, stop:])[:, 0]
            lu[:, stop:, stop:] -= lu[:, stop:, start:stop] @ lu[:, start:stop, stop:]
    return lu.reshape(a.shape), pivots.reshape((*lead, k)), info.reshape(lead)


def permutation_array(pivots: Array, rows: int) -> Array:
    """The order of rows that the exchanges lead to: row i of P^T A is row perm[i] of A."""
    flat = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1])
    order = np.tile(np.arange(rows, dtype=np.int64), (len(flat), 1))
    every = np.arange(len(flat))
    for i in range(flat.shape[1]):
        other = flat[:, i] - 1
        order[every, i], order[every, other] = order[every, other], order[every, i]
    return order.reshape((*pivots.shape[:-1], rows))


def triangular_solve_array(a: Array, b: Array, upper: bool, unit: bool) -> Array:
    """X of A X = B for triangular A; zeros on the diagonal give infinities and NaNs, as BLAS's trsm."""
    a = np.triu(a) if upper else np.tril(a)
    n = a.shape[-1]
    if unit:
        a[..., range(n), range(n)] = 1
    if not upper:
        # An upper triangle passes LAPACK's elimination with row exchanges unchanged; a lower one would not.
        return triangular_solve_array(a[..., ::-1, ::-1], b[..., ::-1, :], True, False)[..., ::-1, :]
    if np.all(np.diagonal(a, 0, -2, -1)):
        return np.linalg.solve(a, b)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, (*lead, *b.shape[-2:])))
    for i in range(n - 1, -1, -1):
        x[..., i, :] -= (a[..., i, None, i + 1 :] @ x[..., i + 1 :, :])[..., 0, :]
        x[..., i, :] /= a[..., i, i, None]
    return x


def lu_solve_array(lu: Array, pivots: Array, b: Array) -> Array:
    """X of A X = B from the factors of A."""
    order = permutation_array(pivots, b.shape[-2])
    lead = np.broadcast_shapes(lu.shape[:-2], b.shape[:-2])
    b = np.broadcast_to(b, (*lead, *b.shape[-2:]))
    order = np.broadcast_to(order, (*lead, order.shape[-1]))
    permuted = np.take_along_axis(b, order[..., None], -2)
    return triangular_solve_array(lu, triangular_solve_array(lu, permuted, False, True), True, False)


# Triangles and diagonals, in gradient rules


def _positions(F: Any, shape: Shape) -> tuple[Any, Any]:
    rows, columns = shape[-2:]
    return (
        F.iota(shape=(rows, 1), dim=0, dtype=dtypes.i64),
        F.iota(shape=(1, columns), dim=1, dtype=dtypes.i64),
    )


def triangle(F: Any, x: Any, upper: bool, strict: bool = False) -> Any:
    """The upper or lower triangle, zero elsewhere; `strict` without the diagonal."""
    row, column = _positions(F, shape_of(F, x))
    name = ("gt" if strict else "ge") if upper else ("lt" if strict else "le")
    return F.where(getattr(F, name)(column, row), x, 0.0)


def on_diagonal(F: Any, shape: Shape) -> Any:
    """Where the diagonal is."""
    row, column = _positions(F, shape)
    return F.eq(row, column)


def diagonal(F: Any, x: Any) -> Any:
    """The main diagonals of square matrices, as vectors."""
    shape = shape_of(F, x)
    return F.sum(F.where(on_diagonal(F, shape), x, 0.0), dims=(len(shape) - 1,))


def as_columns(F: Any, v: Any) -> Any:
    """`[..., n]` as `[..., n, 1]`: to scale rows."""
    return F.reshape(v, shape=(*shape_of(F, v), 1))


def as_rows(F: Any, v: Any) -> Any:
    """`[..., n]` as `[..., 1, n]`: to scale columns."""
    shape = shape_of(F, v)
    return F.reshape(v, shape=(*shape[:-1], 1, shape[-1]))


def diagonal_matrix(F: Any, v: Any) -> Any:
    """Square matrices with these diagonals."""
    size = shape_of(F, v)[-1]
    return F.where(on_diagonal(F, (size, size)), as_columns(F, v), 0.0)


def identity(F: Any, size: DimLike, dtype: dtypes.DType) -> Any:
    return F.convert(on_diagonal(F, (size, size)), dtype=dtype)


def columns(F: Any, x: Any, start: DimLike, stop: DimLike) -> Any:
    """x[..., start:stop]."""
    return part(F, x, -1, start, stop)


def rows(F: Any, x: Any, start: DimLike, stop: DimLike) -> Any:
    """x[..., start:stop, :]."""
    return part(F, x, -2, start, stop)


def like(F: Any, value: Any, other: Any) -> Any:
    """A real value in the (perhaps complex) dtype of the other."""
    dtype = F.type_of(other).dtype
    return value if F.type_of(value).dtype is dtype else F.convert(value, dtype=dtype)


def real_part(F: Any, x: Any) -> Any:
    dtype = F.type_of(x).dtype
    return F.convert(x, dtype=dtype.to_real()) if dtype.is_complex else x


def imaginary(F: Any, x: Any) -> Any:
    """i Im(x), in the dtype of complex x."""
    return F.mul(F.sub(x, F.conj(x)), 0.5)
