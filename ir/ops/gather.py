"""Elements chosen by computed indices, and the reverse: elements added at computed indices.

An index outside its dim raises here, as PyTorch does; compiled code checks it too and raises when the call
returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dims import DimLike, Expr
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import (
    NUMBER,
    Array,
    Shape,
    check_dim,
    check_dtype,
    check_index,
    check_same_dtype,
    made,
    needed,
    shape_of,
    shape_text,
    wide,
)

Ints = tuple[int, ...]
DIM = {"dim": Attr("int")}


def exceeds(a: DimLike, b: DimLike) -> bool:
    """Whether a > b is certain."""
    if isinstance(a, Expr) or isinstance(b, Expr):
        return False
    return a > b


# gather and scatter_add: an index per element


def check_ranks(x: TensorType, index: TensorType, dim: int, what: str) -> None:
    check_dim(dim, x.rank)
    if max(index.rank, 1) != max(x.rank, 1):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {what} tensor")


def _gather_infer(x: TensorType, index: TensorType, dim: int) -> TensorType:
    check_index("gather", index)
    check_ranks(x, index, dim, "input")
    for i, (have, limit) in enumerate(zip(index.shape, x.shape)):
        if i != dim and exceeds(have, limit):
            raise RuntimeError(
                f"Size does not match at dimension {i} expected index {shape_text(index.shape)} to be no "
                f"larger than self {shape_text(x.shape)} apart from dimension {dim}"
            )
    return x.with_shape(index.shape)


def check_bounds(index: Array, dim: int, size: int) -> None:
    bad = index[(index < 0) | (index >= size)]
    if bad.size:
        raise RuntimeError(f"index {bad.flat[0]} is out of bounds for dimension {dim} with size {size}")


def places_of(index: Array, dim: int) -> tuple[Array, ...]:
    """The full index of each element's place: its own position, with `dim` read from `index`."""
    grid: tuple[Array, ...] = np.indices(index.shape, sparse=True)
    return tuple(index if i == dim else axis for i, axis in enumerate(grid))


def _gather_numpy(x: Array, index: Array, dim: int) -> Array:
    if not x.ndim:
        x = x.reshape(1)
    check_bounds(index, dim, x.shape[dim])
    return x[places_of(index, dim)] if index.ndim else x[index]


def _gather_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, index = ctx.inputs
    return [F.scatter_add(F.zeros_like(x), index, dy, dim=ctx.attrs["dim"]), None]


def _at(x: Ints, index: Ints, dim: int, src: Ints | None = None) -> Sample:
    """Operands x and indices into its dim, and src where the op takes one."""

    def make(rng: Any) -> list[Array]:
        operands = [rng.normal(size=x), rng.integers(0, x[dim] if x else 1, index)]
        return operands if src is None else [*operands, rng.normal(size=src)]

    return made(make, label=f"{list(x)} at {list(index)}", dim=dim)


declare(
    Op(
        "gather",
        "gather(x, index): result[i][j][k] = x[index[i][j][k]][j][k] for dim 0, and so on. "
        "https://docs.pytorch.org/docs/stable/generated/torch.gather.html",
        infer=_gather_infer,
        numpy=_gather_numpy,
        attrs=DIM,
        arity=(2, 2),
        lowering="gather",
        vjp=_gather_vjp,
        saves=("input:1",),
        grad_name="GatherBackward0",
        samples=(
            _at((5,), (3,), 0),
            _at((3, 4), (3, 2), 1),
            _at((3, 4), (6, 4), 0),
            _at((3, 4), (2, 3), 1),
            _at((2, 3, 4), (2, 5, 3), 1),
            _at((3, 4), (0, 4), 0),
            _at((), (), 0),
        ),
    )
)


