"""Views that read memory otherwise than `views.py`: windows that may overlap, free strides, bits as another dtype.

In eager mode their results share memory with the operand, as those of `views.py` do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dims import DimLike, bounds, exact_div, floordiv
from ..dtypes import DType
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, Shape, check_dim, made, shape_of, shape_text, uniform, values
from .views import OVERLAP, Case, Index

Strides = tuple[int, ...]

# unfold


def _unfold_infer(x: TensorType, dim: int, size: int, step: int) -> TensorType:
    check_dim(dim, x.rank)
    if step < 1:
        raise RuntimeError(f"step is {step} but must be > 0")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    have = x.shape[dim] if x.rank else 1
    if bounds(have - size)[1] < 0:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {have} but size is {size}")
    if not x.rank:
        return x.with_shape((size,))
    return x.with_shape((*x.shape[:dim], floordiv(have - size, step) + 1, *x.shape[dim + 1 :], size))


def _unfold_numpy(x: Array, dim: int, size: int, step: int) -> Array:
    if not x.ndim:
        return x.reshape(1)[:size]
    count = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :], size)
    strides = (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1 :], x.strides[dim])
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def _unfold_index(
    types: list[TensorType], result: TensorType, index: Index, dim: int, size: int, step: int
) -> list[Case]:
    if not types[0].rank:
        return [(0, (), None)]
    return [(0, (*index[:dim], index[dim] * step + index[-1], *index[dim + 1 : -1]), None)]


def _window_index(F: Any, count: DimLike, size: int, step: int) -> Any:
    """Where element j of window i lies: i * step + j."""
    window = F.iota(shape=(count, size), dim=0, dtype=dtypes.i64)
    return F.add(F.mul(window, step), F.iota(shape=(count, size), dim=1, dtype=dtypes.i64))


def _windows_apart(shape: Shape, dim: int) -> tuple[int, ...]:
    """The order of an unfolded tensor's dims in which a window's elements follow its number."""
    rank = len(shape)
    return (*range(dim + 1), rank, *range(dim + 1, rank))


def _unfold_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    shape, dim, size = shape_of(F, ctx.inputs[0]), ctx.attrs["dim"], ctx.attrs["size"]
    if not shape:
        return [F.reshape(dy, shape=()) if size else F.zeros_like(ctx.inputs[0])]
    index = _window_index(F, shape_of(F, dy)[dim], size, ctx.attrs["step"])
    moved = F.permute(dy, dims=_windows_apart(shape, dim))
    return [F.index_add(F.zeros_like(ctx.inputs[0]), index, moved, dim=dim)]


def _unfold_write(F: Any, base: Any, view: Any, dim: int, size: int, step: int) -> Any:
    shape = shape_of(F, base)
    if step < size and shape and shape_of(F, view)[dim] != 1:
        raise RuntimeError(OVERLAP)
    if not shape:
        return F.reshape(view, shape=()) if size else base
    index = _window_index(F, shape_of(F, view)[dim], size, step)
    return F.index_update(base, index, F.permute(view, dims=_windows_apart(shape, dim)), dim=dim)


declare(
    Op(
        "unfold",
        "Windows of `size` elements along `dim`, `step` apart; a window's elements are the last dim. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.unfold.html",
        infer=_unfold_infer,
        numpy=_unfold_numpy,
        attrs={"dim": Attr("int"), "size": Attr("int"), "step": Attr("int")},
        lowering="view",
        vjp=_unfold_vjp,
        index_map=_unfold_index,
        write_back=_unfold_write,
        grad_name="UnfoldBackward0",
        samples=(
            uniform((7,), dim=0, size=3, step=2),
            uniform((2, 6, 3), dim=1, size=3, step=1),
            uniform((4, 5), dim=1, size=2, step=3),
            uniform((3, 4), dim=0, size=3, step=1),
            uniform((), dim=0, size=1, step=1),
        ),
    )
)

# strided


def _strided_infer(x: TensorType, size: Shape, stride: Strides, offset: int) -> TensorType:
    if x.rank != 1:
        raise RuntimeError(f"strided: expected memory as one dim, got {shape_text(x.shape)}")
    if len(size) != len(stride):
        raise RuntimeError(
            f"mismatch in length of strides and shape: {len(stride)} strides, {len(size)} sizes"
        )
    for step in stride:
        if step < 0:
            raise RuntimeError(
                "as_strided: Negative strides are not supported at the moment, got strides: "
                f"{shape_text(stride)}"
            )
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    if 0 not in size:
        last: DimLike = offset
        for n, step in zip(size, stride):
            last = last + (n - 1) * step
        if bounds(x.shape[0] - 1 - last)[1] < 0:
            raise RuntimeError(
                f"setStorage: sizes {shape_text(size)}, strides {shape_text(stride)}, storage offset {offset}, and "
                f"itemsize {x.dtype.itemsize} requiring a storage size of {(last + 1) * x.dtype.itemsize} are out "
                f"of bounds for storage of size {x.shape[0] * x.dtype.itemsize}"
            )
    return x.with_shape(size)


def _strided_numpy(x: Array, size: tuple[int, ...], stride: Strides, offset: int) -> Array:
    if 0 in size:
        return x[:0].reshape(size)
    step = x.strides[0]
    return np.lib.stride_tricks.as_strided(x[offset:], size, [n * step for n in stride])


def _strided_index(
    types: list[TensorType], result: TensorType, index: Index, size: Shape, stride: Strides, offset: int
) -> list[Case]:
    where: DimLike = offset
    for i, step in zip(index, stride):
        where = where + i * step
    return [(0, (where,), None)]


def _strided_places(F: Any, size: Shape, stride: Strides, offset: int) -> Any:
    """Where each element lies, in one dim."""
    where = F.full(shape=size, value=offset, dtype=dtypes.i64)
    for dim, step in enumerate(stride):
        where = F.add(where, F.mul(F.iota(shape=size, dim=dim, dtype=dtypes.i64), step))
    return F.reshape(where, shape=(F.type_of(where).numel,))


def _strided_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    flat = F.reshape(dy, shape=(F.type_of(dy).numel,))
    return [F.index_add(F.zeros_like(ctx.inputs[0]), _strided_places(F, **ctx.attrs), flat, dim=0)]


def _strided_write(F: Any, base: Any, view: Any, size: Shape, stride: Strides, offset: int) -> Any:
    repeats = any(step == 0 and n != 1 for step, n in zip(stride, size))
    if repeats or bounds(F.type_of(base).numel - F.type_of(view).numel)[1] < 0:
        raise RuntimeError(OVERLAP)
    flat = F.reshape(view, shape=(F.type_of(view).numel,))
    return F.index_update(base, _strided_places(F, size, stride, offset), flat, dim=0)


declare(
    Op(
        "strided",
        "Element i, j, ... is element offset + i * stride[0] + j * stride[1] + ... of the operand, which has 1 dim: "
        "memory. https://docs.pytorch.org/docs/stable/generated/torch.as_strided.html",
        infer=_strided_infer,
        numpy=_strided_numpy,
        attrs={"size": Attr("dims"), "stride": Attr("ints"), "offset": Attr("int", 0)},
        lowering="view",
        vjp=_strided_vjp,
        index_map=_strided_index,
        write_back=_strided_write,
        grad_name="AsStridedBackward0",
        samples=(
            uniform((9,), size=(2, 3), stride=(1, 2), offset=1),
            uniform((9,), size=(3, 3), stride=(3, 1)),
            uniform((5,), size=(3, 3), stride=(1, 1)),
            uniform((4,), size=(), stride=(), offset=2),
            uniform((4,), size=(2, 3), stride=(0, 1)),
            uniform((4,), size=(0, 3), stride=(3, 1)),
        ),
    )
)

# bitcast and view_dtype

_UNSIGNED = {1: dtypes.u8, 2: dtypes.u16, 4: dtypes.u32, 8: dtypes.u64}


def _bitcast_infer(x: TensorType, dtype: DType) -> TensorType:
    if x.dtype.itemsize != dtype.itemsize:
        raise RuntimeError(f"bitcast: {x.dtype.name} and {dtype.name} are of different sizes; use view_dtype")
    return TensorType(x.shape, dtype)


def _bitcast_scalar(s: Any, x: Any, dtype: DType) -> Any:
    # A bool is a byte in memory and a bit in a register.
    if x.dtype is dtypes.bool_:
        return s.cast(x, dtype)
    return s.ne(x, 0) if dtype is dtypes.bool_ else s.bitcast(x, dtype)


def _bits(rng: Any, *shape: int) -> list[Array]:
    return [rng.integers(0, 1 << 30, shape).astype(np.int32)]


declare(
    Op(
        "bitcast",
        "The same bits read as another dtype of the same size. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.view.html (with a dtype)",
        infer=_bitcast_infer,
        numpy=lambda x, dtype: x.view(dtype.numpy),
        attrs={"dtype": Attr("dtype")},
        lowering="pointwise",
        scalar=_bitcast_scalar,
        write_back=lambda F, base, view, dtype: F.bitcast(view, dtype=F.type_of(base).dtype),
        samples=(
            made(lambda rng: _bits(rng, 3, 4), gradient=False, dtype=dtypes.f32),
            made(lambda rng: _bits(rng), gradient=False, dtype=dtypes.u32),
            made(lambda rng: [rng.random(5) > 0.5], gradient=False, dtype=dtypes.u8),
            values(np.array([1, -1], np.int64), dtype=dtypes.f64),
        ),
    )
)


def _view_dtype_infer(x: TensorType, dtype: DType) -> TensorType:
    have, want = x.dtype.itemsize, dtype.itemsize
    if have == want:
        return TensorType(x.shape, dtype)
    if not x.rank:
        raise RuntimeError(
            f"self.dim() cannot be 0 to view {x.dtype.scalar_type} as {dtype.scalar_type} (different element sizes)"
        )
    try:
        last = exact_div(x.shape[-1] * have, want)
    except ValueError:
        raise RuntimeError(
            f"self.size(-1) must be divisible by {want // have} to view {x.dtype.scalar_type} as "
            f"{dtype.scalar_type} (different element sizes), but got {x.shape[-1]}"
        ) from None
    return TensorType((*x.shape[:-1], last), dtype)


def _view_dtype_numpy(x: Array, dtype: DType) -> Array:
    if x.size:
        return x.view(dtype.numpy)
    return np.zeros((*x.shape[:-1], x.shape[-1] * x.itemsize // dtype.itemsize), dtype.numpy)


def _view_dtype_decompose(F: Any, x: Any, dtype: DType) -> Any:
    """Through unsigned integers; the first element is the lowest bits (every target is little-endian)."""
    type_ = F.type_of(x)
    have, want = type_.dtype.itemsize, dtype.itemsize
    shape = _view_dtype_infer(type_, dtype).shape
    if have == want:
        return F.bitcast(x, dtype=dtype)
    bits = F.bitcast(x, dtype=_UNSIGNED[have])
    parts = []
    if have > want:
        for k in range(have // want):
            part = F.floor_divide(bits, 1 << 8 * want * k) if k else bits
            parts.append(F.reshape(F.convert(part, dtype=_UNSIGNED[want]), shape=(*type_.shape, 1)))
        return F.bitcast(F.reshape(F.concat(*parts, dim=type_.rank), shape=shape), dtype=dtype)
    count = want // have
    apart = F.convert(F.reshape(bits, shape=(*shape, count)), dtype=_UNSIGNED[want])
    starts, stops = (0,) * len(shape), (1,) * (len(shape) + 1)
    for k in range(count):
        part = F.slice(apart, starts=(*starts, k), stops=(*shape, k + 1), steps=stops)
        parts.append(F.mul(F.reshape(part, shape=shape), 1 << 8 * have * k))
    joined = parts[0]
    for part in parts[1:]:
        joined = F.bitwise_or(joined, part)
    return F.bitcast(joined, dtype=dtype)


declare(
    Op(
        "view_dtype",
        "The same memory read as another dtype; the last dim has as many elements as fit. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.view.html (with a dtype)",
        infer=_view_dtype_infer,
        numpy=_view_dtype_numpy,
        attrs={"dtype": Attr("dtype")},
        level="composite",
        decompose=_view_dtype_decompose,
        write_back=lambda F, base, view, dtype: F.view_dtype(view, dtype=F.type_of(base).dtype),
        samples=(
            made(lambda rng: _bits(rng, 3, 4), gradient=False, dtype=dtypes.u8),
            made(lambda rng: _bits(rng, 3, 4), gradient=False, dtype=dtypes.i64),
            made(lambda rng: _bits(rng, 3, 4), gradient=False, dtype=dtypes.f32),
            made(lambda rng: _bits(rng, 5), gradient=False, dtype=dtypes.i16),
        ),
    )
)
