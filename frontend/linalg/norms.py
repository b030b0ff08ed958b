"""Norms and what is decided by them: condition numbers and ranks. Compositions of ops, but for singular values.

See https://docs.pytorch.org/docs/stable/linalg.html for what each function takes and returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arguments import need_floating, wrap_dim
from ..autocast import full_precision
from ..dispatch import apply, constant, op_named
from ..functional_arithmetic import div, mul
from ..functional_pointwise import abs, gt, maximum, where
from ..functional_reductions import amax, amin, sum
from ..functional_shape import movedim, reshape, unsqueeze
from ..functional_slices import select
from ..inplace import finish
from ..ir import dtypes
from ..ir.dtypes import DType
from ..promotion import convert
from ..tape_folded import folded
from ..tensor import Tensor, scalar_type_name
from ..vector_norms import p_norm
from .common import need_matrix, need_square
from .factors import eigvalsh, svdvals
from .systems import tolerances

_SQRT, _INV = map(op_named, ("sqrt", "linalg_inv"))


def _dims(dim: Any, rank: int) -> tuple[int, ...]:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(rank))
    given = dim if isinstance(dim, Sequence) else (dim,)
    return tuple(wrap_dim(d, rank) for d in given)


def _in_dtype(name: str, x: Tensor, dtype: DType | None) -> Tensor:
    need_floating(name, x)
    if dtype is None:
        return x
    if dtype.kind not in ("float", "complex") or dtype.is_complex != x.dtype.is_complex:
        kind = "complex" if x.dtype.is_complex else "real"
        raise RuntimeError(
            f"{name}: dtype should be floating point or complex, and {kind} for {kind} inputs. Got "
            f"{scalar_type_name(dtype)}"
        )
    return convert(x, dtype)


def vector_norm(
    x: Tensor,
    ord: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The norm of order `ord` over the dims, or of all elements; its gradient at 0 is 0."""
    if isinstance(ord, str) or ord is None:
        raise TypeError(
            f"linalg_vector_norm(): argument 'ord' (position 2) must be Number, not {type(ord).__name__}"
        )
    order, dims = float(ord), _dims(dim, x.ndim)
    if (math.isinf(order) or order < 0) and any(x.shape[d] == 0 for d in dims):
        raise RuntimeError(
            f"linalg.vector_norm cannot compute the {order:g} norm on an empty tensor because the operation does not "
            "have an identity"
            if len(dims) == x.ndim
            else f"linalg.vector_norm cannot compute the {order:g} norm on the dimension "
            f"{next(d for d in dims if x.shape[d] == 0)} because this dimension is empty and the operation does not "
            "have an identity"
        )

    def compute() -> Tensor:
        return p_norm(_in_dtype("linalg.vector_norm", x, dtype), order, dims, keepdim)

    result = folded("LinalgVectorNormBackward0", (x,), compute)
    return finish(result, out, "linalg_vector_norm")


_MATRIX_ORDERS = (1.0, -1.0, 2.0, -2.0, math.inf, -math.inf)


def _pair(dim: Any, rank: int) -> tuple[int, int]:
    if isinstance(dim, int) or len(dim) != 2:
        shown = dim if isinstance(dim, int) else ", ".join(map(str, dim))
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {shown}")
    first, second = (wrap_dim(d, rank) for d in dim)
    if first == second:
        raise RuntimeError(f"linalg.matrix_norm: dims must be different. Got ({dim[0]}, {dim[1]})")
    return first, second