def scatter_infer(name: str, base: TensorType, index: TensorType, src: TensorType, dim: int) -> TensorType:
    """The type rule of ops that write src's elements at indices into one dim of the base."""
    check_index(name, index)
    check_same_dtype(f"{name}(): Expected self.dtype to be equal to src.dtype;", base, src)
    check_ranks(base, index, dim, "self")
    check_ranks(src, index, dim, "src")
    for i, (have, limit, given) in enumerate(zip(index.shape, base.shape, src.shape)):
        if exceeds(have, given) or (i != dim and exceeds(have, limit)):
            raise RuntimeError(
                f"Expected index {shape_text(index.shape)} to be no larger than self "
                f"{shape_text(base.shape)} apart from dimension {dim} and to be no larger size than src "
                f"{shape_text(src.shape)}"
            )
    return base


def scattered(base: Array, index: Array, src: Array, dim: int, put: Callable[..., None]) -> Array:
    """A copy of the base after `put(copy, places, values)`, the values being the part of src that has an index."""
    result = base.reshape(base.shape or (1,)).copy()
    check_bounds(index, dim, result.shape[dim])
    used: tuple[Any, ...] = (*map(slice, index.shape), ...)
    values = src[used]
    if not index.ndim:
        index, values = index.reshape(1), values.reshape(1)
    put(result, places_of(index, dim), values)
    return result.reshape(base.shape)


def padded_to(F: Any, grad: Any, used: Shape, full: Shape) -> Any:
    """The gradient of what a source's first elements became: 0 for the rest."""
    if used == full:
        return grad
    return F.pad(grad, low=(0,) * len(full), high=tuple(n - m for n, m in zip(full, used)))


def _add_infer(base: TensorType, index: TensorType, src: TensorType, dim: int) -> TensorType:
    check_dtype("scatter_add", base, NUMBER)
    return scatter_infer("scatter", base, index, src, dim)


def _add_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    index, dim = ctx.inputs[1], ctx.attrs["dim"]
    used, full = shape_of(F, index), shape_of(F, ctx.inputs[2])
    return needed(
        ctx,
        lambda: dy,
        lambda: None,
        lambda: padded_to(F, F.gather(dy, index, dim=dim), used, full),
    )


declare(
    Op(
        "scatter_add",
        "scatter_add(base, index, src): base with result[index[i][j]][j] += src[i][j] for dim 0, and so on. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_add_.html",
        infer=_add_infer,
        numpy=wide(lambda base, index, src, dim: scattered(base, index, src, dim, np.add.at)),
        attrs=DIM,
        arity=(3, 3),
        lowering="scatter",
        vjp=_add_vjp,
        saves=("input:1",),
        grad_name="ScatterAddBackward0",
        samples=(
            _at((5,), (7,), 0, (7,)),
            _at((3, 4), (3, 6), 1, (3, 6)),
            _at((3, 4), (5, 4), 0, (5, 4)),
            _at((3, 4), (2, 3), 0, (4, 5)),
            _at((2, 3, 4), (2, 5, 3), 1, (2, 5, 3)),
            _at((3, 4), (0, 4), 0, (0, 4)),
            _at((), (), 0, ()),
        ),
    )
)

# index_select and index_add: an index per slice


def _index_select_infer(x: TensorType, index: TensorType, dim: int) -> TensorType:
    check_index("index_select", index)
    check_dim(dim, x.rank)
    if not x.rank:
        raise IndexError("index_select: a 0-d tensor has no dim to select from")
    return x.with_shape((*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]))


def check_self_bounds(index: Array, size: int) -> None:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise IndexError("index out of range in self")


def _index_select_numpy(x: Array, index: Array, dim: int) -> Array:
    check_self_bounds(index, x.shape[dim])
    return np.take(x, index, dim)


SELECTS: tuple[tuple[Ints, Ints, int], ...] = (
    ((5, 3), (4,), 0),
    ((3, 5), (7,), 1),
    ((5, 3), (2, 4), 0),
    ((2, 3, 4), (2,), 1),
    ((5, 3), (), 0),
    ((5, 3), (0,), 0),
)

