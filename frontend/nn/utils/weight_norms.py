"""What weight and spectral normalization compute."""

from __future__ import annotations

from ...autograd.grad_mode import no_grad
from ...random import normal_
from ...tensor import Tensor
from ..normalization import normalize


def norm_except_dim(v: Tensor, pow: float = 2, dim: int = 0) -> Tensor:
    """The norm over all dims but one, which stays beside dims of size 1; over all for `dim` = -1."""
    if dim == -1:
        return v.norm(pow)
    if v.ndim == 1:
        return v.norm(pow, (0,), keepdim=True) if dim else (v * v).sqrt() if pow == 2 else v.abs()
    others = tuple(d for d in range(v.ndim) if d != dim % v.ndim)
    return v.norm(pow, others, keepdim=True)


def weight_of(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / |v|. T. Salimans, D. Kingma, "Weight normalization", 2016."""
    return v * (g / norm_except_dim(v, 2, dim))


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """[size of `dim`, all others]."""
    if dim:
        weight = weight.permute(dim, *(d for d in range(weight.ndim) if d != dim))
    return weight.reshape(weight.shape[0], -1)


def random_direction(weight: Tensor, size: int, eps: float) -> Tensor:
    """A random vector of length one."""
    with no_grad():
        return normalize(normal_(weight.new_empty(size)), dim=0, eps=eps)


def power_iteration(matrix: Tensor, u: Tensor, v: Tensor, steps: int, eps: float, u_first: bool) -> None:
    """Move u and v, in place, towards the largest singular vectors: T. Miyato et al., "Spectral normalization", 2018."""
    with no_grad():
        fixed = matrix.detach()

        def left() -> None:
            u.copy_(normalize(fixed.mv(v), dim=0, eps=eps))

        def right() -> None:
            v.copy_(normalize(fixed.t().mv(u), dim=0, eps=eps))

        for _ in range(steps):
            for move in (left, right) if u_first else (right, left):
                move()
