"""Singular values, eigenvalues, and what is made of them: pseudo-inverses, least squares; matrix exponentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, broadcast, check_same_dtype, made, needed, shape_of
from .complex_numbers import complex_dtype, real_dtype
from .contraction import adjoint
from .linalg_common import (
    LinAlgError,
    adjoint_array,
    as_columns,
    as_rows,
    check_floating,
    check_matrix,
    check_square,
    columns,
    diagonal,
    diagonal_matrix,
    imaginary,
    like,
    on_diagonal,
    rows,
    smaller,
    stacked,
)
from .linalg_solve import well


def _each(name: str, compute: Callable[[Array], Any], a: Array, what: str) -> None:
    """Raise the error of the first matrix of the stack for which LAPACK does not converge."""
    for number, matrix in enumerate(stacked(a)):
        try:
            compute(matrix)
        except np.linalg.LinAlgError:
            which = f"(Batch element {number}): " if a.ndim > 2 else ""
            finite = bool(np.isfinite(matrix).all())
            reason = (
                f"is ill-conditioned or has too many repeated {what} values (error code: {len(matrix) - 1})."
                if finite
                else "contained non-finite values."
            )
            raise LinAlgError(
                f"{name}: {which}The algorithm failed to converge because the input matrix {reason}"
            ) from None


# Singular values


def _svd_infer(a: TensorType, full_matrices: bool) -> tuple[TensorType, TensorType, TensorType]:
    check_matrix("linalg.svd", a)
    check_floating("linalg.svd", a)
    lead, (m, n) = a.shape[:-2], a.shape[-2:]
    k = smaller(m, n)
    return (
        a.with_shape((*lead, m, m if full_matrices else k)),
        TensorType((*lead, k), real_dtype(a.dtype)),
        a.with_shape((*lead, n if full_matrices else k, n)),
    )


def _svd_numpy(a: Array, full_matrices: bool) -> tuple[Array, Array, Array]:
    try:
        u, s, vh = np.linalg.svd(a, full_matrices)
    except np.linalg.LinAlgError:
        _each("linalg.svd", np.linalg.svd, a, "singular")
        raise
    return u, s, vh


def _gap(F: Any, values: Any, other: Any) -> Any:
    """values[j] combined with the others: `other(row, column)`, with ones on the diagonal."""
    found = other(as_rows(F, values), as_columns(F, values))
    return F.where(on_diagonal(F, shape_of(F, found)), F.ones_like(found), found)


def _off_diagonal(F: Any, x: Any) -> Any:
    return F.where(on_diagonal(F, shape_of(F, x)), F.zeros_like(x), x)


def _svd_vjp(F: Any, ctx: Any, du: Any, ds: Any, dvh: Any) -> list[Any]:
    """J. Townsend, "Differentiating the singular value decomposition" (2016); for complex matrices the phases of the
    singular vectors must not matter to the result."""
    u, s, vh = ctx.outputs
    m, n = shape_of(F, u)[-2], shape_of(F, vh)[-1]
    k = shape_of(F, s)[-1]
    if ctx.attrs["full_matrices"]:
        u, vh = columns(F, u, 0, k), rows(F, vh, 0, k)
        du = None if du is None else columns(F, du, 0, k)
        dvh = None if dvh is None else rows(F, dvh, 0, k)
    across = like(F, as_rows(F, s), u)
    down = like(F, as_columns(F, s), u)
    inner = None if ds is None else diagonal_matrix(F, like(F, ds, u))
    gap = like(F, _gap(F, s, lambda row, column: F.mul(F.sub(row, column), F.add(row, column))), u)

    def joined(total: Any, part: Any) -> Any:
        return part if total is None else F.add(total, part)

    def skew(x: Any) -> Any:
        return F.div(_off_diagonal(F, F.sub(x, adjoint(F, x))), gap)

    if du is not None:
        turned = F.matmul(adjoint(F, u), du)
        inner = joined(inner, F.mul(skew(turned), across))
        if F.type_of(u).dtype.is_complex:
            inner = joined(inner, F.div(diagonal_matrix(F, imaginary(F, diagonal(F, turned))), across))
    if dvh is not None:
        inner = joined(inner, F.mul(skew(F.matmul(vh, adjoint(F, dvh))), down))
    assert inner is not None
    da = F.matmul(F.matmul(u, inner), vh)
    if du is not None and m != k:
        outside = F.sub(du, F.matmul(u, F.matmul(adjoint(F, u), du)))
        da = F.add(da, F.matmul(F.div(outside, across), vh))
    if dvh is not None and n != k:
        outside = F.sub(dvh, F.matmul(F.matmul(dvh, adjoint(F, vh)), vh))
        da = F.add(da, F.matmul(u, F.div(outside, down)))
    return [da]


declare(
    Op(
        "linalg_svd",
        "U, S and V^H of A = U diag(S) V^H. https://docs.pytorch.org/docs/stable/generated/torch.linalg.svd.html",
        infer=_svd_infer,
        numpy=_svd_numpy,
        attrs={"full_matrices": Attr("bool", True)},
        results=3,
        lowering="host",
        vjp=_svd_vjp,
        saves=("output:0", "output:1", "output:2"),
        grad_name="LinalgSvdBackward0",
        samples=(
            well((3, 3), full_matrices=False),
            well((2, 4, 3), full_matrices=False),
            well((3, 5), full_matrices=False),
            well((3, 4), gradient=False),
        ),
    )
)


def _svdvals_infer(a: TensorType) -> TensorType:
    return _svd_infer(a, False)[1]


def _svdvals_numpy(a: Array) -> Array:
    try:
        values: Array = np.linalg.svd(a, compute_uv=False)
    except np.linalg.LinAlgError:
        values = np.full((*a.shape[:-2], min(a.shape[-2:])), np.nan, a.real.dtype)
        for at in np.ndindex(a.shape[:-2]):
            if np.isfinite(a[at]).all():
                values[at] = np.linalg.svd(a[at], compute_uv=False)
    return values


def _svdvals_vjp(F: Any, ctx: Any, ds: Any) -> list[Any]:
    u, _, vh = F.linalg_svd(ctx.inputs[0], full_matrices=False)
    return [F.matmul(F.mul(u, like(F, as_rows(F, ds), u)), vh)]


declare(
    Op(
        "linalg_svdvals",
        "Singular values, the largest first.",
        infer=_svdvals_infer,
        numpy=_svdvals_numpy,
        lowering="host",
        vjp=_svdvals_vjp,
        saves=("input:0",),
        grad_name="LinalgSvdBackward0",
        samples=(well((3, 3)), well((2, 4, 3)), well((3, 5))),
    )
)

# Hermitian eigenvalues

UPLO = {"UPLO": Attr("str", "L")}


def _eigh_infer(a: TensorType, UPLO: str) -> tuple[TensorType, TensorType]:
    check_square("linalg.eigh", a)
    check_floating("linalg.eigh", a)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return TensorType(a.shape[:-1], real_dtype(a.dtype)), a


def _eigh_numpy(a: Array, UPLO: str) -> tuple[Array, Array]:
    try:
        values, vectors = np.linalg.eigh(a, "U" if UPLO in "Uu" else "L")
    except np.linalg.LinAlgError:
        values = np.full(a.shape[:-1], np.nan, a.real.dtype)
        vectors = np.full(a.shape, np.nan, a.dtype)
        for at in np.ndindex(a.shape[:-2]):
            if np.isfinite(a[at]).all():
                values[at], vectors[at] = np.linalg.eigh(a[at], "U" if UPLO in "Uu" else "L")
    return values, vectors


def _eigh_vjp(F: Any, ctx: Any, dl: Any, dv: Any) -> list[Any]:
    values, v = ctx.outputs
    vh = adjoint(F, v)
    if dv is None:
        return [F.matmul(F.mul(v, like(F, as_rows(F, dl), v)), vh)]
    gap = like(F, _gap(F, values, F.sub), v)
    turned = F.matmul(vh, dv)
    inner = _off_diagonal(F, F.div(F.mul(F.sub(turned, adjoint(F, turned)), 0.5), gap))
    if dl is not None:
        inner = F.add(inner, diagonal_matrix(F, like(F, dl, v)))
    return [F.matmul(F.matmul(v, inner), vh)]


declare(
    Op(
        "linalg_eigh",
        "Eigenvalues, the smallest first, and eigenvectors of Hermitian matrices, of which one triangle is read. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.eigh.html",
        infer=_eigh_infer,
        numpy=_eigh_numpy,
        attrs=UPLO,
        results=2,
        lowering="host",
        vjp=_eigh_vjp,
        saves=("output:0", "output:1"),
        grad_name="LinalgEighBackward0",
        samples=(well((3, 3), gradient=False), well((2, 4, 4), gradient=False, UPLO="U")),
    )
)


def _eigvalsh_vjp(F: Any, ctx: Any, dl: Any) -> list[Any]:
    _, v = F.linalg_eigh(ctx.inputs[0], **ctx.attrs)
    return [F.matmul(F.mul(v, like(F, as_rows(F, dl), v)), adjoint(F, v))]


declare(
    Op(
        "linalg_eigvalsh",
        "The eigenvalues of `linalg_eigh`.",
        infer=lambda a, UPLO: _eigh_infer(a, UPLO)[0],
        numpy=lambda a, UPLO: (
            np.linalg.eigvalsh(a, "U" if UPLO in "Uu" else "L")
            if np.isfinite(a).all()
            else _eigh_numpy(a, UPLO)[0]
        ),
        attrs=UPLO,
        lowering="host",
        vjp=_eigvalsh_vjp,
        saves=("input:0",),
        grad_name="LinalgEighBackward0",
        samples=(well((3, 3), gradient=False), well((2, 4, 4), gradient=False, UPLO="U")),
    )
)

# General eigenvalues


def _eig_infer(a: TensorType) -> tuple[TensorType, TensorType]:
    check_square("linalg.eig", a)
    check_floating("linalg.eig", a)
    whole = complex_dtype(a.dtype)
    return TensorType(a.shape[:-1], whole), a.with_dtype(whole)


def _eig_numpy(a: Array) -> tuple[Array, Array]:
    if not np.isfinite(a).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")
    whole = complex_dtype(dtypes.from_numpy(a.dtype)).numpy
    try:
        values, vectors = np.linalg.eig(a)
    except np.linalg.LinAlgError:
        _each("torch.linalg.eig", np.linalg.eig, a, "eigen")
        raise
    return values.astype(whole), vectors.astype(whole)


def _eig_vjp(F: Any, ctx: Any, dl: Any, dv: Any) -> list[Any]:
    """C. Boeddeker et al., "On the computation of complex-valued gradients with application to statistically optimum
    beamforming" (2017), https://arxiv.org/abs/1701.00392, for eigenvectors of norm 1 whose phases do not matter."""
    values, v = ctx.outputs
    vh = adjoint(F, v)
    inner = None if dl is None else diagonal_matrix(F, dl)
    if dv is not None:
        turned = F.matmul(vh, dv)
        diagonal_part = like(F, F.convert(diagonal(F, turned), dtype=real_dtype(F.type_of(v).dtype)), v)
        numerator = F.sub(turned, F.mul(F.matmul(vh, v), as_rows(F, diagonal_part)))
        part = _off_diagonal(F, F.div(numerator, F.conj(_gap(F, values, F.sub))))
        inner = part if inner is None else F.add(inner, part)
    assert inner is not None
    da = F.linalg_solve(vh, F.matmul(inner, vh))[0]
    return [F.convert(da, dtype=F.type_of(ctx.inputs[0]).dtype)]


