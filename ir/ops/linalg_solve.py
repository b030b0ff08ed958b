"""Systems of equations: inverses, solutions, determinants, LU factors, triangular systems."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import Array, broadcast, made, needed, shape_of
from .contraction import adjoint
from .linalg_common import (
    INFO,
    LinAlgError,
    as_columns,
    check_floating,
    check_matrix,
    check_solvable,
    check_square,
    columns,
    diagonal,
    diagonal_matrix,
    first_failure,
    identity,
    imaginary,
    like,
    lu_arrays,
    lu_solve_array,
    permutation_array,
    rows,
    smaller,
    transposed_array,
    triangle,
    triangular_solve_array,
)

CHECK = Attr(
    "str", ""
)  # the function whose error to raise for a singular matrix; "" to report it in `info` only


def conditioned(rng: Any, *shape: int) -> Array:
    """Random matrices away from singular ones."""
    n = min(shape[-2:])
    made: Array = rng.normal(size=shape)
    made[..., range(n), range(n)] += 3.0
    return made


def well(*shapes: tuple[int, ...], gradient: bool = True, **attrs: Any) -> Sample:
    """Operands that are well conditioned."""
    return made(
        lambda rng: [conditioned(rng, *s) for s in shapes],
        gradient=gradient,
        label="x".join(str(list(s)) for s in shapes),
        **attrs,
    )


def _lu_fallback(a: Array, b: Array) -> tuple[Array, Array]:
    """(X, info) where LAPACK's solver refuses: singular matrices give infinities and NaNs."""
    with np.errstate(all="ignore"):
        lu, pivots, info = lu_arrays(a)
        return lu_solve_array(lu, pivots, b), info


# Inverse


def _inv_infer(a: TensorType, check: str) -> tuple[TensorType, TensorType]:
    check_square("linalg.inv", a)
    check_floating("linalg.inv", a)
    return a, TensorType(a.shape[:-2], INFO)


def _inv_numpy(a: Array, check: str) -> tuple[Array, Array]:
    try:
        return np.linalg.inv(a), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        inverse, info = _lu_fallback(a, np.eye(a.shape[-1], dtype=a.dtype))
    if check and info.any():
        which, number = first_failure(info)
        raise LinAlgError(
            f"{check}: {which}The diagonal element {number} is zero, the inversion could not be completed because "
            "the input matrix is singular."
        )
    return inverse, info


def _inv_vjp(F: Any, ctx: Any, dy: Any, _: Any) -> list[Any]:
    y = adjoint(F, ctx.outputs[0])
    return [F.neg(F.matmul(F.matmul(y, dy), y))]


declare(
    Op(
        "linalg_inv",
        "Inverses of square matrices, and per matrix the column at which elimination found a zero (0: none). "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.inv_ex.html",
        infer=_inv_infer,
        numpy=_inv_numpy,
        attrs={"check": CHECK},
        results=2,
        lowering="host",
        vjp=_inv_vjp,
        saves=("output:0",),
        grad_name="LinalgInvExBackward0",
        samples=(well((3, 3)), well((2, 4, 4)), well((0, 0)), well((0, 2, 2))),
    )
)

# A X = B


def _solve_infer(a: TensorType, b: TensorType, left: bool, check: str) -> tuple[TensorType, TensorType]:
    check_floating("linalg.solve", a)
    check_solvable("linalg.solve", a, b, left)
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    return b.with_shape((*batch, *b.shape[-2:])), TensorType(a.shape[:-2], INFO)


def _solve_numpy(a: Array, b: Array, left: bool, check: str) -> tuple[Array, Array]:
    if not left:
        x, info = _solve_numpy(transposed_array(a), transposed_array(b), True, check)
        return transposed_array(x), info
    try:
        return np.linalg.solve(a, b), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        x, info = _lu_fallback(a, b)
    if check and info.any():
        raise LinAlgError(
            f"{check}: {first_failure(info)[0]}The solver failed because the input matrix is singular."
        )
    return x, info


def _solve_vjp(F: Any, ctx: Any, dy: Any, _: Any) -> list[Any]:
    left, x = ctx.attrs["left"], ctx.outputs[0]
    db = F.linalg_solve(adjoint(F, ctx.inputs[0]), dy, left=left)[0]

    def da() -> Any:
        xh = adjoint(F, x)
        return F.neg(F.matmul(db, xh) if left else F.matmul(xh, db))

    return needed(ctx, da, lambda: db)


