"""Matrix multiplication."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dims import DimLike, product
from ..op import Op, declare
from ..types import TensorType
from .common import (
    NUMBER,
    Array,
    Shape,
    broadcast,
    by_float64,
    check_dtype,
    needed,
    shape_of,
    shape_text,
    strided,
    uniform,
    wide,
)

Ints = tuple[int, ...]


def _check_mats(a: TensorType, b: TensorType) -> None:
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"expected m1 and m2 to have the same dtype, but got: {_c_name(a)} != {_c_name(b)}"
        )
    check_dtype("addmm_impl_cpu_", a, NUMBER)


def _c_name(type_: TensorType) -> str:
    """The C++ name that PyTorch's message gives for a dtype."""
    names = {"float32": "float", "float64": "double", "int64": "long long", "int32": "int", "bool": "bool"}
    return names.get(type_.dtype.torch_name, f"c10::{type_.dtype.scalar_type}")


def _mats_error(a: Shape, b: Shape) -> RuntimeError:
    rows = product(a[:-1])
    return RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a[-1]} and {b[0]}x{b[1]})")


def _matmul_infer(a: TensorType, b: TensorType) -> TensorType:
    _check_mats(a, b)
    if a.rank < 2 or b.rank < 2:
        raise RuntimeError(f"matmul: both operands need at least 2 dims here, got {a} and {b}")
    if a.shape[-1] != b.shape[-2]:
        if b.rank == 2:
            raise _mats_error(a.shape, b.shape)
        batch = broadcast(a.shape[:-2], b.shape[:-2])
        want = f"[{product(batch)}, {a.shape[-1]}]"
        have = f"[{product(batch)}, {b.shape[-2]}]"
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: {want} but got: {have}."
        )
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    return a.with_shape((*batch, a.shape[-2], b.shape[-1]))


def transposed(F: Any, x: Any) -> Any:
    """The last two dims exchanged."""
    rank = len(shape_of(F, x))
    return F.permute(x, dims=(*range(rank - 2), rank - 1, rank - 2))


def adjoint(F: Any, x: Any) -> Any:
    """The conjugate transpose of the last two dims; of real matrices the transpose."""
    return F.conj(transposed(F, x))


def _matmul_numpy(a: Array, b: Array) -> Array:
    return by_float64(np.matmul, a, b, a.shape[-1])


def _matmul_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    a, b = ctx.inputs
    a_shape, b_shape = shape_of(F, a), shape_of(F, b)
    if len(b_shape) == 2 and len(a_shape) > 2:
        # One matrix against many: all rows together, instead of a batch of products to be summed.
        rows = product(a_shape[:-1])
        flat_dy = F.reshape(dy, shape=(rows, b_shape[-1]))
        return needed(
            ctx,
            lambda: F.reshape(F.matmul(flat_dy, adjoint(F, b)), shape=a_shape),
            lambda: F.matmul(adjoint(F, F.reshape(a, shape=(rows, a_shape[-1]))), flat_dy),
        )
    return needed(
        ctx,
        lambda: F.matmul(dy, adjoint(F, b)),
        lambda: F.matmul(adjoint(F, a), dy),
    )


def _matmul_flops(a: TensorType, b: TensorType) -> DimLike:
    return product((2, *broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], a.shape[-1], b.shape[-1]))


declare(
    Op(
        "matmul",
        "[..., m, k] times [..., k, n], leading dims broadcast. "
        "https://docs.pytorch.org/docs/stable/generated/torch.matmul.html (operands of 2 dims or more)",
        infer=_matmul_infer,
        numpy=wide(_matmul_numpy),
        arity=(2, 2),
        lowering="contraction",
        vjp=_matmul_vjp,
        saves=("input:0", "input:1"),
        grad_name="MmBackward0",
        flops=_matmul_flops,
        samples=(
            uniform((3, 5), (5, 4)),
            uniform((17, 33), (33, 9), tolerance=4),
            uniform((2, 3, 5), (5, 4)),
            uniform((2, 1, 3, 5), (4, 5, 2)),
            uniform((3, 5), (2, 5, 4)),
            uniform((0, 5), (5, 4)),
            uniform((3, 0), (0, 4)),
            uniform((1, 1), (1, 1)),
            strided((3, 5), (5, 4)),
        ),
    )
)


def _addmm_infer(bias: TensorType, a: TensorType, b: TensorType) -> TensorType:
    for number, mat in ((1, a), (2, b)):
        if mat.rank != 2:
            raise RuntimeError(f"mat{number} must be a matrix, got {mat.rank}-D tensor")
    result = _matmul_infer(a, b)
    if bias.dtype is not a.dtype:
        raise RuntimeError("self and mat2 must have the same dtype")
    lead = 2 - bias.rank
    for i, (have, want) in enumerate(zip(bias.shape, result.shape[lead:])):
        if have not in (1, want):
            raise RuntimeError(
                f"The expanded size of the tensor ({want}) must match the existing size ({have}) at "
                f"non-singleton dimension {lead + i}.  Target sizes: {shape_text(result.shape)}.  Tensor "
                f"sizes: {shape_text(bias.shape)}"
            )
    return result


declare(
    Op(
        "addmm",
        "addmm(bias, a, b): bias + a @ b, of matrices. "
        "https://docs.pytorch.org/docs/stable/generated/torch.addmm.html",
        infer=_addmm_infer,
        numpy=wide(lambda bias, a, b: np.add(np.matmul(a, b), bias)),
        arity=(3, 3),
        level="composite",
        vjp=lambda F, ctx, dy: needed(
            ctx,
            lambda: dy,
            lambda: F.matmul(dy, adjoint(F, ctx.inputs[2])),
            lambda: F.matmul(adjoint(F, ctx.inputs[1]), dy),
        ),
        decompose=lambda F, bias, a, b: F.add(F.matmul(a, b), bias),
        saves=("input:1", "input:2"),
        grad_name="AddmmBackward0",
        flops=lambda bias, a, b: _matmul_flops(a, b),
        samples=(
            uniform((4,), (3, 5), (5, 4)),
            uniform((3, 1), (3, 5), (5, 4)),
            uniform((), (3, 5), (5, 4)),
            uniform((4,), (0, 5), (5, 4)),
            uniform((4,), (3, 0), (0, 4)),
        ),
    )
)