declare(
    Op(
        "linalg_eig",
        "Eigenvalues and eigenvectors of square matrices, both complex. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.eig.html",
        infer=_eig_infer,
        numpy=_eig_numpy,
        results=2,
        lowering="host",
        vjp=_eig_vjp,
        saves=("output:0", "output:1"),
        grad_name="LinalgEigBackward0",
        samples=(well((3, 3), gradient=False), well((2, 4, 4), gradient=False)),
    )
)


def _eigvals_numpy(a: Array) -> Array:
    if not np.isfinite(a).all():
        raise RuntimeError("torch.linalg.eigvals: input tensor should not contain infs or NaNs.")
    return np.linalg.eigvals(a).astype(complex_dtype(dtypes.from_numpy(a.dtype)).numpy)


def _eigvals_infer(a: TensorType) -> TensorType:
    check_square("linalg.eigvals", a)
    check_floating("linalg.eigvals", a)
    return TensorType(a.shape[:-1], complex_dtype(a.dtype))


def _eigvals_vjp(F: Any, ctx: Any, dl: Any) -> list[Any]:
    _, v = F.linalg_eig(ctx.inputs[0])
    vh = adjoint(F, v)
    da = F.linalg_solve(vh, F.mul(as_columns(F, dl), vh))[0]
    return [F.convert(da, dtype=F.type_of(ctx.inputs[0]).dtype)]


