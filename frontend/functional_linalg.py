"""The linear algebra functions that are names of `torch` itself: older forms of those in `torch.linalg`."""

from __future__ import annotations

from typing import Any

from . import linalg
from .arguments import also_named
from .autocast import full_precision
from .creation import zeros
from .dispatch import apply, op_named
from .functional_arithmetic import sub
from .functional_matmul import matmul
from .functional_reductions import mean
from .functional_shape import broadcast_to
from .inplace import finish
from .ir.dtypes import DType
from .linalg.common import conjugate_transpose, named, need_square, one_hot_columns
from .linalg.factors import geqrf, ormqr
from .linalg.lobpcg import lobpcg
from .linalg.systems import logdet, need_pivoting, unpacked
from .promotion import get_default_dtype
from .random import randn
from .tensor import Tensor
from .user_warnings import warn_user

inverse, det = linalg.inv, linalg.det
matrix_exp, matrix_power, orgqr = linalg.matrix_exp, linalg.matrix_power, linalg.householder_product

_CHOLESKY_SOLVE, _CHOLESKY_INVERSE, _CHOLESKY, _LU, _ORDER = map(
    op_named,
    (
        "linalg_cholesky_solve",
        "linalg_cholesky_inverse",
        "linalg_cholesky",
        "linalg_lu_factor",
        "linalg_lu_order",
    ),
)


@full_precision
def slogdet(input: Tensor, *, out: Any = None) -> Any:
    """The sign of the determinant and the logarithm of its absolute value."""
    return named("slogdet", linalg.slogdet(input), out)


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """`torch.linalg.pinv` with a tolerance relative to the largest singular value."""
    return linalg.pinv(input, rcond)


