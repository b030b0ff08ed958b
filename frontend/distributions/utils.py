"""What distributions share: broadcasting of parameters, probabilities and logits, triangles as vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import ml_dtypes

from ..autograd.grad_mode import enable_grad
from ..creation import arange, full
from ..functional_pointwise import where
from ..functional_shape import broadcast_tensors
from ..ir.dtypes import DType
from ..promotion import get_default_dtype
from ..random import randn
from ..size import Size
from ..tensor import Tensor

Number = int | float | bool
Parameter = Tensor | int | float | bool
euler_constant = 0.5772156649015329


def finfo(dtype: DType) -> Any:
    """eps, tiny, min, max of a floating point dtype, as `torch.finfo`."""
    return ml_dtypes.finfo(dtype.numpy)


def eps_of(dtype: DType) -> float:
    """The distance from 1 to the next number of the dtype."""
    return float(finfo(dtype).eps)


def tiny_of(dtype: DType) -> float:
    """The smallest normal number."""
    return float(finfo(dtype).tiny)


def broadcast_all(*values: Parameter) -> tuple[Tensor, ...]:
    """Tensors and numbers as tensors of one shape; numbers in the dtype of the first tensor, or the default one."""
    for value in values:
        if not isinstance(value, Tensor | int | float):
            raise ValueError(
                "Input arguments must all be instances of Number, torch.Tensor or objects implementing "
                "__torch_function__."
            )
    dtype = next((v.dtype for v in values if isinstance(v, Tensor)), get_default_dtype())
    found = [v if isinstance(v, Tensor) else full((), v, dtype=dtype) for v in values]
    return tuple(broadcast_tensors(*found))


def is_number(*values: Any) -> bool:
    """Whether none of the values is a tensor."""
    return all(isinstance(v, Number) for v in values)


def like(value: Tensor, number: float) -> Tensor:
    """The number in every element of a tensor like `value`."""
    return full(tuple(value.shape), number, dtype=value.dtype)


def masked(value: Tensor, mask: Tensor, number: float) -> Tensor:
    """`value`, but `number` where the mask holds; no gradient flows there."""
    return where(mask, like(value, number), value)


def standard_normal(shape: Sequence[Any], dtype: DType) -> Tensor:
    """Numbers of mean 0 and variance 1, from the default generator."""
    return randn(tuple(shape), dtype=dtype)


def sum_rightmost(value: Tensor, dim: int) -> Tensor:
    """The sum over the last `dim` dims."""
    return value if dim == 0 else value.reshape((*value.shape[:-dim], -1)).sum(-1)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities from log-odds (binary), or from log-probabilities up to a constant along the last dim."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def clamp_probs(probs: Tensor) -> Tensor:
    """Away from 0 and 1 by the dtype's eps."""
    eps = eps_of(probs.dtype)
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Log-odds (binary), or log-probabilities; of probabilities kept away from 0 and 1."""
    clamped = clamp_probs(probs)
    return clamped.log() - (-clamped).log1p() if is_binary else clamped.log()


class lazy_property:
    """A property computed when first read, with gradients, and kept in the instance."""

    def __init__(self, wrapped: Callable[[Any], Any]):
        self.wrapped = wrapped
        update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = self.wrapped(instance)
        instance.__dict__[self.wrapped.__name__] = value
        return value


def _triangle(size: int, diag: int) -> Tensor:
    """Numbers, row by row, of the elements on and below the diagonal `diag` of a square matrix."""
    index = [i * size + j for i in range(size) for j in range(min(size, i + diag + 1))]
    return arange(size * size).reshape(-1)[index] if index else arange(0)


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The elements on and below a diagonal of square matrices, row by row: [..., n, n] to [..., k]."""
    n = mat.shape[-1]
    if diag < -n or diag >= n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    return mat.reshape((*mat.shape[:-2], n * n)).index_select(-1, _triangle(n, diag))


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """The reverse of `tril_matrix_to_vec`, zeros above the diagonal."""
    size = vec.shape[-1]
    shift = 1 + 2 * diag
    exact = (-shift + (shift * shift + 8 * size + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    n = round(exact)
    if n - exact > eps_of(vec.dtype):
        raise ValueError(
            f"The size of last dimension is {size} which cannot be expressed as "
            "the lower triangular part of a square D x D matrix."
        )
    flat = full((*vec.shape[:-1], n * n), 0.0, dtype=vec.dtype)
    return flat.index_copy(-1, _triangle(n, diag), vec).reshape((*vec.shape[:-1], n, n))


def size_of(shape: Sequence[Any]) -> Size:
    """The shape as a `Size`."""
    return shape if isinstance(shape, Size) else Size(shape)


# As other libraries import them.
_standard_normal, _sum_rightmost = standard_normal, sum_rightmost

__all__ = [
    "broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits",
    "tril_matrix_to_vec", "vec_to_tril_matrix",
]  # fmt: skip
