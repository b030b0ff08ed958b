"""How vmap computes an op: by its batching rule, by its decomposition, or sample by sample.

A rule gets the operands below (those that are batched have the batch as dim 0) and computes the results of all samples,
batch first. Rules stand in tables by the op's name, and by its `lowering` for the kinds whose ops all behave alike. A
composite without a rule runs its decomposition under the same vmap; whatever is left runs once per sample, with the
warning that PyTorch gives then.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import TENSORS as F
from ..dispatch import apply
from ..ir.dims import Expr
from ..ir.half_precision import decomposed
from ..ir.op import Op
from ..tensor import Tensor

if TYPE_CHECKING:
    from .batched import VmapBackend


class Call:
    """One application of an op under vmap, as its rule sees it.

    `values[i]` is operand i below; `batched[i]` says whether its dim 0 is the batch, of `size` samples. `spread`: which
    operands are the state of a random op that is to draw the numbers of all samples.
    """

    __slots__ = ("attrs", "backend", "batched", "op", "size", "spread", "values")

    def __init__(
        self,
        backend: VmapBackend,
        op: Op,
        values: Sequence[Tensor],
        batched: Sequence[bool],
        attrs: Mapping[str, Any],
        spread: Sequence[bool] = (),
    ):
        self.backend = backend
        self.spread = spread
        self.op = op
        self.values = values
        self.batched = batched
        self.attrs = attrs
        self.size = backend.size

    def rank(self, number: int) -> int:
        """The rank of operand `number` as the sample has it."""
        return self.values[number].ndim - self.batched[number]

    def shape(self, number: int) -> tuple[Any, ...]:
        """The shape of operand `number` as the sample has it."""
        shape = tuple(self.values[number].shape)
        return shape[1:] if self.batched[number] else shape

    def full(self, number: int) -> Tensor:
        """Operand `number` with a batch: repeated for all samples if it has none."""
        value = self.values[number]
        if self.batched[number]:
            return value
        expanded: Tensor = F.expand(value, shape=(self.size, *value.shape))
        return expanded

    def all_full(self) -> list[Tensor]:
        return [self.full(i) for i in range(len(self.values))]

    def apply(self, values: Sequence[Tensor], **changed: Any) -> Any:
        """The op itself, with some attributes changed."""
        return apply(self.op, values, {**self.attrs, **changed} if changed else self.attrs)

    def decomposed(self) -> Any:
        """The op by its decomposition, under the same vmap."""
        backend = self.backend
        assert self.op.decompose is not None
        spread = self.spread or (False,) * len(self.values)
        operands = [
            backend.wrap(v, b, s) if b or s else v for v, b, s in zip(self.values, self.batched, spread)
        ]
        found = decomposed(self.op, backend.builder, operands, self.attrs)
        return tuple(map(self._below, found)) if len(found) > 1 else self._below(found[0])

    def _below(self, result: Tensor) -> Tensor:
        """A result of the decomposition with its batch."""
        held = self.backend.held(result)
        if held is not None and held.batched:
            return held.lower
        lower = result if held is None else held.lower
        expanded: Tensor = F.expand(lower, shape=(self.size, *lower.shape))
        return expanded

    def sample_by_sample(self) -> Any:
        """The op once for each sample; UserWarning, as it is slow."""
        name = self.op.name
        warnings.warn(
            f"There is a performance drop because we have not yet implemented the batching rule for aten::{name}. "
            "Please file us an issue on GitHub so that we can prioritize its implementation.",
            UserWarning,
            stacklevel=2,
        )
        if isinstance(self.size, Expr):
            raise RuntimeError(
                f"vmap: {name} has no batching rule and runs once per sample, so the batch cannot be the dynamic dim "
                f"{self.size} of a compiled function"
            )
        if not self.size:
            return self._nothing()
        found = [self.apply(self._sample(i)) for i in range(self.size)]
        if isinstance(found[0], tuple):
            return tuple(stacked(parts) for parts in zip(*found))
        return stacked(found)

    def _sample(self, at: int) -> list[Tensor]:
        return [taken(v, at) if b else v for v, b in zip(self.values, self.batched)]

    def _nothing(self) -> Any:
        """The results for a batch of no samples."""
        types = [
            v._type if not b else v._type.with_shape(tuple(v.shape)[1:])
            for v, b in zip(self.values, self.batched)
        ]
        results = self.op.infer_types(types, self.attrs)
        made = tuple(F.full(shape=(0, *t.shape), value=0, dtype=t.dtype) for t in results)
        return made[0] if len(made) == 1 else made


def taken(value: Tensor, at: int) -> Tensor:
    """value[at]"""
    rest = tuple(value.shape)[1:]
    part = F.slice(value, starts=(at, *(0,) * len(rest)), stops=(at + 1, *rest), steps=(1,) * (len(rest) + 1))
    found: Tensor = F.reshape(part, shape=rest)
    return found


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """The parts along a new dim 0."""
    rows = [F.reshape(p, shape=(1, *p.shape)) for p in parts]
    found: Tensor = F.concat(*rows, dim=0)
    return found


Rule = Callable[[Call], Any]
BY_NAME: dict[str, Rule] = {}
BY_LOWERING: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter the function as the rule of these ops."""

    def enter(function: Rule) -> Rule:
        for name in names:
            if name in BY_NAME:
                raise ValueError(f"{name} has two batching rules")
            BY_NAME[name] = function
        return function

    return enter


def rule_of(op: Op) -> Rule | None:
    """The op's rule, if there is one."""
    return BY_NAME.get(op.name) or BY_LOWERING.get(op.lowering)


def run(
    backend: VmapBackend,
    op: Op,
    values: Sequence[Tensor],
    batched: Sequence[bool],
    attrs: Mapping[str, Any],
    spread: Sequence[bool],
) -> tuple[Tensor, ...]:
    """The op's results for all samples, batch first. The backend below is the active one."""
    call = Call(backend, op, values, batched, attrs, spread)
    found_rule = rule_of(op)
    if found_rule is not None:
        found = found_rule(call)
    elif op.decompose is not None:
        found = call.decomposed()
    else:
        found = call.sample_by_sample()
    return found if isinstance(found, tuple) else (found,)
