"""Stretches of the library that call nothing of the user's, so that all their ops have one place.

The user's line is found by walking from frame to frame, 0.1 µs each and more, and ten frames lie between an op of a
gradient rule and the call of `backward`. So while a profiler is open, gradient rules and the steps of the library's
optimizers compute with a backend of their own, which knows the place. Hooks, custom functions and what packs saved
tensors run with the thread's backend, as ever.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..autograd.engine import Walk
from ..dispatch import UnrecordedBuilder
from ..eager import EAGER, EagerBackend
from ..ir.builder import OpBuilder
from ..ir.op import Op
from ..nn.parameter import Parameter
from ..optim.optimizer import Optimizer
from ..state import local
from ..tensor import Tensor
from .notes import Notebook, bytes_of, shapes_of


@contextmanager
def known_places(notebook: Notebook) -> Iterator[None]:
    """Inside the block such ops note their place without looking for it."""
    rules, update_groups = Walk._rules, Optimizer._update_groups

    def placed_rules(walk: Walk) -> OpBuilder:
        found = rules(walk)
        if isinstance(found, UnrecordedBuilder) and found.backend is EAGER:
            found.backend = _placed(notebook, sys._getframe(1))
        return found

    def placed_update_groups(optimizer: Optimizer) -> None:
        if local.backend is not EAGER or not _runs_alone(optimizer):
            return update_groups(optimizer)
        local.backend = _placed(notebook, sys._getframe(1))
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


def _placed(notebook: Notebook, frame: Any) -> EagerBackend:
    """An eager backend whose ops have the user's place in or around the frame."""
    base: Any = type(EAGER)
    backend = object.__new__(_placed_class(base))
    stretch = notebook.stretch(frame)
    backend.note, backend.shapes = stretch.fields.extend, stretch.shapes if notebook.shapes else None
    return backend


@cache
def _placed_class(base: type[EagerBackend]) -> Any:
    # A class, not functions on an object: the interpreter finds methods of a class faster.
    compute, copy, clock = base.apply, base.write, time.perf_counter

    class PlacedBackend(base):  # type: ignore[valid-type,misc]
        """`base`, whose ops are noted for one place."""

        def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
            begin = clock()
            results = compute(self, op, operands, attrs)
            end = clock()
            try:
                (result,) = results
                size = result._array.nbytes  # type: ignore[union-attr]
            except ValueError:
                size = bytes_of(results)
            self.note((op, begin, end, size))
            if self.shapes is not None:
                self.shapes.append(shapes_of(operands))
            return results

        def write(self, target: Tensor, new: Tensor) -> None:
            begin = clock()
            copy(self, target, new)
            end = clock()
            self.note((None, begin, end, 0))
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
