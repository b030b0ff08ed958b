"""`torch.sparse`: functions of sparse tensors (`sparse_tensor.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ir import dtypes
from .ir.dtypes import DType
from .sparse_tensor import SparseTensor, sparse_coo_tensor, sparse_tensor
from .tensor import Tensor


def _need_sparse(value: Any, name: str) -> SparseTensor:
    if not isinstance(value, SparseTensor):
        raise TypeError(f"{name}: expected a sparse tensor, got {type(value).__name__}")
    return value


def mm(sparse: Tensor, dense: Tensor) -> Tensor:
    """A sparse matrix times a dense one, dense; times a sparse one, sparse."""
    left = _need_sparse(sparse, "torch.sparse.mm")
    product = left.matmul(dense)
    return product.to_sparse() if isinstance(dense, SparseTensor) else product


def addmm(mat: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta * mat + alpha * (mat1 @ mat2) with a sparse mat1."""
    return mat * beta + mm(mat1, mat2) * alpha


def sum(input: Tensor, dim: int | Sequence[int] | None = None, dtype: DType | None = None) -> Tensor:
    """Of all elements a 0-d tensor; over some of the dims a sparse tensor, of all of them a dense one."""
    found = _need_sparse(input, "torch.sparse.sum").sum(dim, dtype)
    return found.to_sparse() if dim is not None and found.ndim else found


def softmax(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The softmax along a dim over the elements that are there."""
    return _normalized(input, dim, dtype, "softmax")


def log_softmax(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`."""
    return _normalized(input, dim, dtype, "log_softmax")


def _normalized(input: Tensor, dim: int, dtype: DType | None, name: str) -> SparseTensor:
    given = _need_sparse(input, f"torch.sparse.{name}").coalesce()
    if given.dense_dim():
        raise NotImplementedError(f"torch.sparse.{name} of values that have dims of their own")
    there = given.with_values(given.values() * 0 + 1).detach().to_dense() != 0
    dense = given.to_dense(dtype).masked_fill(~there, float("-inf"))
    return given.with_values(getattr(dense, name)(dim)[tuple(given.indices())])


def _of_type(dtype: DType) -> Any:
    def make(*args: Any) -> SparseTensor:
        if args and all(isinstance(n, int) for n in args):
            return sparse_coo_tensor(args, dtype=dtype)
        return sparse_coo_tensor(*args, dtype=dtype)

    make.__doc__ = f"`sparse_coo_tensor` of {dtype}, as old programs make one."
    return make


FloatTensor, DoubleTensor, LongTensor = map(_of_type, (dtypes.f32, dtypes.f64, dtypes.i64))

__all__ = [
    "DoubleTensor", "FloatTensor", "LongTensor", "SparseTensor", "addmm", "log_softmax", "mm", "softmax",
    "sparse_tensor", "sum",
]  # fmt: skip