@full_precision
def cholesky(input: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """L of A = L L^H, or U of A = U^H U."""
    need_square("cholesky", input)
    factor = apply(_CHOLESKY, (input,), {"upper": upper, "check": "linalg.cholesky"}, "CholeskyBackward0")[0]
    return finish(factor, out, "cholesky")


@also_named(input="B", input2="L")
@full_precision
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """X of A X = B, from the Cholesky factor of A."""
    return finish(apply(_CHOLESKY_SOLVE, (B, L), {"upper": upper}), out, "cholesky_solve")


@also_named(input="L")
@full_precision
def cholesky_inverse(L: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The inverse of A, from its Cholesky factor."""
    return finish(apply(_CHOLESKY_INVERSE, (L,), {"upper": upper}), out, "cholesky_inverse")


def qr(input: Tensor, some: bool = True, *, out: Any = None) -> Any:
    """`torch.linalg.qr`, reduced or complete."""
    return named("qr", tuple(linalg.qr(input, "reduced" if some else "complete")), out)


def svd(input: Tensor, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Any:
    """U, S and V (not V^H) of the singular value decomposition; zeros for U and V without `compute_uv`."""
    if not compute_uv:
        m, n = tuple(input.shape)[-2:]
        lead = tuple(input.shape)[:-2]
        zero = (zeros((*lead, size, size), dtype=input.dtype) for size in (m, n))
        u, v = zero
        return named("svd", (u, linalg.svdvals(input), v), out)
    u, s, vh = linalg.svd(input, not some)
    return named("svd", (u, s, conjugate_transpose(vh)), out)


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """The packed LU factors and the row exchanges; with `get_infos` also info."""
    need_pivoting(pivot)
    found = apply(_LU, (A,), {"check": "" if get_infos else "torch.linalg.lu_factor"})
    return named("_lu_with_info", found, out) if get_infos else tuple(found[:2])


@also_named(input="b")
@full_precision
def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`torch.linalg.lu_solve` with its arguments in another order."""
    return linalg.lu_solve(LU_data, LU_pivots, b, out=out)


def lu_unpack(
    LU_data: Tensor,
    LU_pivots: Tensor,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
    *,
    out: Any = None,
) -> Any:
    """P, L and U from the packed factors."""
    rows = LU_data.shape[-2]
    empty = zeros(0, dtype=LU_data.dtype)
    lower, upper = unpacked(LU_data) if unpack_data else (empty, empty)
    order = apply(_ORDER, (LU_pivots,), {"rows": rows}) if unpack_pivots else None
    permutation = empty if order is None else one_hot_columns(order, rows, LU_data.dtype)
    return named("lu_unpack", (permutation, lower, upper), out)


@also_named(input="b")
def triangular_solve(
    b: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
    *,
    out: Any = None,
) -> Any:
    """X of A X = b for triangular A (of A^T X = b with `transpose`), and a copy of A."""
    if A.dtype is not b.dtype:
        raise RuntimeError(
            f"triangular_solve: Expected b and A to have the same dtype, but found b of type "
            f"{b.dtype.scalar_type} and A of type {A.dtype.scalar_type} instead"
        )
    matrix = A.transpose(-2, -1) if transpose else A
    solution = linalg.solve_triangular(matrix, b, upper=upper != transpose, unitriangular=unitriangular)
    return named("triangular_solve", (solution, A.clone()), out)


def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: DType | None = None,
) -> Tensor:
    """The vector norm of order `p` over the dims (of all elements), or "nuc", the nuclear norm of matrices."""
    dims = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if isinstance(p, str) and p != "fro":
        if dims is None:
            dims = list(range(input.ndim))
        return linalg.matrix_norm(input, p, dims, keepdim, dtype=dtype, out=out)
    order = 2.0 if p is None or p == "fro" else p
    return linalg.vector_norm(input, order, dims, keepdim, dtype=dtype, out=out)


def nuclear_norm(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The sum of the singular values."""
    return linalg.matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, out=out)


def cross(input: Tensor, other: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """The cross product along a dim: by default the first of size 3."""
    if dim is None:
        warn_user(
            "Using torch.cross without specifying the dim arg is deprecated.\nPlease either pass the dim explicitly "
            "or simply use torch.linalg.cross.\nThe default value of dim will change to agree with that of "
            "linalg.cross in a future release.",
            UserWarning,
        )
        dim = next((d for d, size in enumerate(input.shape) if size == 3), None)
        if dim is None:
            raise RuntimeError("no dimension of size 3 in input")
    return linalg.cross(input, other, dim=dim, out=out)


# Low rank: N. Halko, P.-G. Martinsson and J. Tropp, "Finding structure with randomness: probabilistic algorithms for
# constructing approximate matrix decompositions" (2009), https://arxiv.org/abs/0909.4061


def _basis(A: Tensor, q: int, niter: int, M: Tensor | None) -> Tensor:
    """Orthonormal columns that nearly span A - M: algorithm 4.4 of the paper, subspace iteration."""

    def times(matrix: Tensor, mean: Tensor | None, other: Tensor) -> Tensor:
        product = matmul(matrix, other)
        return product if mean is None else sub(product, matmul(mean, other))

    start = randn(
        A.shape[-1], q, dtype=A.dtype if A.dtype.kind in ("float", "complex") else get_default_dtype()
    )
    Q: Tensor = linalg.qr(times(A, M, start)).Q
    AH = conjugate_transpose(A)
    MH = None if M is None else conjugate_transpose(M)
    for _ in range(niter):
        Q = linalg.qr(times(AH, MH, Q)).Q
        Q = linalg.qr(times(A, M, Q)).Q
    return Q


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Nearly the U, S and V of the q largest singular values of A - M, by random projection."""
    m, n = tuple(A.shape)[-2:]
    mean_ = None if M is None else broadcast_to(M, tuple(A.shape))
    if m < n:
        A = conjugate_transpose(A)
        mean_ = None if mean_ is None else conjugate_transpose(mean_)
    Q = _basis(A, 6 if q is None else q, 2 if niter is None else niter, mean_)
    QH = conjugate_transpose(Q)
    B = matmul(QH, A)
    if mean_ is not None:
        B = sub(B, matmul(QH, mean_))
    U, S, Vh = linalg.svd(B, full_matrices=False)
    U, V = matmul(Q, U), conjugate_transpose(Vh)
    return (V, S, U) if m < n else (U, S, V)


def pca_lowrank(
    A: Tensor, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """`svd_lowrank` of A with the mean of its columns taken away: its principal components."""
    least = min(tuple(A.shape)[-2:])
    if q is None:
        q = min(6, least)
    elif not 0 <= q <= least:
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={least}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(sub(A, mean(A, -2, True)) if center else A, q, niter)


# Methods that PyTorch keeps only to say what took their place

_REMOVED = {
    "eig": "torch.linalg.eig(A), whose results are complex",
    "lstsq": "torch.linalg.lstsq(A, B), which has the arguments reversed",
    "solve": "torch.linalg.solve(A, B), which has the arguments reversed and gives no LU factors",
    "symeig": "torch.linalg.eigh(A, UPLO), which reads the lower triangle by default",
}


def removed(name: str) -> Any:
    """The method `name`: RuntimeError."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"This function was deprecated since version 1.9 and is now removed. Use {_REMOVED[name]}, in the place of "
            f"torch.{name}."
        )

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"RuntimeError: removed from PyTorch in favour of {_REMOVED[name]}."
    return method


REMOVED = {name: removed(name) for name in _REMOVED}


# The names of `torch` that are defined here.
__all__ = [
    "cholesky", "cholesky_inverse", "cholesky_solve", "cross", "det", "geqrf", "inverse", "lobpcg", "logdet", "lu",
    "lu_solve", "lu_unpack", "matrix_exp", "matrix_power", "norm", "nuclear_norm", "orgqr", "ormqr",
    "pca_lowrank", "pinverse", "qr", "slogdet", "svd", "svd_lowrank", "triangular_solve",
]  # fmt: skip
