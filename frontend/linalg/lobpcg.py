"""A few extreme eigenvalues of large symmetric matrices by the locally optimal block preconditioned conjugate gradient
method: A. Knyazev, "Toward the optimal preconditioned eigensolver" (2001)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Function, no_grad
from ..autograd.function import once_differentiable
from ..dispatch import apply, op_named
from ..functional_arithmetic import div, mul, sub
from ..functional_host import host_array
from ..functional_matmul import matmul
from ..functional_reductions import sum
from ..functional_shape import cat, flip, reshape, stack, transpose, unsqueeze
from ..functional_slices import narrow
from ..random import randn
from ..tape_folded import without_gradient
from ..tensor import Tensor

_EIGH = op_named("linalg_eigh")


def lobpcg(
    A: Tensor,
    k: int | None = None,
    B: Tensor | None = None,
    X: Tensor | None = None,
    n: int | None = None,
    iK: Tensor | None = None,
    niter: int | None = None,
    tol: float | None = None,
    largest: bool | None = None,
    method: str | None = None,
    tracker: Callable[..., None] | None = None,
    ortho_iparams: Any = None,
    ortho_fparams: Any = None,
    ortho_bparams: Any = None,
) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) eigenvalues of A x = e B x for symmetric A and positive definite B, and their
    vectors, from the guess X (by default drawn) with the preconditioner iK.

    The eigenvalues are differentiable in A and B, once; the vectors are not. Both of PyTorch's methods ("basic" and
    "ortho") are served by one that orthogonalizes. See https://docs.pytorch.org/docs/stable/generated/torch.lobpcg.html.
    """
    if method not in (None, "basic", "ortho"):
        raise ValueError(f"method should be 'basic' or 'ortho', got {method!r}")
    if tracker is not None or ortho_iparams or ortho_fparams or ortho_bparams:
        raise NotImplementedError("torch.lobpcg: tracker and the ortho parameters are not supported")
    m = A.shape[-1]
    count = (1 if X is None else X.shape[-1]) if k is None else k
    width = (count if X is None else X.shape[-1]) if n is None else n
    if m < 3 * width:
        raise ValueError(
            f"LOBPCG algorithm is not applicable when the number of A rows (={m}) is smaller than 3 x the number of "
            f"requested eigenpairs (={width})"
        )
    lead = tuple(A.shape)[:-2]
    with no_grad():
        start = randn((*lead, m, width), dtype=A.dtype) if X is None else X.detach()
        limit = float(np.finfo(A.dtype.numpy).eps) ** 0.5 if tol is None else tol
        upwards = largest is False

        def flat(value: Tensor | None) -> list[Tensor | None]:
            if value is None:
                return [None] * max(1, int(np.prod(lead)))
            shape = tuple(value.shape)[-2:]
            whole = reshape(value.detach().expand((*lead, *shape)), (-1, *shape))
            return [whole[i] for i in range(whole.shape[0])]

        vectors = [
            _iterate(
                a, b, x, preconditioner, count, 1000 if niter is None or niter < 0 else niter, limit, upwards
            )
            for a, b, x, preconditioner in zip(flat(A), flat(B), flat(start), flat(iK))
        ]
        found = reshape(stack(vectors), (*lead, m, count))
    values: Tensor = LOBPCGAutogradFunction.apply(A, B, found)
    without_gradient("lobpcg", (A, B), found)
    return values, found


class LOBPCGAutogradFunction(Function):
    """The Rayleigh quotients of the vectors found. At an eigenvector their first derivatives, and only those, are the
    eigenvalues': de = x^T (dA - e dB) x / x^T B x."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, B: Tensor | None, X: Tensor) -> Tensor:
        weight = sum(mul(X, X if B is None else matmul(B, X)), -2)
        values = div(sum(mul(X, matmul(A, X)), -2), weight)
        ctx.save_for_backward(X, weight, values)
        ctx.generalized = B is not None
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        X, weight, values = ctx.saved_tensors
        scaled = mul(X, unsqueeze(div(grad, weight), -2))
        dA = matmul(scaled, transpose(X, -2, -1))
        if not ctx.generalized:
            return dA, None, None
        return dA, matmul(mul(scaled, unsqueeze(-values, -2)), transpose(X, -2, -1)), None


def _iterate(A: Any, B: Any, X: Any, iK: Any, count: int, niter: int, tol: float, upwards: bool) -> Tensor:
    """The vectors for one matrix: Rayleigh-Ritz in the span of the guess, the residual and the last direction."""

    def ritz(basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the span: eigenvalues, vectors, and what each takes from the basis; all B-orthonormal."""
        gram = matmul(transpose(basis, 0, 1), basis if B is None else matmul(B, basis))
        sizes, turn = apply(_EIGH, (gram,))
        lengths = host_array(sizes, "torch.lobpcg")
        keep = int((lengths > lengths[-1] * np.finfo(lengths.dtype).eps * len(lengths)).sum())
        sizes, turn = narrow(sizes, 0, len(lengths) - keep, keep), narrow(turn, 1, len(lengths) - keep, keep)
        whitening = mul(turn, unsqueeze(sizes.rsqrt(), 0))
        orthonormal = matmul(basis, whitening)
        values, coefficients = apply(_EIGH, (matmul(transpose(orthonormal, 0, 1), matmul(A, orthonormal)),))
        if not upwards:
            values, coefficients = flip(values, 0), flip(coefficients, 1)
        width = min(X.shape[1], keep)
        values, coefficients = narrow(values, 0, 0, width), narrow(coefficients, 1, 0, width)
        return values, matmul(orthonormal, coefficients), matmul(whitening, coefficients)

    values, vectors, _ = ritz(X)
    direction: Tensor | None = None
    scale = float(A.norm().item())
    for _step in range(niter):
        product = vectors if B is None else matmul(B, vectors)
        residual = sub(matmul(A, vectors), mul(product, unsqueeze(values, 0)))
        error = residual.norm(dim=0) / (vectors.norm(dim=0) * (scale + values.abs()))
        if bool((narrow(error, 0, 0, count) < tol).all()):
            break
        step = residual if iK is None else matmul(iK, residual)
        basis = [vectors, step] if direction is None else [vectors, step, direction]
        values, new, taken = ritz(cat(basis, 1))
        width = vectors.shape[1]
        rest = narrow(taken, 0, width, taken.shape[0] - width)
        direction, vectors = matmul(cat(basis[1:], 1), rest), new
    return narrow(vectors, 1, 0, count)
