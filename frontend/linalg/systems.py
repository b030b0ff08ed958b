"""Systems of equations: inverses, determinants, solutions, LU factors, least squares.

See https://docs.pytorch.org/docs/stable/linalg.html for what each function takes and returns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import capture
from ..arguments import also_named, need_floating
from ..autocast import full_precision
from ..creation import empty, eye, zeros
from ..dispatch import apply, constant, op_named
from ..functional_arithmetic import add, mul, sub
from ..functional_host import host_array
from ..functional_matmul import matmul
from ..functional_pointwise import abs, log, lt, where
from ..functional_reductions import sum
from ..functional_shape import expand, movedim, reshape, squeeze, stack, tril, triu, unsqueeze
from ..functional_slices import narrow
from ..inplace import finish
from ..ir import dtypes
from ..ir.dims import product
from ..ir.ops.linalg_common import LinAlgError
from ..promotion import as_operand
from ..tape_folded import folded
from ..tensor import Tensor
from .common import conjugate_transpose, named, need_square, one_hot_columns

_INV, _SOLVE, _DET, _SLOGDET, _LU, _ORDER, _INVERSE_ORDER, _TRIANGULAR, _PINV, _LSTSQ, _GATHER = map(
    op_named,
    (
        "linalg_inv",
        "linalg_solve",
        "linalg_det",
        "linalg_slogdet",
        "linalg_lu_factor",
        "linalg_lu_order",
        "linalg_inverse_order",
        "linalg_solve_triangular",
        "linalg_pinv",
        "linalg_lstsq",
        "gather",
    ),
)


@also_named(input="A")
@full_precision
def inv(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The inverse of square matrices; LinAlgError for a singular one."""
    return finish(apply(_INV, (A,), {"check": "linalg.inv"})[0], out, "linalg_inv")


def inv_ex(A: Tensor, *, check_errors: bool = False, out: Any = None) -> Any:
    """The inverse, and info: 0, or the column at which a matrix turned out singular."""
    return named("linalg_inv_ex", apply(_INV, (A,), {"check": "linalg.inv_ex" if check_errors else ""}), out)


