"""Products, powers and exponentials of matrices, and small constructions.

See https://docs.pytorch.org/docs/stable/linalg.html for what each function takes and returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .. import functional_memory as memory
from ..arguments import also_named, wrap_dim
from ..autocast import lower_precision
from ..creation import eye, ones, zeros
from ..dispatch import apply, op_named
from ..functional_arithmetic import mul, sub
from ..functional_cumulative import cumprod
from ..functional_matmul import matmul
from ..functional_pointwise import where
from ..functional_products import in_cheapest_order
from ..functional_reductions import sum
from ..functional_shape import broadcast_tensors, cat, expand, squeeze, unsqueeze
from ..functional_slices import roll
from ..half_precision import in_float32
from ..inplace import finish
from ..ir.dims import DimLike
from ..ir.dtypes import bool_
from ..tape_folded import folded
from ..tensor import Tensor, cxx_name, scalar_type_name
from .common import need_square
from .systems import inv

_EXP = op_named("linalg_matrix_exp")


@also_named(input="A")
@in_float32
def matrix_exp(A: Tensor) -> Tensor:
    """The matrix exponential of square matrices."""
    result: Tensor = apply(_EXP, (A,))
    return result


@also_named(input="A")
def matrix_power(A: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """A to the n: products, or those of the inverse where n is negative."""
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(
            f"linalg_matrix_power(): argument 'n' (position 2) must be int, not {type(n).__name__}"
        )
    need_square("linalg.matrix_power", A)
    if n == 0:
        size = A.shape[-1]
        no = zeros((), dtype=bool_)
        one = where(no, A, eye(size, dtype=A.dtype))  # A keeps its place in the history, with gradient 0
        return finish(one, out, "linalg_matrix_power")
    base = inv(A) if n < 0 else A
    result: Tensor | None = None
    left = n if n > 0 else -n
    if left == 1:
        return finish(base.clone() if n > 0 else base, out, "linalg_matrix_power")
    if left == 3:
        return finish(matmul(matmul(base, base), base), out, "linalg_matrix_power")
    while left:
        if left & 1:
            result = base if result is None else matmul(result, base)
        left >>= 1
        if left:
            base = matmul(base, base)
    assert result is not None
    return finish(result, out, "linalg_matrix_power")


def multi_dot(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """The product of two or more matrices, multiplied in the cheapest order; the first and last may be vectors."""
    count = len(tensors)
    if count < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {count}")
    for which, tensor in (("first", tensors[0]), ("last", tensors[-1])):
        if tensor.ndim not in (1, 2):
            raise RuntimeError(f"multi_dot(): the {which} tensor must be 1D or 2D but got {tensor.ndim}D")
    for number, tensor in enumerate(tensors):
        if 0 < number < count - 1 and tensor.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {number} must be 2D but got {tensor.ndim}D")
        if tensor.dtype is not tensors[0].dtype:
            raise RuntimeError(
                "multi_dot(): all tensors must have be the same dtype but tensor 0 is "
                f"{cxx_name(tensors[0].dtype)} and tensor {number} {cxx_name(tensor.dtype)}"
            )
    matrices = list(tensors)
    if matrices[0].ndim == 1:
        matrices[0] = unsqueeze(matrices[0], 0)
    if matrices[-1].ndim == 1:
        matrices[-1] = unsqueeze(matrices[-1], 1)
    for number, (a, b) in enumerate(pairwise(matrices)):
        if a.shape[-1] != b.shape[0]:
            raise RuntimeError(
                f"multi_dot(): tensors {number} and {number + 1} with shapes {list(tensors[number].shape)} and "
                f"{list(tensors[number + 1].shape)} cannot be multiplied"
            )
    sizes: list[DimLike] = [m.shape[0] for m in matrices] + [matrices[-1].shape[1]]
    result = in_cheapest_order(matrices, sizes, matmul)
    if tensors[-1].ndim == 1:
        result = squeeze(result, -1)
    if tensors[0].ndim == 1:
        result = squeeze(result, 0)
    return finish(result, out, "linalg_multi_dot")


@lower_precision
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """The inner products along a dim, x conjugated."""
    if x.dtype is not y.dtype:
        raise RuntimeError(
            "linalg.vecdot: Expected x and y to have the same dtype, but found x of type "
            f"{scalar_type_name(x.dtype)} and y of type {scalar_type_name(y.dtype)} instead"
        )
    if x.ndim == 1 and y.ndim == 1 and x.shape[0] != y.shape[0]:
        have, other = x.shape[0], y.shape[0]
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{have}] and src [{other}] to have the same number of "
            f"elements, but got {have} and {other} elements respectively"
        )
    left = x.conj() if x.dtype.is_complex else x
    return finish(sum(mul(left, y), dim), out, "linalg_vecdot")


def cross(input: Tensor, other: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """The cross product of vectors of three elements along a dim."""
    if input.ndim != other.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    at = wrap_dim(dim, input.ndim)
    if input.shape[at] != 3 or other.shape[at] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[at]} and {other.shape[at]}"
        )

    def compute() -> Tensor:
        a, b = broadcast_tensors(input, other)
        ahead, behind = (mul(roll(a, -k, at), roll(b, k - 3, at)) for k in (1, 2))
        return sub(ahead, behind)

    return finish(folded("LinalgCrossBackward0", (input, other), compute), out, "linalg_cross")


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of every element, along a new last dim."""
    size = x.shape[-1] if N is None and x.ndim else N
    if size is None or (isinstance(size, int) and size <= 1):
        raise RuntimeError("N must be greater than 1.")
    if x.dtype.kind == "bool":
        raise RuntimeError(
            "linalg.vander supports floating point, complex, and integer tensors, but got Bool"
        )
    shape = (*tuple(x.shape), size - 1)
    first = ones((*tuple(x.shape), 1), dtype=x.dtype)
    return cat([first, cumprod(expand(unsqueeze(x, -1), shape), -1)], -1)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of matrices, a view; by default of the last two dims."""
    return memory.diagonal(A, offset, dim1, dim2)
