"""View chains: the steps that lead from a storage's base to a tensor, and how a write travels back through
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .ir.builder import OpBuilder
from .ir.op import Op


class ViewStep(NamedTuple):
    """One view op and its (normalised) attributes."""

    op: Op
    attrs: Mapping[str, Any]


Views = tuple[ViewStep, ...]


def apply_views(F: OpBuilder, base: Any, steps: Sequence[ViewStep]) -> Any:
    """The view of `base` that the steps lead to."""
    for step in steps:
        base = F.apply(step.op, (base,), step.attrs)
    return base


def write_through(F: OpBuilder, base: Any, steps: Sequence[ViewStep], new: Any) -> Any:
    """`base` with the elements of its view through `steps` replaced by `new`, computed without changing
    anything.
    """
    values = [base]
    for step in steps[:-1]:
        values.append(F.apply(step.op, (values[-1],), step.attrs))
    for step, value in zip(reversed(steps), reversed(values)):
        if step.op.write_back is None:
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation."
            )
        new = step.op.write_back(F, value, new, **step.attrs)
    return new
