"""Factorizations: Cholesky and QR, and what is solved with Cholesky factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import Array, broadcast, made, needed, shape_of
from .contraction import adjoint
from .linalg_common import (
    INFO,
    LinAlgError,
    adjoint_array,
    check_floating,
    check_matrix,
    check_solvable,
    check_square,
    columns,
    diagonal,
    diagonal_matrix,
    first_failure,
    like,
    on_diagonal,
    real_part,
    smaller,
    triangle,
    triangular_solve_array,
)
from .linalg_solve import CHECK, conditioned, well

# Cholesky


def _cholesky_infer(a: TensorType, upper: bool, check: str) -> tuple[TensorType, TensorType]:
    name = check.removesuffix("_ex") or "linalg.cholesky"
    check_square(name, a)
    check_floating(name, a)
    return a, TensorType(a.shape[:-2], INFO)


def _cholesky_numpy(a: Array, upper: bool, check: str) -> tuple[Array, Array]:
    if upper:
        factor, info = _cholesky_numpy(adjoint_array(a), False, check)
        return adjoint_array(factor), info
    try:
        return np.linalg.cholesky(a), np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        factor, info = _partial_cholesky(a)
    if check and info.any():
        which, number = first_failure(info)
        raise LinAlgError(
            f"{check}: {which}The factorization could not be completed because the input is not positive-definite "
            f"(the leading minor of order {number} is not positive-definite)."
        )
    return factor, info


def _partial_cholesky(a: Array) -> tuple[Array, Array]:
    """Column by column, up to the first minor that is not positive definite, whose order is the matrix's info."""
    result = np.tril(a)
    info = np.zeros(a.shape[:-2], np.int32)
    for at in np.ndindex(a.shape[:-2]):
        factor = result[at]
        for j in range(a.shape[-1]):
            row = factor[j, :j]
            pivot = (factor[j, j] - row @ np.conjugate(row)).real
            if not pivot > 0:
                factor[j, j] = pivot
                info[at] = j + 1
                break
            factor[j, j] = np.sqrt(pivot)
            factor[j + 1 :, j] = (factor[j + 1 :, j] - factor[j + 1 :, :j] @ np.conjugate(row)) / factor[j, j]
    return result, info


def _cholesky_vjp(F: Any, ctx: Any, dy: Any, _: Any) -> list[Any]:
    """I. Murray, "Differentiation of the Cholesky decomposition" (2016), https://arxiv.org/abs/1602.07527."""
    factor = ctx.outputs[0]
    if ctx.attrs["upper"]:
        factor, dy = adjoint(F, factor), adjoint(F, dy)
    inner = triangle(F, F.matmul(adjoint(F, factor), dy), upper=False)
    inner = F.mul(inner, F.where(on_diagonal(F, shape_of(F, inner)), F.mul(F.ones_like(inner), 0.5), 1.0))
    da = F.linalg_solve_triangular(adjoint(F, factor), inner, upper=True)
    da = F.linalg_solve_triangular(factor, da, upper=False, left=False)
    return [F.mul(F.add(da, adjoint(F, da)), 0.5)]


def _definite(*shape: int, **attrs: Any) -> Sample:
    def make(rng: Any) -> list[Array]:
        a = conditioned(rng, *shape)
        return [a @ np.swapaxes(a, -1, -2)]

    return made(make, gradient=False, label=str(list(shape)), **attrs)


declare(
    Op(
        "linalg_cholesky",
        "L of A = L L^H (U of A = U^H U with `upper`), of which one triangle of A is read, and per matrix the order of "
        "the first minor that is not positive definite (0: none). "
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.cholesky_ex.html",
        infer=_cholesky_infer,
        numpy=_cholesky_numpy,
        attrs={"upper": Attr("bool", False), "check": CHECK},
        results=2,
        lowering="host",
        vjp=_cholesky_vjp,
        saves=("output:0",),
        grad_name="LinalgCholeskyExBackward0",
        samples=(_definite(3, 3), _definite(2, 4, 4, upper=True), _definite(0, 0)),
    )
)

# QR


