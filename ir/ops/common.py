"""What the op declarations share: broadcasting, dtype checks, narrow floats, sizes as values, sample rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..dims import DimLike, bounds
from ..dtypes import DType
from ..op import Sample, VJPContext
from ..types import TensorType

if TYPE_CHECKING:
    from ..builder import OpBuilder

Array = np.ndarray[Any, Any]
Shape = tuple[DimLike, ...]
NumPyRule = Callable[..., Any]

FLOAT = frozenset({"float"})
FLOATING = frozenset({"float", "complex"})
NUMBER = frozenset({"uint", "int", "float", "complex"})
REAL = frozenset({"bool", "uint", "int", "float"})
INTEGERS = frozenset({"uint", "int"})
INTEGRAL = frozenset({"bool", "uint", "int"})
ANY = frozenset({"bool", "uint", "int", "float", "complex"})


def broadcast(*shapes: Shape) -> Shape:
    """The shape that NumPy broadcasting gives; RuntimeError in PyTorch's words where dims do not fit.

    A symbolic dim fits itself and 1, nothing else: it is never taken to be 1.
    """
    result = shapes[0]
    for other in shapes[1:]:
        if other != result:
            result = _broadcast_two(result, other)
    return result


def _broadcast_two(a: Shape, b: Shape) -> Shape:
    long, short = (a, b) if len(a) >= len(b) else (b, a)
    lead = len(long) - len(short)
    joined = list(long)
    for i in reversed(range(lead, len(long))):  # PyTorch names the last dim that does not fit
        size, have = short[i - lead], joined[i]
        if have == 1:
            joined[i] = size
        elif size != 1 and size != have:
            x, y = (have, size) if long is a else (size, have)
            raise RuntimeError(
                f"The size of tensor a ({x}) must match the size of tensor b ({y}) "
                f"at non-singleton dimension {i}"
            )
    return tuple(joined)


# How PyTorch refuses complex numbers, where it does not name the op itself: its kernel's name, or a sentence.
_COMPLEX_KERNELS = {
    **{
        name: f"{name}_cpu"
        for name in ("lt", "le", "gt", "ge", "remainder", "bitwise_and", "bitwise_or", "bitwise_xor")
    },
    "erf": "erf_vml_cpu",
    "round": "round_vml_cpu",
    "floor_divide": "div_floor_cpu",
    "amax": "max_values_cpu",
    "amin": "min_values_cpu",
}
_COMPLEX_SENTENCES: dict[str, tuple[type[Exception], str]] = {
    **{
        name: (NotImplementedError, f"{name} is not supported for complex inputs")
        for name in ("floor", "ceil", "trunc")
    },
    "relu": (NotImplementedError, "clamp is not supported for complex types"),
    "clamp": (NotImplementedError, "clamp is not supported for complex types"),
    "sign": (
        NotImplementedError,
        "Unlike NumPy, torch.sign is not intended to support complex numbers. Please use torch.sgn instead.",
    ),
    **{
        name: (RuntimeError, f"{name} not implemented for complex tensors.")
        for name in ("maximum", "minimum")
    },
    **{name: (RuntimeError, f"{name}(): does not support complex input") for name in ("argmax", "argmin")},
}


def check_dtype(name: str, type_: TensorType, kinds: frozenset[str]) -> None:
    if type_.dtype.kind not in kinds:
        if type_.dtype.is_complex:
            if name in _COMPLEX_SENTENCES:
                error, text = _COMPLEX_SENTENCES[name]
                raise error(text)
            name = _COMPLEX_KERNELS.get(name, name)
        raise NotImplementedError(f"\"{name}\" not implemented for '{type_.dtype.scalar_type}'")


def check_same_dtype(name: str, *types: TensorType) -> None:
    for other in types[1:]:
        if other.dtype is not types[0].dtype:
            raise RuntimeError(
                f"{name}: expected operands of one dtype, got {types[0].dtype!r} and {other.dtype!r}"
            )


def check_shape(shape: Shape) -> None:
    """RuntimeError for a shape with a negative dim."""
    for size in shape:
        if bounds(size)[1] < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {size}: {shape_text(shape)}")


def check_index(name: str, index: TensorType) -> None:
    if index.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(f"{name}(): Expected dtype int32 or int64 for index, got {index.dtype!r}")


def check_dim(dim: int, rank: int) -> None:
    """IndexError for a dim that the operand does not have; a 0-d operand counts as having one."""
    size = max(rank, 1)
    if not 0 <= dim < size:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})"
        )


def pointwise(name: str, kinds: frozenset[str], result: DType | None = None) -> Callable[..., TensorType]:
    """The shape rule of a pointwise op: operands of one dtype, broadcast; `result` where the dtype
    changes."""

    def infer(first: TensorType, *others: TensorType, **attrs: Any) -> TensorType:
        if first.dtype.kind not in kinds:
            check_dtype(name, first, kinds)
        shape = first.shape
        for other in others:
            if other.dtype is not first.dtype:
                check_same_dtype(name, first, other)
            if other.shape != shape:
                shape = _broadcast_two(shape, other.shape)
        if result is None and shape is first.shape:
            return first
        return TensorType(shape, result or first.dtype)

    return infer


_NARROW = frozenset({dtypes.f16.numpy, dtypes.bf16.numpy})


def wide(rule: NumPyRule) -> NumPyRule:
    """The rule with float16 and bfloat16 operands computed in float32 and the result rounded once."""

    @wraps(rule)
    def computed(*arrays: Array, **attrs: Any) -> Any:
        dtype = arrays[0].dtype
        if dtype not in _NARROW:
            return rule(*arrays, **attrs)
        widened = (a.astype(np.float32) if a.dtype == dtype else a for a in arrays)
        return np.asarray(rule(*widened, **attrs)).astype(dtype)

    return computed


def by_float64(product: Callable[[Array, Array], Array], a: Array, b: Array, terms: int) -> Array:
    """Sums of `terms` products each of two arrays' elements; those of integers by way of float64, for which there are
    fast products, where no sum can be rounded in it."""
    if a.dtype.kind not in "iu" or not a.size or not b.size:
        return product(a, b)
    largest = [max(abs(int(x.min())), abs(int(x.max()))) for x in (a, b)]
    if largest[0] * largest[1] * terms >= 1 << 53:
        return product(a, b)
    found = product(a.astype(np.float64), b.astype(np.float64))
    return found.astype(np.int64).astype(a.dtype)


def comparable(x: Array) -> Array:
    """bfloat16 as float32, whose order NumPy knows."""
    return x.astype(np.float32) if x.dtype.kind == "V" else x


def part(F: OpBuilder, x: Any, dim: int, start: DimLike, stop: DimLike) -> Any:
    """x[start:stop] along a dim, which may be negative."""
    shape = shape_of(F, x)
    starts: list[DimLike] = [0] * len(shape)
    stops = list(shape)
    starts[dim], stops[dim] = start, stop
    return F.slice(x, starts=tuple(starts), stops=tuple(stops), steps=(1,) * len(shape))


def needed(ctx: VJPContext, *rules: Callable[[], Any]) -> list[Any]:
    """The cotangents that are wanted, one rule per operand; None for the others."""
    return [rule() if need else None for rule, need in zip(rules, ctx.needs)]


def shape_of(F: OpBuilder, value: Any) -> Shape:
    return F.type_of(value).shape


def size_value(F: OpBuilder, size: DimLike, dtype: DType) -> Any:
    """A dim as a number to compute with: a Python float, or for a symbolic dim a 0-d value (element `size` of
    an iota, which codegen reads off as the index it is)."""
    if isinstance(size, int):
        return float(size)
    count = F.iota(shape=(size + 1,), dim=0, dtype=dtypes.i64)
    last = F.slice(count, starts=(size,), stops=(size + 1,), steps=(1,))
    return F.convert(F.reshape(last, shape=()), dtype=dtype)


def shape_text(shape: Shape) -> str:
    """A shape as PyTorch's messages write it: `[2, 3]`."""
    return "[" + ", ".join(map(str, shape)) + "]"