declare(
    Op(
        "linalg_solve",
        "X of A X = B (of X A = B without `left`), batch dims broadcast, and info as `linalg_inv`. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve_ex.html",
        infer=_solve_infer,
        numpy=_solve_numpy,
        attrs={"left": Attr("bool", True), "check": CHECK},
        arity=(2, 2),
        results=2,
        lowering="host",
        vjp=_solve_vjp,
        saves=("input:0", "output:0"),
        grad_name="LinalgSolveExBackward0",
        samples=(
            well((3, 3), (3, 2)),
            well((2, 3, 3), (3, 1)),
            well((3, 3), (2, 4, 3), left=False),
            well((3, 3), (3, 0)),
        ),
    )
)

# Determinants


def _det_infer(a: TensorType) -> TensorType:
    check_square("linalg.det", a)
    check_floating("linalg.det", a)
    return a.with_shape(a.shape[:-2])


def _det_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """d det = det tr(A^-1 dA). A zero pivot is replaced by the smallest step of the dtype, as in PyTorch."""
    a, dtype = ctx.inputs[0], F.type_of(ctx.inputs[0]).dtype
    lu, pivots, _ = F.linalg_lu_factor(adjoint(F, a))
    epsilon = float(np.finfo(dtype.numpy).eps)
    pivot = diagonal(F, lu)
    lu = F.add(lu, diagonal_matrix(F, F.where(F.eq(pivot, 0.0), F.mul(F.ones_like(pivot), epsilon), 0.0)))
    right = diagonal_matrix(
        F, F.expand(as_columns(F, F.mul(dy, F.conj(ctx.outputs[0]))), shape=shape_of(F, pivot))
    )
    return [lu_solution(F, lu, pivots, right)]


def lu_solution(F: Any, lu: Any, pivots: Any, b: Any) -> Any:
    """X of A X = B from the factors of A."""
    shape = shape_of(F, b)
    order = F.linalg_lu_order(pivots, rows=shape[-2])
    order = F.expand(as_columns(F, order), shape=shape)
    permuted = F.gather(b, order, dim=len(shape) - 2)
    inner = F.linalg_solve_triangular(lu, permuted, upper=False, unitriangular=True)
    return F.linalg_solve_triangular(lu, inner, upper=True)


declare(
    Op(
        "linalg_det",
        "Determinants of square matrices. https://docs.pytorch.org/docs/stable/generated/torch.linalg.det.html",
        infer=_det_infer,
        numpy=lambda a: np.asarray(np.linalg.det(a), a.dtype),
        lowering="host",
        vjp=_det_vjp,
        saves=("input:0", "output:0"),
        grad_name="LinalgDetBackward0",
        samples=(well((3, 3)), well((2, 4, 4)), well((0, 0))),
    )
)


def _slogdet_infer(a: TensorType) -> tuple[TensorType, TensorType]:
    check_square("linalg.slogdet", a)
    check_floating("linalg.slogdet", a)
    sign = a.with_shape(a.shape[:-2])
    return sign, sign.with_dtype(a.dtype.to_real())


def _slogdet_numpy(a: Array) -> tuple[Array, Array]:
    sign, log = np.linalg.slogdet(a)
    return np.asarray(sign, a.dtype), np.asarray(log, a.real.dtype)


def _slogdet_vjp(F: Any, ctx: Any, dsign: Any, dlog: Any) -> list[Any]:
    """d log det = tr(A^-1 dA), whose real part is that of log |det| and whose imaginary part turns the sign."""
    a = ctx.inputs[0]
    weight = None if dlog is None else like(F, dlog, a)
    if dsign is not None and F.type_of(a).dtype.is_complex:
        turn = F.neg(imaginary(F, F.mul(F.conj(dsign), ctx.outputs[0])))
        weight = turn if weight is None else F.add(weight, turn)
    if weight is None:
        return [F.zeros_like(a)]
    shape = shape_of(F, a)
    right = diagonal_matrix(F, F.expand(as_columns(F, weight), shape=shape[:-1]))
    return [F.linalg_solve(adjoint(F, a), right)[0]]