def _qr_infer(a: TensorType, mode: str) -> tuple[TensorType, TensorType]:
    check_matrix("linalg.qr", a)
    check_floating("linalg.qr", a)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    m, n = a.shape[-2:]
    k = m if mode == "complete" else smaller(m, n)
    q = (0,) if mode == "r" else (*a.shape[:-2], m, k)
    return a.with_shape(q), a.with_shape((*a.shape[:-2], k, n))


def _qr_numpy(a: Array, mode: str) -> tuple[Array, Array]:
    if mode == "r":
        return np.zeros(0, a.dtype), np.asarray(np.linalg.qr(a, "r"))
    q, r = np.linalg.qr(a, "complete" if mode == "complete" else "reduced")
    return q, r


def _qr_vjp(F: Any, ctx: Any, dq: Any, dr: Any) -> list[Any]:
    """D. Roberts and L. Roberts, "QR and LQ decomposition matrix backpropagation algorithms for square, wide, and deep
    matrices - real or complex" (2020), https://arxiv.org/abs/2009.10071."""
    mode = ctx.attrs["mode"]
    q, r = ctx.outputs
    if mode == "r":
        raise RuntimeError(
            "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use "
            "torch.linalg.qr(A, mode='reduced') if you are going to require gradients"
        )
    (m, k), n = shape_of(F, q)[-2:], shape_of(F, r)[-1]
    if mode == "complete" and smaller(m, n) != m:
        raise RuntimeError(
            "The QR decomposition is not differentiable when mode='complete' and nrows > ncols"
        )
    beside = None
    if n != k:
        # A = [A1 A2] with A1 = Q R1 and R2 = Q^H A2.
        r2, dr2 = columns(F, r, k, n), None if dr is None else columns(F, dr, k, n)
        r, dr = columns(F, r, 0, k), None if dr is None else columns(F, dr, 0, k)
        if dr2 is not None:
            beside = F.matmul(q, dr2)
            through = F.matmul(q, F.matmul(r2, adjoint(F, dr2)))
            dq = through if dq is None else F.add(dq, through)
        else:
            beside = F.matmul(q, F.zeros_like(r2))
    inner = None if dr is None else F.matmul(dr, adjoint(F, r))
    if dq is not None:
        turned = F.matmul(adjoint(F, q), dq)
        inner = F.neg(turned) if inner is None else F.sub(inner, turned)
    assert inner is not None
    upper = triangle(F, inner, upper=True)
    # X + X^H with the diagonal, which is real, counted once.
    doubled = diagonal_matrix(F, like(F, real_part(F, diagonal(F, upper)), upper))
    right = F.matmul(q, F.sub(F.add(upper, adjoint(F, upper)), doubled))
    if dq is not None:
        right = F.add(right, dq)
    da = F.linalg_solve_triangular(adjoint(F, r), right, upper=False, left=False)
    return [da if beside is None else F.concat(da, beside, dim=len(shape_of(F, da)) - 1)]


declare(
    Op(
        "linalg_qr",
        'Q and R of A = Q R; mode "reduced", "complete" or "r" (then Q is empty). '
        "https://docs.pytorch.org/docs/stable/generated/torch.linalg.qr.html",
        infer=_qr_infer,
        numpy=_qr_numpy,
        attrs={"mode": Attr("str", "reduced")},
        results=2,
        lowering="host",
        vjp=_qr_vjp,
        saves=("output:0", "output:1"),
        grad_name="LinalgQrBackward0",
        samples=(
            well((4, 3)),
            well((2, 3, 3)),
            well((3, 5)),
            well((3, 4), mode="complete"),
            well((4, 3), gradient=False, mode="complete"),
            well((4, 3), gradient=False, mode="r"),
        ),
    )
)

# What is solved with Cholesky factors. PyTorch's gradients are those of the product L L^H, not of one triangle of L.


def _factor_grad(F: Any, common: Any, factor: Any, upper: bool) -> Any:
    """From the cotangent of A, symmetrized, that of its factor."""
    return F.neg(F.matmul(factor, common) if upper else F.matmul(common, factor))


