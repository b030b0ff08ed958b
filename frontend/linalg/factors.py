"""Factorizations: Cholesky, QR, SVD, eigenvalues, Householder reflections.

See https://docs.pytorch.org/docs/stable/linalg.html for what each function takes and returns.
"""

from __future__ import annotations

from typing import Any

from ..arguments import also_named, not_implemented
from ..autocast import full_precision
from ..creation import eye
from ..dispatch import apply, op_named
from ..functional_arithmetic import mul, sub
from ..functional_matmul import matmul
from ..functional_shape import tril, unsqueeze
from ..functional_slices import narrow
from ..inplace import finish
from ..tape_folded import folded, without_gradient
from ..tensor import Tensor, scalar_type_name
from .common import conjugate_transpose, named

_CHOLESKY, _QR, _SVD, _SVDVALS, _EIGH, _EIGVALSH, _EIG, _EIGVALS, _GEQRF = map(
    op_named,
    (
        "linalg_cholesky",
        "linalg_qr",
        "linalg_svd",
        "linalg_svdvals",
        "linalg_eigh",
        "linalg_eigvalsh",
        "linalg_eig",
        "linalg_eigvals",
        "linalg_geqrf",
    ),
)


@full_precision
def cholesky(A: Tensor, *, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """L of A = L L^H, or U of A = U^H U; LinAlgError where A is not positive definite."""
    return finish(
        apply(_CHOLESKY, (A,), {"upper": upper, "check": "linalg.cholesky"})[0], out, "linalg_cholesky"
    )


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """`cholesky`, and info: 0, or the order of the leading minor that is not positive definite."""
    check = "linalg.cholesky_ex" if check_errors else ""
    return named("linalg_cholesky_ex", apply(_CHOLESKY, (A,), {"upper": upper, "check": check}), out)


def qr(A: Tensor, mode: str = "reduced", *, out: Any = None) -> Any:
    """Q and R of A = Q R; `mode` "reduced", "complete" or "r"."""
    return named("linalg_qr", apply(_QR, (A,), {"mode": mode}), out)


def _need_no_driver(driver: str | None) -> None:
    if driver is not None:
        raise RuntimeError(
            "torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend."
        )


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None, out: Any = None) -> Any:
    """U, S and V^H of A = U diag(S) V^H."""
    _need_no_driver(driver)
    return named("linalg_svd", apply(_SVD, (A,), {"full_matrices": full_matrices}), out)


@full_precision
def svdvals(A: Tensor, *, driver: str | None = None, out: Tensor | None = None) -> Tensor:
    """The singular values, the largest first."""
    _need_no_driver(driver)
    return finish(apply(_SVDVALS, (A,)), out, "linalg_svdvals")


def eigh(A: Tensor, UPLO: str = "L", *, out: Any = None) -> Any:
    """Eigenvalues and eigenvectors of Hermitian matrices, of which the triangle `UPLO` is read."""
    return named("linalg_eigh", apply(_EIGH, (A,), {"UPLO": UPLO}), out)


@full_precision
def eigvalsh(A: Tensor, UPLO: str = "L", *, out: Tensor | None = None) -> Tensor:
    """The eigenvalues of Hermitian matrices, the smallest first."""
    return finish(apply(_EIGVALSH, (A,), {"UPLO": UPLO}), out, "linalg_eigvalsh")


def eig(A: Tensor, *, out: Any = None) -> Any:
    """Eigenvalues and eigenvectors of square matrices, both complex."""
    return named("linalg_eig", apply(_EIG, (A,)), out)


@full_precision
def eigvals(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The eigenvalues of square matrices, complex."""
    return finish(apply(_EIGVALS, (A,)), out, "linalg_eigvals")


# Householder reflections


def geqrf(input: Tensor, *, out: Any = None) -> Any:
    """R, and below it the vectors of the reflections whose product is Q, with their factors tau."""
    packed, tau = apply(_GEQRF, (input,))
    without_gradient("geqrf", (input,), packed, tau)
    return named("geqrf", (packed, tau), out)


def _check_reflections(name: str, A: Tensor, tau: Tensor) -> None:
    if A.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    m, n = tuple(A.shape)[-2:]
    if m < n:
        raise RuntimeError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if n < tau.shape[-1]:
        raise RuntimeError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    if not (A.dtype.is_floating_point or A.dtype.is_complex):
        raise not_implemented(name, A)
    if tau.dtype is not A.dtype:
        raise RuntimeError(
            f"{name}: tau dtype {scalar_type_name(tau.dtype)} does not match input dtype {scalar_type_name(A.dtype)}"
        )


def _reflected(A: Tensor, tau: Tensor, value: Tensor, adjoint: bool, backwards: bool) -> Tensor:
    """H1 ... Hk times `value` (or its adjoint's product), each H = I - tau v v^H applied by itself."""
    m, n = tuple(A.shape)[-2:]
    unit = eye(m, n, dtype=A.dtype)
    vectors = tril(A, -1) + unit
    count = tau.shape[-1]
    for i in range(count - 1, -1, -1) if backwards else range(count):
        v = narrow(vectors, -1, i, 1)
        scale = unsqueeze(narrow(tau, -1, i, 1), -1)
        if adjoint and scale.dtype.is_complex:
            scale = scale.conj()
        value = sub(value, mul(mul(v, scale), matmul(conjugate_transpose(v), value)))
    return value


@also_named(input="A", input2="tau")
@full_precision
def householder_product(A: Tensor, tau: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The first columns of the product of the reflections that A and tau hold (as of `geqrf`)."""
    _check_reflections("torch.linalg.householder_product", A, tau)
    m, n = tuple(A.shape)[-2:]

    def compute() -> Tensor:
        start = eye(m, n, dtype=A.dtype).expand((*tuple(A.shape)[:-2], m, n))
        return _reflected(A, tau, start, False, True)

    result = folded("LinalgHouseholderProductBackward0", (A, tau), compute)
    return finish(result, out, "linalg_householder_product")


@also_named(input2="tau", input3="other")
def ormqr(
    input: Tensor,
    tau: Tensor,
    other: Tensor,
    left: bool = True,
    transpose: bool = False,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Q other, of the reflections that input and tau hold; `transpose`: Q^H, without `left`: other Q."""
    _check_reflections("torch.ormqr", input, tau)

    def compute() -> Tensor:
        if left:
            return _reflected(input, tau, other, transpose, not transpose)
        # other Q = (Q^H other^H)^H
        return conjugate_transpose(
            _reflected(input, tau, conjugate_transpose(other), not transpose, transpose)
        )

    return finish(folded("OrmqrBackward0", (input, tau, other), compute), out, "ormqr")
