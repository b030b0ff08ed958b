"""Stretches of the library that call nothing of the user's, so that all their ops have one place.

The user's line is found by walking from frame to frame, 0.1 µs each and more, and ten frames lie between an op of a
gradient rule and the call of `backward`. So while a profiler is open, gradient rules and the steps of the library's
optimizers compute with a backend of their own, which knows the place. Hooks, custom functions and what packs saved
tensors run with the thread's backend, as ever.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..autograd.engine import Walk
from ..dispatch import EMPTY, UnrecordedBuilder, normalised_attrs
from ..eager import EAGER, EagerBackend
from ..ir.builder import OpBuilder
from ..ir.op import Op
from ..nn.parameter import Parameter
from ..optim.optimizer import Optimizer
from ..state import local
from ..tensor import Tensor
from .notes import Notebook, Stretch, bytes_of, shapes_of

_clock = time.perf_counter


@contextmanager
def known_places(notebook: Notebook) -> Iterator[None]:
    """Inside the block such ops note their place without looking for it."""
    rules, update_groups = Walk._rules, Optimizer._update_groups

    def placed_rules(walk: Walk) -> OpBuilder:
        found = rules(walk)
        if not isinstance(found, UnrecordedBuilder) or found.backend is not EAGER:
            return found
        return _PlacedRules(notebook.stretch(sys._getframe(1)), notebook.shapes)

    def placed_update_groups(optimizer: Optimizer) -> None:
        if local.backend is not EAGER or not _runs_alone(optimizer):
            return update_groups(optimizer)
        base: Any = type(EAGER)
        local.backend = _placed_backend(base)(notebook.stretch(sys._getframe(1)), notebook.shapes)
        try:
            update_groups(optimizer)
        finally:
            local.backend = EAGER

    setattr(Walk, "_rules", placed_rules)  # noqa: B010  (mypy would see a method assigned)
    setattr(Optimizer, "_update_groups", placed_update_groups)  # noqa: B010
    try:
        yield
    finally:
        setattr(Walk, "_rules", rules)  # noqa: B010
        setattr(Optimizer, "_update_groups", update_groups)  # noqa: B010


class _PlacedRules(UnrecordedBuilder):
    """Computes gradient rules as `EAGER` does, and notes them for one place. The builder takes the note itself: one call
    less for each op, which is a fifth of what profiling a small training step costs."""

    def __init__(self, stretch: Stretch, shapes: bool):
        super().__init__(EAGER)
        self.compute: Callable[..., tuple[Tensor, ...]] = type(EAGER).apply
        self.note = stretch.fields.extend
        self.shapes = stretch.shapes if shapes else None

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        for operand in operands:
            if not isinstance(operand, Tensor):
                operands = self._lift(operands)
                break
        full = normalised_attrs(op, attrs) if attrs or op.attrs else EMPTY
        compute = self.compute
        begin = _clock()
        results = compute(EAGER, op, operands, full)
        end = _clock()
        if self.shapes is not None:
            self.shapes.append(shapes_of(operands))
        try:
            (result,) = results
        except ValueError:
            self.note((op, begin, end, bytes_of(results)))
            return results
        self.note((op, begin, end, result._array.nbytes))  # type: ignore[union-attr]
        return result


@cache
def _placed_backend(base: type[EagerBackend]) -> Any:
    """A class of backends that do what `base` does, and note it for one place."""
    compute, copy = base.apply, base.write

    class PlacedBackend(base):  # type: ignore[valid-type,misc]
        def __init__(self, stretch: Stretch, shapes: bool):
            self.note = stretch.fields.extend
            self.shapes = stretch.shapes if shapes else None

        def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
            begin = _clock()
            results = compute(self, op, operands, attrs)
            end = _clock()
            if self.shapes is not None:
                self.shapes.append(shapes_of(operands))
            try:
                (result,) = results
                size = result._array.nbytes  # type: ignore[union-attr]
            except ValueError:
                size = bytes_of(results)
            self.note((op, begin, end, size))
            return results

        def write(self, target: Tensor, new: Tensor) -> None:
            begin = _clock()
            copy(self, target, new)
            self.note((None, begin, _clock(), 0))
            if self.shapes is not None:
                self.shapes.append(shapes_of((target, new)))

    return PlacedBackend


_LIBRARY = __name__.partition(".")[0] + "."


def _runs_alone(optimizer: Optimizer) -> bool:
    """Whether nothing that the optimizer calls to change its parameters can be the user's."""
    parameters = {type(p) for group in optimizer.param_groups for p in group["params"]}
    return (
        type(optimizer).__module__.startswith(_LIBRARY)
        and parameters <= {Parameter, Tensor}
        and not local.grad_enabled
    )
