"""A contraction's operands as expressions: views, borders of zeros and conversions cost nothing but the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Value
from ..lower.context import Args, LowerContext
from ..lower.contraction import Reading
from ..lower.indexing import BodyEvaluator, Guard, IndexTuple, condition, constant
from ..scalar import SCALAR


@dataclass(frozen=True)
class GuardedOperands:
    """Reads body inputs through whatever views there are."""

    ctx: LowerContext
    body: Graph
    args: Args

    def _evaluator(self) -> BodyEvaluator:
        return BodyEvaluator(self.body, {v: self.args[v] for v in self.body.inputs}, None, self.ctx.flat)

    def read(self, value: Value, index: IndexTuple) -> Reading:
        return Reading(self._evaluator().at(value, index))

    def bordered(
        self,
        value: Value,
        low: Sequence[int],
        step: Sequence[int],
        space: Sequence[DimLike],
        index: IndexTuple,
    ) -> Reading:
        lead, spatial = index[:2], index[2:]
        where: list[DimLike] = list(lead)
        guards: list[Guard] = []
        for at, begin, every, size in zip(spatial, low, step, value.type.shape[2:], strict=True):
            place = at - begin
            if every > 1:
                guards.append((0, dims.mod(place, every), 1))
                place = dims.floordiv(place, every)
            where.append(place)
            guards.append((0, place, size))
        evaluator = self._evaluator()
        tests = evaluator.open_tests(guards)
        zero = constant(0, value.type.dtype)
        if tests is None:
            return Reading(zero)
        element = evaluator.at(value, tuple(where))
        test = condition(tests)
        return Reading(element if test is None else SCALAR.select(test, element, zero))

    def step(self, value: Value) -> int:
        return 1

    @property
    def has_phases(self) -> bool:
        return False

    def phased(
        self, value: Value, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple
    ) -> Reading:
        raise NotImplementedError("phased copies")
