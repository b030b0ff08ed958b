"""Whether a call may use a trace.

Three kinds of facts decide, in order of cost: counters that say nothing anywhere has changed (module attributes, tensor
storages), Python guards (closed-over values, hyper-parameter decisions), and the types of the argument arrays, which
native code checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..argument_numbers import KINDS, Outcome
from ..ir.dims import evaluate, solved
from ..nn.modules.structure import structure_changes
from ..placement import gpu_under
from ..state import local
from ..tensor import Tensor, data_changes, new_storages_float
from . import pytree
from .argument_types import array_type
from .guards.settings import Settings
from .guards.together import Together
from .guards.values import same_argument
from .sharing import SharingFit
from .sources import ArgumentSource, TensorSource
from .trace import Trace


class Fit:
    """The facts that a trace relied on, from the flattened arguments of the call that was traced."""

    def __init__(self, trace: Trace, leaves: Sequence[Any]):
        self.trace = trace
        self.gpu = trace.gpu
        self.settings = Settings.now()
        self.grad_enabled = local.grad_enabled
        self.structure_version = structure_changes[0]
        self.data_version = data_changes[0]
        own = leaves[: trace.arguments.leaves]
        self.constants = tuple(
            (i, leaf) for i, leaf in enumerate(own) if not isinstance(leaf, Tensor) and i not in trace.numbers
        )
        self.numbers = tuple(trace.numbers.items())
        self.tensors = tuple(
            (i, leaf.requires_grad) for i, leaf in enumerate(own) if isinstance(leaf, Tensor)
        )
        self._given = tuple(
            (value.type, s.position)
            for value, s in zip(trace.graph.inputs, trace.sources)
            if isinstance(s, ArgumentSource)
        )
        self._positions = tuple(position for _, position in self._given)
        self.given = {position: type_ for type_, position in self._given}
        captured = [s.tensor for s in trace.sources if isinstance(s, TensorSource)]
        captured += [t for t in trace.receivers if isinstance(t, Tensor)]
        self._captured = tuple((tensor, _facts(tensor)) for tensor in dict.fromkeys(captured))
        written = [trace.sources[slot] for slot in trace.writes.values()]
        self.shares_alike = SharingFit(
            own,
            trace.sharing,
            [s.position for s in written if isinstance(s, ArgumentSource)],
            [tensor for tensor, _ in self._captured],
            [s.tensor for s in written if isinstance(s, TensorSource)]
            + [g.tensor for g in trace.grads if isinstance(g.tensor, Tensor)],
        )
        self.guards_hold = Together(trace.guards)
        positional, keyword, *objects = trace.arguments.children
        flat = not (keyword.children or objects or trace.is_rebuilt) and all(
            child == pytree.LEAF for child in positional.children
        )
        # How many positional arguments a call has whose arguments are its leaves; -1 where they are nested.
        self.flat_arguments = len(positional.children) if flat else -1

    def quickly(self, leaves: Sequence[Any]) -> bool:
        """The cheap part of `why_not`: True means only the array types remain to be checked."""
        if (
            self.structure_version != structure_changes[0]
            or self.data_version != data_changes[0]
            or self.grad_enabled is not local.grad_enabled
            or (new_storages_float[0] and not self.on_its_devices(leaves))
        ):
            return False
        for i, requires_grad in self.tensors:
            leaf = leaves[i]
            if not isinstance(leaf, Tensor) or leaf.requires_grad is not requires_grad:
                return False
        for i, constant in self.constants:
            if leaves[i] is not constant and not same_argument(leaves[i], constant):
                return False
        if self.shares_alike.asks and not self.shares_alike(leaves):
            return False
        return self.guards_hold() and (not self.numbers or self.numbers_fit(leaves))

    def numbers_fit(self, leaves: Sequence[Any]) -> bool:
        """Whether the arguments that may be any numbers are numbers, for which code goes the way it went."""
        for i, kind in self.numbers:
            if type(leaves[i]) is not kind:
                return False
        return self._other_outcome(leaves) is None

    def _other_outcome(self, leaves: Sequence[Any]) -> Outcome | None:
        """The first question that has another answer for these numbers."""
        for outcome in self.trace.outcomes:
            try:
                if outcome.compute(leaves) is not outcome.answer:
                    return outcome
            except ArithmeticError:  # which the function raises itself, where it comes to it
                return outcome
        return None

    def changed_numbers(self, leaves: Sequence[Any]) -> Iterator[int]:
        """The positions of numbers which are others than in the call that was traced, or which may be any."""
        yield from self.trace.numbers
        for i, constant in self.constants:
            if type(constant) in KINDS and type(leaves[i]) is type(constant) and leaves[i] != constant:
                yield i

    def accepts_the_same(self, other: Fit) -> bool:
        """Whether both take the same arguments for their programs, where these are the same."""
        ours, theirs = self.trace, other.trace
        return (
            len(self.constants) == len(other.constants)
            and all(
                i == j and same_argument(x, y)
                for (i, x), (j, y) in zip(self.constants, other.constants, strict=True)
            )
            and ours.conditions == theirs.conditions
            and (ours.numbers, ours.outcomes) == (theirs.numbers, theirs.outcomes)
            and ours.size_outcomes == theirs.size_outcomes
        )

    def why_not(self, leaves: Sequence[Any], structure: pytree.Structure) -> str | None:
        """The first reason why this call needs another specialization; None when it fits."""
        names = self.trace.names
        if structure != self.trace.arguments:
            return "the arguments are nested differently"
        leaves = self.trace.given(leaves)
        for position in range(self.trace.arguments.leaves, len(leaves)):
            if leaves[position] is None:
                return f"{names[position]} was a tensor, now None"
        if self.grad_enabled is not local.grad_enabled:
            return f"grad mode was {'on' if self.grad_enabled else 'off'}"
        changed = self.settings.changed()
        if changed is not None:
            return changed
        for i, constant in self.constants:
            if not same_argument(leaves[i], constant):
                return f"argument {names[i]} was {constant!r}, now {leaves[i]!r}"
        for i, kind in self.numbers:
            if type(leaves[i]) is not kind:
                return f"argument {names[i]} was any {kind.__name__}, now {leaves[i]!r}"
        other = self._other_outcome(leaves)
        if other is not None:
            return f"`{other.question}` was {other.answer}, for other numbers"
        for i, requires_grad in self.tensors:
            if not isinstance(leaves[i], Tensor):
                return f"argument {names[i]} was a tensor, now {leaves[i]!r}"
            if leaves[i].requires_grad is not requires_grad:
                return f"argument {names[i]} had requires_grad={requires_grad}"
        if self.shares_alike.asks and not self.shares_alike(leaves):
            return "other arguments were one tensor, or shared memory that is written to"
        here = (self.gpu, None)
        if not self._on_its_device(leaves) or any(gpu_under(t) not in here for t, _ in self._captured):
            return f"the tensors were on {self.gpu or 'cpu'}, or some are elsewhere now"
        bound: dict[str, int] = {}
        for type_, position in self._given:
            leaf = leaves[position]
            have = leaf._type
            if leaf.dtype is not type_.dtype or len(leaf.shape) != type_.rank:
                return f"argument {names[position]} was {type_}, now {have}"
            for dim, size in zip(type_.shape, leaf.shape):
                found = solved(dim, size)
                if found is None:
                    if dim != size:
                        return f"argument {names[position]} was {type_}, now {have}"
                    continue
                symbol, number = found
                fits_bounds = symbol.low <= number <= symbol.high
                if (
                    not fits_bounds
                    or bound.setdefault(symbol.name, number) != number
                    or evaluate(dim, bound) != size
                ):
                    return f"argument {names[position]} was {type_}, now {have}"
        for question, answer in self.trace.size_outcomes:
            if question.answer(bound) is not answer:
                return f"`{question}` was {answer}, for other sizes"
        for guard in self.trace.guards:
            if not guard.holds():
                return guard.reason()
        for tensor, (requires_grad, views, hooks, type_) in self._captured:
            now_grad, now_views, now_hooks, now_type = _facts(tensor)
            if now_grad is not requires_grad or now_views != views:
                return "requires_grad of a captured tensor changed"
            if now_hooks != hooks:
                return "the hooks of a captured tensor changed"
            if now_type != type_:
                return f"a captured tensor was {type_}, now {now_type}"
        if self.structure_version != structure_changes[0]:
            return "an attribute of a Module changed"
        return None

    def on_its_devices(self, leaves: Sequence[Any]) -> bool:
        """Where there are devices: whether the default one and those of the arguments are the trace's. A program on a
        device looks itself where its arguments are."""
        return local.device is self.settings.device and (
            self.gpu is not None or self._on_its_device(self.trace.given(leaves))
        )

    def _on_its_device(self, leaves: Sequence[Any]) -> bool:
        """Whether the arguments are where the program runs; 0-d ones are taken there. Captured tensors are: where one
        gets other memory, `data_version` moves."""
        for i in self._positions:
            leaf = leaves[i]
            if not isinstance(leaf, Tensor):
                return False
            gpu = gpu_under(leaf)
            if gpu is not self.gpu and (gpu is not None or leaf.ndim):
                return False
        return True

    def refresh(self) -> None:
        """Accept the present counters: everything they stand for was checked again."""
        self.structure_version = structure_changes[0]
        self.data_version = data_changes[0]


def base_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The array behind a captured tensor."""
    base = tensor._storage.base_array
    assert base is not None, "captured tensors have memory"
    return base


def _facts(tensor: Tensor) -> tuple[Any, ...]:
    """Of a captured tensor: requires_grad, views, hooks (of a leaf; no two ids are the same) and type."""
    extra = tensor._extra
    hooks = () if extra is None else (*extra.hooks, *extra.post_accumulate)
    return tensor.requires_grad, tensor._views, hooks, array_type(base_array(tensor))
