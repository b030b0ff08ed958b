"""The op table expanded: every declared op with every sample, for the tests and for the references from
PyTorch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir import dtypes
from vitrify.ir.builder import ARRAYS, OpBuilder
from vitrify.ir.dtypes import DType
from vitrify.ir.half_precision import gradients
from vitrify.ir.interpreter import symbol_of
from vitrify.ir.op import Op, Sample, VJPContext, all_ops
from vitrify.ir.types import TensorType

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    op: Op
    number: int
    sample: Sample

    @property
    def id(self) -> str:
        return f"{self.op.name}-{self.number}"

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(self.id.encode()))

    def operands(self, dtype: DType) -> list[Array]:
        """The sample's operands; float64, which stands for the dtype under test, becomes `dtype`."""
        made = [np.asarray(a) for a in self.sample.make(self.rng())]
        with np.errstate(over="ignore"):
            return [a.astype(dtype.numpy) if a.dtype == np.float64 else a for a in made]

    @property
    def attrs(self) -> dict[str, Any]:
        return self.op.normalise_attrs(self.sample.attrs)

    def compute(self, operands: list[Array]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            results = self.op.numpy(*operands, **self.attrs)
        return tuple(map(np.asarray, results)) if isinstance(results, tuple) else (np.asarray(results),)

    def told(self, types: Sequence[TensorType], results: Sequence[Array]) -> dict[str, int]:
        """The dims that only the results tell."""
        pairs = [(d, n) for t, r in zip(types, results) for d, n in zip(t.shape, r.shape)]
        return {s.name: n for d, n in pairs if self.op.sizes and (s := symbol_of(d)) is not None}

    def cotangents(self, results: tuple[Array, ...]) -> list[Array]:
        rng = np.random.default_rng(7)
        return [rng.normal(size=r.shape).astype(r.dtype) for r in results]

    def gradients(self, operands: list[Array], F: OpBuilder = ARRAYS) -> list[Array | None]:
        """The gradients of every floating operand for `cotangents`, by the op's rule; None for the others."""
        results = self.compute(operands)
        return vjp_of(self.op, F, operands, results, self.attrs, self.cotangents(results))


def vjp_of(op: Op, F: Any, operands: Any, results: Any, attrs: Any, cotangents: Any) -> list[Any]:
    """The op's gradient rule, broadcasting undone as drivers undo it."""
    needs = tuple(F.type_of(x).dtype.is_floating_point for x in operands)
    ctx = VJPContext(tuple(operands), tuple(results), attrs, needs)
    with np.errstate(all="ignore"):
        grads = gradients(op, F, ctx, cotangents)
        assert len(grads) == len(operands)
        return [
            None if g is None or not need else F.sum_to(g, F.type_of(x).shape)
            for g, need, x in zip(grads, needs, operands)
        ]


CASES = [Case(op, i, sample) for op in all_ops() for i, sample in enumerate(op.samples)]


def floating(case: Case) -> bool:
    return any(np.asarray(a).dtype == np.float64 for a in case.sample.make(case.rng()))


def differentiable(case: Case) -> bool:
    return case.sample.gradient and case.op.vjp is not None and floating(case)


NARROW_TOLERANCE = {dtypes.f16: 2e-3, dtypes.bf16: 2e-2}
