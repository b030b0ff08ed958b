"""`torch.nn.utils.parametrizations`: weights that are orthogonal, of spectral norm one, a length times a direction."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np

from ... import linalg
from ...autograd.grad_mode import no_grad
from ...creation import eye, zeros, zeros_like
from ...functional_elements import allclose
from ...functional_memory import diagonal
from ...functional_shape import cat
from ...linalg.factors import geqrf
from ...random import randn
from ...tensor import Tensor
from .. import functional as F
from ..modules.conv import _ConvTransposeNd
from ..modules.module import Module
from . import parametrize
from .weight_norms import as_matrix, norm_except_dim, power_iteration, random_direction, weight_of


class _OrthMaps(enum.Enum):
    matrix_exp = enum.auto()
    cayley = enum.auto()
    householder = enum.auto()


def _is_orthogonal(q: Tensor) -> bool:
    size, columns = q.shape[-2], q.shape[-1]
    tolerance = 10.0 * size * float(np.finfo(q.dtype.numpy).eps)
    return allclose(q.mT.matmul(q), eye(columns, dtype=q.dtype), atol=tolerance)


def _orthogonalized(a: Tensor) -> Tensor:
    """Q of the QR decomposition whose R has a positive diagonal."""
    q, r = linalg.qr(a)
    return q * diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)


class _Orthogonal(Module):
    """A tall matrix as a function of one without constraints. With `use_trivialization` times the orthogonal `base`:
    M. Lezcano-Casado, "Trivializations for gradient-based optimization on manifolds", 2019."""

    base: Tensor

    def __init__(self, weight: Tensor, orthogonal_map: _OrthMaps, *, use_trivialization: bool = True) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map is _OrthMaps.householder:
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.shape[-2] < X.shape[-1]
        x = X.mT if wide else X
        rows, columns = x.shape[-2], x.shape[-1]
        if self.orthogonal_map is _OrthMaps.householder:
            below = x.tril(-1)
            tau = 2.0 / (1.0 + (below * below).sum(-2))
            q = linalg.householder_product(below, tau)
            q = q * diagonal(x, dim1=-2, dim2=-1).detach().trunc().unsqueeze(-2)
        else:
            lower = x.tril()
            if rows != columns:
                lower = cat([lower, zeros((*x.shape[:-1], rows - columns), dtype=x.dtype)], -1)
            skew = lower - lower.mT
            if self.orthogonal_map is _OrthMaps.matrix_exp:
                q = linalg.matrix_exp(skew)
            else:
                identity = eye(rows, dtype=x.dtype)
                q = linalg.solve(identity - skew * 0.5, identity + skew * 0.5)
            if rows != columns:
                q = q[..., :columns]
        if hasattr(self, "base"):
            q = self.base.matmul(q)
        return q.mT if wide else q

    def right_inverse(self, Q: Tensor) -> Tensor:
        if Q.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}."
            )
        with no_grad():
            wide = Q.shape[-2] < Q.shape[-1]
            q = Q.mT if wide else Q
            if not hasattr(self, "base"):
                return self._reflectors(q, wide)
            rows, columns = q.shape[-2], q.shape[-1]
            if rows != columns:
                noise = randn(*q.shape[:-1], rows - columns, dtype=q.dtype)
                q = _orthogonalized(cat([q, noise], -1))
            elif not _is_orthogonal(q):
                q = _orthogonalized(q)
            else:
                q = q.clone()
            self.base = q
            # The diagonal of a product of reflectors is negative.
            found = zeros_like(Q)
            diagonal(found, dim1=-2, dim2=-1).fill_(-1.0)
            return found

    def _reflectors(self, q: Tensor, wide: bool) -> Tensor:
        if self.orthogonal_map is not _OrthMaps.householder:
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                "use_trivialization=False."
            )
        a, tau = geqrf(q)
        on = diagonal(a, dim1=-2, dim2=-1)
        signs = on.sign()
        on.copy_(signs * (1.0 - 2.0 * (tau == 0.0).to(signs.dtype)))
        return a.mT if wide else a


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Keep the matrices in the tensor's last two dims (semi-)orthogonal. `orthogonal_map` is "matrix_exp", "cayley" or
    "householder"; by default the first for square matrices, the last otherwise."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1] or weight.is_complex()
        orthogonal_map = "matrix_exp" if square else "householder"
    if orthogonal_map not in _OrthMaps.__members__:
        raise ValueError(
            f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}'
        )
    chosen = _Orthogonal(weight, _OrthMaps[orthogonal_map], use_trivialization=use_trivialization)
    return parametrize.register_parametrization(module, name, chosen, unsafe=True)


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_of(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """The tensor as a length (`original0`), one per index of `dim`, times a direction (`original1`)."""
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """State dicts of the older `torch.nn.utils.weight_norm`."""
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        rank = weight.ndim
        if not -rank <= dim < rank:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{rank}, {rank - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.dim = dim % rank
        self.eps = eps
        if rank == 1:
            return
        self.n_power_iterations = n_power_iterations
        matrix = as_matrix(weight.detach(), self.dim)
        for name, size in zip(("_u", "_v"), matrix.shape):
            self.register_buffer(name, random_direction(weight, size, eps))
        power_iteration(matrix, self._u, self._v, 15, eps, u_first=True)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_iteration(matrix, self._u, self._v, self.n_power_iterations, self.eps, u_first=True)
        # Copies: a second forward may move the buffers before the first one's backward.
        u, v = self._u.clone(), self._v.clone()
        return weight / u.dot(matrix.mv(v))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """The tensor divided by its largest singular value, which `n_power_iterations` per access in training follow.
    `dim` is that of the outputs: 0, for transposed convolutions 1."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if isinstance(module, _ConvTransposeNd) else 0
    chosen = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return parametrize.register_parametrization(module, name, chosen)


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