@also_named(input="A")
def det(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The determinant of square matrices."""
    return finish(apply(_DET, (A,)), out, "linalg_det")


@also_named(input="A")
def slogdet(A: Tensor, *, out: Any = None) -> Any:
    """The sign of the determinant and the logarithm of its absolute value."""
    return named("linalg_slogdet", apply(_SLOGDET, (A,)), out)


def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant: NaN where that is negative."""
    need_square("logdet", input)
    need_floating("logdet", input, False)
    sign, size = apply(_SLOGDET, (input,))
    if input.dtype.is_complex:
        return add(log(sign), size)
    return where(lt(sign, 0), constant(math.nan, sign.dtype), size)


def _is_vector(A: Tensor, B: Tensor) -> bool:
    """Whether B is one vector per matrix of A."""
    return B.ndim == 1 or (A.ndim - 1 == B.ndim and tuple(B.shape) == tuple(A.shape)[:-1])


def _solve_ex(A: Tensor, B: Tensor, left: bool, check: str) -> tuple[Tensor, Tensor]:
    if A.ndim >= 2 and _is_vector(A, B):
        result, info = apply(_SOLVE, (A, unsqueeze(B, -1)), {"left": left, "check": check})
        return squeeze(result, -1), info
    solved: tuple[Tensor, Tensor] = apply(_SOLVE, (A, B), {"left": left, "check": check})
    return solved


@full_precision
def solve(A: Tensor, B: Tensor, *, left: bool = True, out: Tensor | None = None) -> Tensor:
    """X of A X = B, or of X A = B without `left`; LinAlgError for singular A."""
    return finish(_solve_ex(A, B, left, "torch.linalg.solve")[0], out, "linalg_solve")


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """`solve`, and info as of `inv_ex`."""
    check = "torch.linalg.solve_ex" if check_errors else ""
    return named("linalg_solve_ex", _solve_ex(A, B, left, check), out)


def solve_triangular(
    A: Tensor,
    B: Tensor,
    *,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """`solve` for triangular A, of which only the triangle is read."""
    attrs = {"upper": upper, "left": left, "unitriangular": unitriangular}
    return finish(apply(_TRIANGULAR, (A, B), attrs), out, "linalg_solve_triangular")


# LU


def need_pivoting(pivot: bool) -> None:
    """RuntimeError for LU without row exchanges, which only GPUs have."""
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")


def lu_factor(A: Tensor, *, pivot: bool = True, out: Any = None) -> Any:
    """L and U in one matrix, and the row exchanges; RuntimeError for singular A."""
    need_pivoting(pivot)
    return named("linalg_lu_factor", apply(_LU, (A,), {"check": "torch.linalg.lu_factor"})[:2], out)


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """`lu_factor`, and info as of `inv_ex`."""
    need_pivoting(pivot)
    check = "torch.linalg.lu_factor_ex" if check_errors else ""
    return named("linalg_lu_factor_ex", apply(_LU, (A,), {"check": check}), out)


def unpacked(LU: Tensor) -> tuple[Tensor, Tensor]:
    """L with its unit diagonal, and U."""
    m, n = tuple(LU.shape)[-2:]
    k = min(m, n)
    lower = tril(narrow(LU, -1, 0, k), -1)
    return add(lower, eye(m, k, dtype=LU.dtype)), triu(narrow(LU, -2, 0, k))


def lu(A: Tensor, *, pivot: bool = True, out: Any = None) -> Any:
    """P, L and U of A = P L U."""
    need_pivoting(pivot)
    LU, pivots, _ = apply(_LU, (A,))
    L, U = unpacked(LU)
    P = one_hot_columns(apply(_ORDER, (pivots,), {"rows": A.shape[-2]}), A.shape[-2], A.dtype)
    return named("linalg_lu", (P, L, U), out)


def _reordered(B: Tensor, order: Tensor) -> Tensor:
    lead = np.broadcast_shapes(tuple(B.shape)[:-2], tuple(order.shape)[:-1])
    shape = (*lead, *tuple(B.shape)[-2:])
    rows: Tensor = apply(
        _GATHER, (expand(B, shape), expand(unsqueeze(order, -1), shape)), {"dim": len(shape) - 2}
    )
    return rows


def lu_solve(
    LU: Tensor,
    pivots: Tensor,
    B: Tensor,
    *,
    left: bool = True,
    adjoint: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """X of A X = B from the factors of A; `adjoint` for A^H, without `left` for X A = B."""
    if B.ndim < 2:
        raise RuntimeError("linalg.lu_solve: The input tensor B must have at least 2 dimensions.")
    need_square("linalg.lu_solve", LU, "LU")

    def compute() -> Tensor:
        if not left:
            return conjugate_transpose(solved(conjugate_transpose(B), not adjoint))
        return solved(B, adjoint)

    def solved(right: Tensor, conjugate: bool) -> Tensor:
        order = apply(_ORDER, (pivots,), {"rows": LU.shape[-1]})
        if not conjugate:
            inner = solve_triangular(LU, _reordered(right, order), upper=False, unitriangular=True)
            return solve_triangular(LU, inner, upper=True)
        swapped = conjugate_transpose(LU)
        inner = solve_triangular(swapped, right, upper=False)
        inner = solve_triangular(swapped, inner, upper=True, unitriangular=True)
        return _reordered(inner, apply(_INVERSE_ORDER, (order,)))

    return finish(folded("LinalgLuSolveBackward0", (LU, B), compute), out, "linalg_lu_solve")


# Pseudo-inverse, least squares


def tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Tensor, Tensor]:
    """The absolute and relative size up to which singular values count as 0, as tensors of A's real dtype."""
    dtype = A.dtype.to_real()
    if rtol is None:
        machine = float(np.finfo(dtype.numpy).eps) * max(tuple(A.shape)[-2:])
        rtol = machine
        if atol is not None:
            # The default only where no absolute tolerance is asked for.
            if isinstance(atol, Tensor):
                rtol = where(atol > 0, constant(0.0, dtype), constant(machine, dtype))
            elif atol > 0:
                rtol = 0.0
    return as_operand(0.0 if atol is None else atol, dtype), as_operand(rtol, dtype)


def pinv(
    A: Tensor,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """The Moore-Penrose inverse; singular values up to max(atol, rtol * the largest) count as 0."""
    if A.ndim < 2 or A.dtype.kind not in ("float", "complex"):
        apply(_PINV, (A, zeros(2)), {"hermitian": hermitian})  # which raises
    limits = tolerances(A, atol, rtol if rcond is None else rcond)
    low, high = (expand(t, np.broadcast_shapes(*(tuple(x.shape) for x in limits))) for t in limits)
    return finish(apply(_PINV, (A, stack([low, high], -1)), {"hermitian": hermitian}), out, "linalg_pinv")


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Tensor, B: Tensor, rcond: Any = None, *, driver: str | None = None) -> Any:
    """The X that minimizes |A X - B|, with residuals, rank and singular values as the driver gives them."""
    name = "torch.linalg.lstsq"
    if driver is not None and driver not in _DRIVERS:
        raise RuntimeError(f"{name}: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if B.ndim < 1:
        raise RuntimeError(f"{name}: other must have at least 1 dimension.")
    if A.dtype is not B.dtype:
        raise RuntimeError(f"{name}: input and other must have the same dtype")
    vector = A.ndim - 1 == B.ndim and tuple(B.shape) == tuple(A.shape)[:-1]
    m, n = tuple(A.shape)[-2:]
    if not vector and B.shape[-2] != m:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size(-2)")
    right = unsqueeze(B, -1) if vector else B
    real = A.dtype.to_real()
    if rcond is None:
        rcond = float(np.finfo(real.numpy).eps) * max(m, n)
    solution, rank, values = apply(_LSTSQ, (A, right, as_operand(rcond, real)))
    residuals = empty(0, dtype=real)
    if m > n and driver not in (None, "gelsy"):
        if driver == "gels" and capture.active() is None:
            _need_full_rank(rank, n)
        if driver == "gels" or bool((host_array(rank, "linalg.lstsq with this driver") == n).all()):
            size = abs(sub(matmul(A, solution), right))
            residuals = sum(mul(size, size), -2)
    empties = empty(0, dtype=dtypes.i64) if driver == "gels" else rank
    shown = values if driver in ("gelsd", "gelss") else empty(0, dtype=real)
    return named(
        "linalg_lstsq",
        (squeeze(solution, -1) if vector else solution, residuals, empties, shown.detach()),
    )


def _need_full_rank(rank: Tensor, n: int) -> None:
    """LinAlgError for the driver that takes full rank for granted."""
    low = np.flatnonzero(host_array(rank, "linalg.lstsq with driver gels").reshape(-1) < n)
    if low.size:
        which = f"(Batch element {low[0]}): " if rank.ndim else ""
        raise LinAlgError(
            f"torch.linalg.lstsq: {which}The least squares solution could not be computed because the input matrix "
            f"does not have full rank (error code: {int(host_array(rank, 'lstsq').reshape(-1)[low[0]]) + 1})."
        )


# Tensors as matrices


@full_precision
def tensorinv(A: Tensor, ind: int = 2, *, out: Tensor | None = None) -> Tensor:
    """The inverse for `tensordot` over the last dims of A, from `ind` on."""
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    shape = tuple(A.shape)
    first, last = product(shape[:ind]), product(shape[ind:])
    if first != last:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{last} != {first}"
        )
    return finish(reshape(inv(reshape(A, (last, first))), (*shape[ind:], *shape[:ind])), out, "tensorinv")


@full_precision
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None, *, out: Tensor | None = None) -> Tensor:
    """X of tensordot(A, X) = B; `dims` of A are moved to its end first."""
    if dims is not None:
        at = [d % A.ndim for d in dims]
        A = movedim(A, at, list(range(A.ndim - len(at), A.ndim)))
    shape = tuple(A.shape)
    given = product(shape[: B.ndim])
    wanted = product(shape[B.ndim :])
    if given != wanted:
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
            f"but got {wanted} != {given}"
        )
    solution = solve(reshape(A, (given, wanted)), reshape(B, (-1,)))
    return finish(reshape(solution, shape[B.ndim :]), out, "tensorsolve")
