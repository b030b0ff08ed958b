"""Pseudo-inverses and least squares, by singular values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, broadcast, check_same_dtype, made, needed
from .contraction import adjoint
from .linalg_common import adjoint_array, check_floating, check_square, smaller

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


def _pinv_gradient(F: Any, a: Any, p: Any, dp: Any) -> Any:
    """G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate" (1973): dP = -P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P."""
    ph, dh = adjoint(F, p), adjoint(F, dp)
    da = F.neg(F.matmul(F.matmul(ph, dp), ph))
    left = F.matmul(F.matmul(dh, p), ph)
    da = F.add(da, F.sub(left, F.matmul(a, F.matmul(p, left))))
    right = F.matmul(ph, F.matmul(p, dh))
    return F.add(da, F.sub(right, F.matmul(F.matmul(right, p), a)))


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
        vjp=lambda F, ctx, dy: [_pinv_gradient(F, ctx.inputs[0], ctx.outputs[0], dy), None],
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
    values = TensorType((*a.shape[:-2], smaller(*a.shape[-2:])), a.dtype.to_real())
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
        return _pinv_gradient(F, a, p, F.matmul(dx, adjoint(F, b)))

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
