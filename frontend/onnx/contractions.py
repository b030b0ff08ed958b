"""Rules of matrix products."""

from __future__ import annotations

import vitrify as torch

from ..tensor import Tensor
from .table import Call, rule


@rule("MatMul")
def matmul(call: Call) -> Tensor:
    return torch.matmul(call.tensor(0), call.tensor(1))


@rule("Gemm")
def gemm(call: Call) -> Tensor:
    """alpha A B + beta C, A and B transposed on request."""
    a, b = call.tensor(0), call.tensor(1)
    a = a.t() if call.attr("transA", 0) else a
    b = b.t() if call.attr("transB", 0) else b
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    if not a.is_floating_point():
        alpha, beta = int(alpha), int(beta)
    y = torch.matmul(a, b)
    y = y if alpha == 1 else y * alpha
    c = call.optional(2)
    if c is None or beta == 0:
        return y
    return y + (c if beta == 1 else c * beta)


@rule("Einsum")
def einsum(call: Call) -> Tensor:
    return torch.einsum(call.required("equation").replace(" ", ""), *call.tensors())


@rule("Det")
def det(call: Call) -> Tensor:
    return torch.linalg.det(call.tensor(0))