declare(
    Op(
        "linalg_slogdet",
        "The sign (phase, if complex) of determinants and the logarithm of their absolute values. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.slogdet.html",
        infer=_slogdet_infer,
        numpy=_slogdet_numpy,
        results=2,
        lowering="host",
        vjp=_slogdet_vjp,
        saves=("input:0", "output:0"),
        grad_name="LinalgSlogdetBackward0",
        samples=(well((3, 3)), well((2, 4, 4)), well((0, 0))),
    )
)

# LU


def _lu_infer(a: TensorType, check: str) -> tuple[TensorType, ...]:
    name = "torch.linalg.lu_factor"
    if a.rank < 2:
        raise RuntimeError(
            f"{name}: Expected tensor with 2 or more dimensions. Got size: {list(a.shape)} instead"
        )
    check_floating("linalg.lu_factor", a)
    lead = a.shape[:-2]
    pivots = TensorType((*lead, smaller(*a.shape[-2:])), dtypes.i32)
    return a, pivots, TensorType(lead, INFO)


def _lu_numpy(a: Array, check: str) -> tuple[Array, Array, Array]:
    with np.errstate(all="ignore"):
        lu, pivots, info = lu_arrays(a)
    if check and info.any():
        which, number = first_failure(info)
        raise RuntimeError(
            f"{check}: {which}U[{number},{number}] is zero and using it on lu_solve would result in a division by "
            "zero. If you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
            "linalg.lu_factor_ex(A, pivot)"
        )
    return lu, pivots, info


def _lu_vjp(F: Any, ctx: Any, dy: Any, *_: Any) -> list[Any]:
    """Of A = P L U: dA = P L^-H (tril(L^H dL, -1) + triu(dU U^H)) U^-H for square A. The rows of a tall L, and the
    columns of a wide U, below and beside the square part depend on it through a triangular solve."""
    lu, pivots = ctx.outputs[0], ctx.outputs[1]
    m, n = shape_of(F, lu)[-2:]
    k = smaller(m, n)
    dl = triangle(F, columns(F, dy, 0, k), upper=False, strict=True)
    du = triangle(F, rows(F, dy, 0, k), upper=True)
    square = columns(F, rows(F, lu, 0, k), 0, k)
    below = beside = None
    lh, uh = adjoint(F, square), adjoint(F, square)  # L^H is in the upper triangle, U^H in the lower
    if m != k:
        below = F.linalg_solve_triangular(uh, rows(F, dl, k, m), upper=False, left=False)
        du = F.sub(du, triangle(F, F.matmul(adjoint(F, rows(F, lu, k, m)), below), upper=True))
        dl = rows(F, dl, 0, k)
    if n != k:
        beside = F.linalg_solve_triangular(lh, columns(F, du, k, n), upper=True, unitriangular=True)
        dl = F.sub(
            dl, triangle(F, F.matmul(beside, adjoint(F, columns(F, lu, k, n))), upper=False, strict=True)
        )
        du = columns(F, du, 0, k)
    lower = F.add(triangle(F, square, upper=False, strict=True), identity(F, k, F.type_of(lu).dtype))
    upper = triangle(F, square, upper=True)
    inner = F.add(
        triangle(F, F.matmul(adjoint(F, lower), dl), upper=False, strict=True),
        triangle(F, F.matmul(du, adjoint(F, upper)), upper=True),
    )
    da = F.linalg_solve_triangular(lh, inner, upper=True, unitriangular=True)
    da = F.linalg_solve_triangular(uh, da, upper=False, left=False)
    axis = len(shape_of(F, lu))
    if below is not None:
        da = F.concat(da, below, dim=axis - 2)
    if beside is not None:
        da = F.concat(da, beside, dim=axis - 1)
    order = F.linalg_lu_order(pivots, rows=m)
    inverse = F.expand(as_columns(F, F.linalg_inverse_order(order)), shape=shape_of(F, da))
    return [F.gather(da, inverse, dim=axis - 2)]