def _by_factor(factor: Array, b: Array, upper: bool) -> Array:
    lower = adjoint_array(factor) if upper else factor
    with np.errstate(all="ignore"):
        inner = triangular_solve_array(lower, b, False, False)
        return triangular_solve_array(adjoint_array(lower), inner, True, False)


def _cholesky_solve_infer(b: TensorType, factor: TensorType, upper: bool) -> TensorType:
    check_square("", factor)
    check_floating("cholesky_solve", b)
    check_solvable("", factor, b, True)
    return b.with_shape((*broadcast(factor.shape[:-2], b.shape[:-2]), *b.shape[-2:]))


def _cholesky_solve_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    factor, x = ctx.inputs[1], ctx.outputs[0]
    db = F.linalg_cholesky_solve(dy, factor, **ctx.attrs)

    def dfactor() -> Any:
        common = F.matmul(db, adjoint(F, x))
        return _factor_grad(F, F.add(common, adjoint(F, common)), factor, ctx.attrs["upper"])

    return needed(ctx, lambda: db, dfactor)


def _factor_and(shape: tuple[int, ...] | None, **attrs: Any) -> Sample:
    def make(rng: Any) -> list[Array]:
        factor = np.tril(conditioned(rng, 3, 3))
        return [factor] if shape is None else [rng.normal(size=shape), factor]

    return made(make, gradient=False, **attrs)


declare(
    Op(
        "linalg_cholesky_solve",
        "cholesky_solve(B, L): X of L L^H X = B (of U^H U X = B with `upper`). "
        "https://docs.pytorch.org/docs/stable/generated/torch.cholesky_solve.html",
        infer=_cholesky_solve_infer,
        numpy=lambda b, factor, upper: _by_factor(factor, b, upper),
        attrs={"upper": Attr("bool", False)},
        arity=(2, 2),
        lowering="host",
        vjp=_cholesky_solve_vjp,
        saves=("input:1", "output:0"),
        grad_name="CholeskySolveBackward0",
        samples=(_factor_and((3, 2)), _factor_and((2, 3, 1), upper=True)),
    )
)


def _cholesky_inverse_infer(factor: TensorType, upper: bool) -> TensorType:
    check_square("cholesky_inverse", factor)
    check_floating("cholesky_inverse", factor)
    return factor


def _cholesky_inverse_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    inverse = ctx.outputs[0]
    common = F.matmul(F.matmul(inverse, F.add(dy, adjoint(F, dy))), inverse)
    return [_factor_grad(F, common, ctx.inputs[0], ctx.attrs["upper"])]


declare(
    Op(
        "linalg_cholesky_inverse",
        "The inverse of L L^H (of U^H U with `upper`). "
        "https://docs.pytorch.org/docs/stable/generated/torch.cholesky_inverse.html",
        infer=_cholesky_inverse_infer,
        numpy=lambda factor, upper: _by_factor(factor, np.eye(factor.shape[-1], dtype=factor.dtype), upper),
        attrs={"upper": Attr("bool", False)},
        lowering="host",
        vjp=_cholesky_inverse_vjp,
        saves=("input:0", "output:0"),
        grad_name="CholeskyInverseBackward0",
        samples=(_factor_and(None), _factor_and(None, upper=True)),
    )
)

# Householder reflections


def _geqrf_infer(a: TensorType) -> tuple[TensorType, TensorType]:
    if a.rank < 2:
        raise RuntimeError("torch.geqrf: input must have at least 2 dimensions.")
    check_floating("geqrf", a)
    return a, a.with_shape((*a.shape[:-2], smaller(*a.shape[-2:])))


def _geqrf_numpy(a: Array) -> tuple[Array, Array]:
    packed, tau = np.linalg.qr(a, "raw")
    return np.ascontiguousarray(np.swapaxes(packed, -1, -2)), tau


declare(
    Op(
        "linalg_geqrf",
        "R above, and the vectors of the Householder reflections below the diagonal, with their factors tau. "
        "https://docs.pytorch.org/docs/stable/generated/torch.geqrf.html",
        infer=_geqrf_infer,
        numpy=_geqrf_numpy,
        results=2,
        lowering="host",
        samples=(well((4, 3), gradient=False), well((2, 3, 4), gradient=False)),
    )
)