declare(
    Op(
        "linalg_eigvals",
        "The eigenvalues of `linalg_eig`.",
        infer=_eigvals_infer,
        numpy=_eigvals_numpy,
        lowering="host",
        vjp=_eigvals_vjp,
        saves=("input:0",),
        grad_name="LinalgEigBackward0",
        samples=(well((3, 3), gradient=False), well((2, 4, 4), gradient=False)),
    )
)

# Pseudo-inverse


def _pinv_infer(a: TensorType, tolerance: TensorType, hermitian: bool) -> TensorType:
    if a.rank < 2 or a.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            f"linalg.pinv({a.dtype.scalar_type}{{{list(a.shape)}}}): expected a tensor with 2 or more dimensions of "
            "float, double, cfloat or cdouble types"
        )
    check_floating("linalg.pinv", a)
    if hermitian:
        check_square("linalg.pinv", a)
    return a.with_shape((*a.shape[:-2], a.shape[-1], a.shape[-2]))


def _pinv_numpy(a: Array, tolerance: Array, hermitian: bool) -> Array:
    if not a.size:
        return np.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    if hermitian:
        values, u = np.linalg.eigh(a)
        vh = adjoint_array(u)
    else:
        u, values, vh = np.linalg.svd(a, full_matrices=False)
    size = np.abs(values)
    limit = np.maximum(tolerance[..., 0], tolerance[..., 1] * size.max(-1))[..., None]
    with np.errstate(all="ignore"):
        inverse = np.where(size > limit, 1 / values, 0).astype(a.real.dtype)
    return (adjoint_array(vh) * inverse[..., None, :]) @ adjoint_array(u)


