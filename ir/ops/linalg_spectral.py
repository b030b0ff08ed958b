"""Singular values and eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, shape_of
from .contraction import adjoint
from .linalg_common import (
    LinAlgError,
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
        TensorType((*lead, k), a.dtype.to_real()),
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
    return TensorType(a.shape[:-1], a.dtype.to_real()), a


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
    whole = a.dtype.to_complex()
    return TensorType(a.shape[:-1], whole), a.with_dtype(whole)


def _eig_numpy(a: Array) -> tuple[Array, Array]:
    if not np.isfinite(a).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")
    whole = dtypes.from_numpy(a.dtype).to_complex().numpy
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
        diagonal_part = like(F, F.convert(diagonal(F, turned), dtype=F.type_of(v).dtype.to_real()), v)
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
    return np.linalg.eigvals(a).astype(dtypes.from_numpy(a.dtype).to_complex().numpy)


def _eigvals_infer(a: TensorType) -> TensorType:
    check_square("linalg.eigvals", a)
    check_floating("linalg.eigvals", a)
    return TensorType(a.shape[:-1], a.dtype.to_complex())


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