declare(
    Op(
        "linalg_lu_factor",
        "L and U of A = P L U in one matrix (L without its unit diagonal), the row exchanges counted from 1, and info "
        "as `linalg_inv`. https://docs.pytorch.org/docs/stable/generated/torch.linalg.lu_factor_ex.html",
        infer=_lu_infer,
        numpy=_lu_numpy,
        attrs={"check": CHECK},
        results=3,
        lowering="host",
        vjp=_lu_vjp,
        saves=("output:0", "output:1"),
        grad_name="LinalgLuFactorExBackward0",
        samples=(well((3, 3)), well((2, 5, 3)), well((3, 5)), well((40, 40), gradient=False), well((0, 2))),
    )
)


def _pivots(rng: Any) -> list[Array]:
    return [np.array([[3, 3, 4], [1, 2, 3]], np.int32)]


def _order_infer(pivots: TensorType, rows: Any) -> TensorType:
    if pivots.dtype is not dtypes.i32:
        raise RuntimeError(
            "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\nNote: this "
            "function is intended to be used with the output produced by torch.linalg.lu_factor"
        )
    return TensorType((*pivots.shape[:-1], rows), dtypes.i64)


def _order_numpy(pivots: Array, rows: int) -> Array:
    if pivots.size and pivots.min() < 1:
        raise RuntimeError(
            "Pivots given to lu_solve must all be greater or equal to 1. Did you properly pass the result of "
            "lu_factor?"
        )
    if pivots.size and pivots.max() > rows:
        raise RuntimeError(
            "Pivots given to lu_solve must all be smaller or equal to LU.size(-2). Did you properly pass the result of "
            "lu_factor?"
        )
    return permutation_array(pivots, rows)


declare(
    Op(
        "linalg_lu_order",
        "Row exchanges as an order: row i of P^T A is row order[i] of A.",
        infer=_order_infer,
        numpy=_order_numpy,
        attrs={"rows": Attr("int")},
        lowering="host",
        samples=(made(_pivots, gradient=False, rows=4),),
    )
)
declare(
    Op(
        "linalg_inverse_order",
        "The inverse of an order of rows.",
        infer=lambda order: order,
        numpy=lambda order: np.argsort(order, -1).astype(np.int64),
        lowering="host",
        samples=(made(lambda rng: [np.array([[2, 0, 1], [0, 1, 2]])], gradient=False),),
    )
)

# Triangular systems

TRIANGULAR = {
    "upper": Attr("bool"),
    "left": Attr("bool", True),
    "unitriangular": Attr("bool", False),
}


def _triangular_infer(
    a: TensorType, b: TensorType, upper: bool, left: bool, unitriangular: bool
) -> TensorType:
    name = "linalg.solve_triangular"
    check_matrix(name, a)
    check_floating(name, a)
    check_solvable(name, a, b, left)
    return b.with_shape((*broadcast(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]))


def _triangular_numpy(a: Array, b: Array, upper: bool, left: bool, unitriangular: bool) -> Array:
    with np.errstate(all="ignore"):
        if left:
            return triangular_solve_array(a, b, upper, unitriangular)
        x = triangular_solve_array(transposed_array(a), transposed_array(b), not upper, unitriangular)
        return transposed_array(x)


def _triangular_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    a, x = ctx.inputs[0], ctx.outputs[0]
    upper, left, unit = (ctx.attrs[name] for name in ("upper", "left", "unitriangular"))
    db = F.linalg_solve_triangular(adjoint(F, a), dy, upper=not upper, left=left, unitriangular=unit)

    def da() -> Any:
        xh = adjoint(F, x)
        return F.neg(triangle(F, F.matmul(db, xh) if left else F.matmul(xh, db), upper, strict=unit))

    return needed(ctx, da, lambda: db)


declare(
    Op(
        "linalg_solve_triangular",
        "`linalg_solve` for triangular A, of which only that triangle is read. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve_triangular.html",
        infer=_triangular_infer,
        numpy=_triangular_numpy,
        attrs=TRIANGULAR,
        arity=(2, 2),
        lowering="host",
        vjp=_triangular_vjp,
        saves=("input:0", "output:0"),
        grad_name="LinalgSolveTriangularBackward0",
        samples=(
            well((3, 3), (3, 2), upper=True),
            well((2, 3, 3), (3, 2), upper=False),
            well((3, 3), (2, 2, 3), upper=True, left=False, unitriangular=True),
            well((3, 3), (2, 3), upper=False, left=False),
        ),
    )
)