def _pinv_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate" (1973): dP = -P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P."""
    a, p = ctx.inputs[0], ctx.outputs[0]
    ph, dh = adjoint(F, p), adjoint(F, dy)
    da = F.neg(F.matmul(F.matmul(ph, dy), ph))
    left = F.matmul(F.matmul(dh, p), ph)
    da = F.add(da, F.sub(left, F.matmul(a, F.matmul(p, left))))
    right = F.matmul(ph, F.matmul(p, dh))
    return [F.add(da, F.sub(right, F.matmul(F.matmul(right, p), a))), None]


declare(
    Op(
        "linalg_pinv",
        "Moore-Penrose inverses; singular values up to max(atol, rtol * the largest) count as 0, where the second "
        "operand holds (atol, rtol) in its last dim. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.pinv.html",
        infer=_pinv_infer,
        numpy=_pinv_numpy,
        attrs={"hermitian": Attr("bool", False)},
        arity=(2, 2),
        lowering="host",
        vjp=_pinv_vjp,
        saves=("input:0", "output:0"),
        grad_name="LinalgPinvBackward0",
        samples=(
            made(
                lambda rng: [rng.normal(size=(3, 5)), np.array([0.0, 1e-6], np.float32)],
                label="wide",
            ),
            made(
                lambda rng: [rng.normal(size=(2, 5, 3)), np.array([0.0, 1e-6], np.float32)],
                label="tall",
            ),
        ),
    )
)

# Least squares


def _lstsq_infer(a: TensorType, b: TensorType, tolerance: TensorType) -> tuple[TensorType, ...]:
    check_floating("torch.linalg.lstsq", a)
    check_same_dtype("torch.linalg.lstsq", a, b)
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    values = TensorType((*a.shape[:-2], smaller(*a.shape[-2:])), real_dtype(a.dtype))
    return (
        b.with_shape((*lead, a.shape[-1], b.shape[-1])),
        TensorType(a.shape[:-2], dtypes.i64),
        values,
    )


def _lstsq_numpy(a: Array, b: Array, tolerance: Array) -> tuple[Array, Array, Array]:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    largest = s.max(-1, keepdims=True) if s.shape[-1] else s
    kept = s > tolerance * largest
    with np.errstate(all="ignore"):
        inverse = np.where(kept, 1 / s, 0).astype(s.dtype)
    x = adjoint_array(vh) @ (inverse[..., None] * (adjoint_array(u) @ b))
    return np.ascontiguousarray(x), kept.sum(-1), s


