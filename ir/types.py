"""The type of a value in the graph: a shape, whose dims may be symbolic, and an element type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .dims import DimLike, Expr, Symbol, evaluate, product, substitute, symbols
from .dtypes import DType


@dataclass(frozen=True)
class TensorType:
    shape: tuple[DimLike, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> DimLike:
        return product(self.shape)

    @property
    def nbytes(self) -> DimLike:
        return self.numel * self.dtype.itemsize

    @property
    def is_static(self) -> bool:
        return not any(isinstance(d, Expr) for d in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a static type; TypeError for a symbolic one."""
        return tuple(int(d) for d in self.shape)

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        found = {s.name: s for d in self.shape for s in symbols(d)}
        return tuple(found[name] for name in sorted(found))

    def with_shape(self, shape: tuple[DimLike, ...]) -> TensorType:
        return TensorType(shape, self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def bind(self, bindings: Mapping[str, int]) -> TensorType:
        """This type with its symbols replaced by numbers; KeyError names one that is missing."""
        return self.with_shape(tuple(evaluate(d, bindings) for d in self.shape))

    def substitute(self, bindings: Mapping[str, DimLike]) -> TensorType:
        return self.with_shape(tuple(substitute(d, bindings) for d in self.shape))

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"