declare(
    Op(
        "index_select",
        "index_select(x, index): the slices x[index[i]] along `dim`; the index's dims, of any number, take "
        "that dim's place. https://docs.pytorch.org/docs/stable/generated/torch.index_select.html (there "
        "the index has 1 dim); with 2 dims an embedding",
        infer=_index_select_infer,
        numpy=_index_select_numpy,
        attrs=DIM,
        arity=(2, 2),
        lowering="gather",
        vjp=lambda F, ctx, dy: [
            F.index_add(F.zeros_like(ctx.inputs[0]), ctx.inputs[1], dy, dim=ctx.attrs["dim"]),
            None,
        ],
        saves=("input:1",),
        grad_name="IndexSelectBackward0",
        samples=tuple(_at(*row) for row in SELECTS),
    )
)


def _index_add_infer(base: TensorType, index: TensorType, src: TensorType, dim: int) -> TensorType:
    check_same_dtype("index_add", base, src)
    check_dtype("index_add", base, NUMBER)
    want = _index_select_infer(base, index, dim)
    if want != src:
        if index.rank == 1 and src.rank == base.rank and src.shape[dim] != index.shape[0]:
            raise RuntimeError(
                f"index_add_(): Number of indices ({index.shape[0]}) should be equal to source.size(dim): "
                f"({src.shape[dim]}), for dim: {dim}"
            )
        raise RuntimeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension. "
            f"Got self.shape = {shape_text(base.shape)} source.shape = {shape_text(src.shape)}"
        )
    return base


def _index_add_numpy(base: Array, index: Array, src: Array, dim: int) -> Array:
    check_self_bounds(index, base.shape[dim])
    result = base.copy()
    places: Any = (*(slice(None),) * dim, index)
    np.add.at(result, places, src)
    return result


declare(
    Op(
        "index_add",
        "index_add(base, index, src): base with src's slices added at base[index[i]] along `dim`. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_add_.html",
        infer=_index_add_infer,
        numpy=wide(_index_add_numpy),
        attrs=DIM,
        arity=(3, 3),
        lowering="scatter",
        vjp=lambda F, ctx, dy: needed(
            ctx,
            lambda: dy,
            lambda: None,
            lambda: F.index_select(dy, ctx.inputs[1], dim=ctx.attrs["dim"]),
        ),
        saves=("input:1",),
        grad_name="IndexAddBackward0",
        samples=tuple(_at(x, i, d, (*x[:d], *i, *x[d + 1 :])) for x, i, d in SELECTS),
    )
)


def _check_index_infer(
    index: TensorType, size: tuple[DimLike, ...], ignored: int | None, what: str
) -> TensorType:
    if not index.dtype.is_integral:
        raise RuntimeError(f"check_index: expected integers, got {index.dtype.name}")
    if len(size) != 1:
        raise RuntimeError(f"check_index: size holds one dim, got {shape_text(size)}")
    return index


def _check_index_numpy(index: Array, size: tuple[int, ...], ignored: int | None, what: str) -> Array:
    bad = (index < 0) | (index >= size[0])
    if ignored is not None:
        bad &= index != ignored
    if bad.any():
        raise IndexError(f"{what} {index[bad].flat[0]} is out of bounds.")
    return index.copy()


declare(
    Op(
        "check_index",
        "check_index(index): the indices, each of which must be at least 0 and below `size`, or be `ignored`; "
        "otherwise IndexError, which calls the index `what`. For indices that are compared rather than looked up.",
        infer=_check_index_infer,
        numpy=_check_index_numpy,
        attrs={"size": Attr("dims"), "ignored": Attr("optional_int", None), "what": Attr("str", "Index")},
        lowering="check",
        samples=(
            made(lambda rng: [rng.integers(0, 5, (3, 2))], gradient=False, size=(5,)),
            made(
                lambda rng: [np.array([0, -100, 4])], gradient=False, size=(5,), ignored=-100, what="Target"
            ),
            made(lambda rng: [np.zeros((0,), np.int64)], gradient=False, size=(0,)),
        ),
    )
)