def _lstsq_vjp(F: Any, ctx: Any, dx: Any, _rank: Any, _values: Any) -> list[Any]:
    """The solution is pinv(A) B."""
    a, b, tolerance = ctx.inputs
    zero = F.mul(tolerance, 0.0)
    limits = F.concat(F.reshape(zero, shape=(1,)), F.reshape(tolerance, shape=(1,)), dim=0)
    p = F.linalg_pinv(a, limits)

    def da() -> Any:
        dp = F.matmul(dx, adjoint(F, b))
        ph, dh = adjoint(F, p), adjoint(F, dp)
        grad = F.neg(F.matmul(F.matmul(ph, dp), ph))
        left = F.matmul(F.matmul(dh, p), ph)
        grad = F.add(grad, F.sub(left, F.matmul(a, F.matmul(p, left))))
        right = F.matmul(ph, F.matmul(p, dh))
        return F.add(grad, F.sub(right, F.matmul(F.matmul(right, p), a)))

    return [*needed(ctx, da, lambda: F.matmul(adjoint(F, p), dx)), None]


declare(
    Op(
        "linalg_lstsq",
        "The X of least norm that minimizes |A X - B|, the rank of A and its singular values; the third operand is the "
        "relative size up to which they count as 0. "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.lstsq.html",
        infer=_lstsq_infer,
        numpy=_lstsq_numpy,
        arity=(3, 3),
        results=3,
        lowering="host",
        vjp=_lstsq_vjp,
        saves=("input:0", "input:1", "input:2"),
        grad_name="LinalgLstsqBackward0",
        samples=(
            made(
                lambda rng: [rng.normal(size=s) for s in ((5, 3), (5, 2))] + [np.array(1e-6, np.float32)],
                gradient=False,
                label="tall",
            ),
            made(
                lambda rng: (
                    [rng.normal(size=s) for s in ((2, 3, 5), (2, 3, 1))] + [np.array(1e-6, np.float32)]
                ),
                gradient=False,
                label="wide",
            ),
        ),
    )
)

# Exponential

# N. Higham, "The scaling and squaring method for the matrix exponential revisited" (2005): the coefficients of the
# Pade approximant of degree 13 and the norm up to which it is exact in double precision.
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_PADE_NORM = 5.371920351148152


def _exp_array(a: Array) -> Array:
    wide = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
    norms = np.abs(wide).sum(-2).max(-1, initial=0.0)
    finite = np.where(np.isfinite(norms) & (norms > 0), norms, 1.0)
    squarings = np.maximum(np.ceil(np.log2(finite / _PADE_NORM)), 0).astype(int)
    x = wide / (2.0**squarings)[..., None, None]
    one = np.eye(a.shape[-1])
    b, x2 = _PADE, x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    odd = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * one)
    even = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * one
    result = np.linalg.solve(even - odd, even + odd)
    for step in range(int(squarings.max(initial=0))):
        again = (squarings > step)[..., None, None]
        result = np.where(again, result @ result, result)
    return result.astype(a.dtype)


def _exp_infer(a: TensorType) -> TensorType:
    check_square("linalg.matrix_exp", a)
    check_floating("linalg.matrix_exp", a)
    return a


def _exp_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """The upper right block of exp([[A^H, dy], [0, A^H]])."""
    ah = adjoint(F, ctx.inputs[0])
    rank, n = len(shape_of(F, ah)), shape_of(F, ah)[-1]
    upper = F.concat(ah, dy, dim=rank - 1)
    lower = F.concat(F.zeros_like(ah), ah, dim=rank - 1)
    whole = F.linalg_matrix_exp(F.concat(upper, lower, dim=rank - 2))
    return [columns(F, rows(F, whole, 0, n), n, n + n)]


declare(
    Op(
        "linalg_matrix_exp",
        "Matrix exponentials. https://docs.pytorch.org/docs/stable/generated/torch.linalg.matrix_exp.html",
        infer=_exp_infer,
        numpy=_exp_array,
        lowering="host",
        vjp=_exp_vjp,
        saves=("input:0",),
        grad_name="LinalgMatrixExpBackward0",
        samples=(well((3, 3)), well((2, 2, 2)), well((0, 0))),
    )
)