@full_precision
def matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The norm of matrices: "fro", "nuc", or of order 1, -1, 2, -2, inf, -inf."""
    name = "linalg.matrix_norm"
    need_floating(name, A)
    need_matrix(name, A)
    if isinstance(ord, str):
        if ord not in ("fro", "nuc"):
            raise RuntimeError(f"{name}: Order {ord} not supported.")
    elif float(ord) not in _MATRIX_ORDERS:
        raise RuntimeError(f"{name}: Order {ord:g} not supported.")
    first, second = _pair(dim, A.ndim)
    if ord == "fro":
        return vector_norm(A, 2, (first, second), keepdim, dtype=dtype, out=out)
    value = _in_dtype(name, A, dtype)
    if ord == "nuc" or math.fabs(ord) == 2:
        values = svdvals(movedim(value, (first, second), (-2, -1)))
        if ord == "nuc" or (ord == 2 and values.shape[-1] == 0):
            result = sum(values, -1)
        else:
            result = (amax if ord > 0 else amin)(values, -1)
        if keepdim:
            for at in sorted((first, second)):
                result = unsqueeze(result, at)
        return finish(result, out, "linalg_matrix_norm")
    inner, outer = (first, second) if math.fabs(ord) == 1 else (second, first)
    sums = vector_norm(value, 1, inner, keepdim=True)
    result = (amax if ord > 0 else amin)(sums, outer, keepdim=True)
    if not keepdim:
        result = reshape(result, tuple(s for d, s in enumerate(A.shape) if d not in (first, second)))
    return finish(result, out, "linalg_matrix_norm")


def norm(
    A: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """A vector norm or a matrix norm, by the number of dims: see PyTorch's table."""
    if dim is not None:
        count = 1 if isinstance(dim, int) else len(dim)
        if count not in (1, 2):
            shown = list(dim)
            raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {shown}")
    elif ord is not None and A.ndim not in (1, 2):
        raise RuntimeError(
            f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D."
        )
    two = dim is not None and not isinstance(dim, int) and len(dim) == 2
    if isinstance(ord, str) or (ord is not None and (two or (dim is None and A.ndim == 2))):
        return matrix_norm(A, ord, (0, 1) if dim is None else dim, keepdim, dtype=dtype, out=out)
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype, out=out)


@full_precision
def cond(A: Tensor, p: Any = None, *, out: Tensor | None = None) -> Tensor:
    """The condition number by the norm `p`: norm(A) * norm(A^-1)."""
    if A.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p is None or (not isinstance(p, str) and math.fabs(p) == 2):
        values = svdvals(A)
        if values.shape[-1] == 0:
            return finish(sum(values, -1), out, "linalg_cond")
        largest, smallest = select(values, -1, 0), select(values, -1, -1)
        quotient = div(smallest, largest) if p is not None and p < 0 else div(largest, smallest)
        return finish(quotient, out, "linalg_cond")
    if isinstance(p, str):
        if p not in ("fro", "nuc"):
            raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    elif float(p) not in _MATRIX_ORDERS:
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p:g}")
    need_square(f"linalg.cond(ord={p if isinstance(p, str) else format(p, 'g')})", A)
    if p == "nuc":
        values = svdvals(A)
        return finish(mul(sum(values, -1), sum(values.reciprocal(), -1)), out, "linalg_cond")
    inverse, info = apply(_INV, (A,))
    failed = unsqueeze(unsqueeze(gt(info, 0), -1), -1)
    inverse = where(failed, constant(math.inf, A.dtype), inverse)
    return finish(mul(matrix_norm(A, p), matrix_norm(inverse, p)), out, "linalg_cond")


@full_precision
def matrix_rank(
    A: Tensor,
    tol: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
    out: Tensor | None = None,
) -> Tensor:
    """How many singular values are larger than max(atol, rtol * the largest)."""
    need_matrix("torch.linalg.matrix_rank", A, "input")
    if A.dtype.kind not in ("float", "complex"):
        raise RuntimeError("This function doesn't handle types other than float and double")
    low, relative = tolerances(A, tol if tol is not None else atol, 0.0 if tol is not None else rtol)
    matrix = A.detach()
    values = abs(eigvalsh(matrix)) if hermitian else svdvals(matrix)
    if not values._type.numel:
        return finish(sum(convert(values, dtypes.i64), -1), out, "linalg_matrix_rank")
    limit = maximum(low, mul(relative, amax(values, -1)))
    return finish(sum(convert(gt(values, unsqueeze(limit, -1)), dtypes.i64), -1), out, "linalg_matrix_rank")