def torch_name(name: str) -> str:
    """The name PyTorch generates for an op's gradient: `log_softmax` → `LogSoftmaxBackward0`."""
    return "".join(part.capitalize() for part in name.split("_")) + "Backward0"


# Sample rows. Operands are made in float64, which stands for the dtype under test; other dtypes stay what
# they are.


def uniform(
    *shapes: tuple[int, ...],
    between: tuple[float, float] = (-2.0, 2.0),
    gradient: bool = True,
    tolerance: float = 1.0,
    **attrs: Any,
) -> Sample:
    """Operands of the given shapes, uniform between two numbers."""
    return Sample(
        lambda rng: [rng.uniform(*between, shape) for shape in shapes],
        attrs,
        gradient,
        tolerance,
        label="x".join(str(list(s)) for s in shapes),
    )


def distinct(*shapes: tuple[int, ...], gradient: bool = True, **attrs: Any) -> Sample:
    """Operands whose elements all differ by at least 1/4, so that no ties or kinks lie within a difference
    quotient."""

    def make(rng: Any) -> list[Array]:
        sizes = [int(np.prod(s)) for s in shapes]
        values = (rng.permutation(sum(sizes)) - sum(sizes) // 2) * 0.25 + 0.125
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return [part.reshape(s) for part, s in zip(parts, shapes)]

    return Sample(make, attrs, gradient, label="x".join(str(list(s)) for s in shapes))


def values(*operands: Any, gradient: bool = False, label: str = "special", **attrs: Any) -> Sample:
    """Operands given outright; lists of floats become float64."""
    arrays = [np.asarray(o) for o in operands]
    return Sample(lambda rng: [a.copy() for a in arrays], attrs, gradient, label=label)


def strided(*shapes: tuple[int, ...], between: tuple[float, float] = (-2.0, 2.0), **attrs: Any) -> Sample:
    """Operands that are not contiguous: every dim reversed, with every second element left out."""

    def make(rng: Any) -> list[Array]:
        big = [rng.uniform(*between, [2 * n for n in shape]) for shape in shapes]
        return [b[tuple(slice(None, None, -2) for _ in b.shape)] for b in big]

    return Sample(make, attrs, label="strided")


def integers(*shapes: tuple[int, ...], low: int = -9, high: int = 10, **attrs: Any) -> Sample:
    """int64 operands in [low, high)."""
    return Sample(
        lambda rng: [rng.integers(low, high, shape) for shape in shapes],
        attrs,
        gradient=False,
        label="integers",
    )


def made(
    make: Callable[[Any], Sequence[Any]], gradient: bool = True, label: str = "", **attrs: Any
) -> Sample:
    return Sample(make, attrs, gradient, label=label)
