"""A compiled trace whose results need gradients: eager code stands between its forward and its backward.

The traced graph is differentiated by the autodiff pass and split by the partition pass; forward and backward are
compiled graphs of their own. A call runs the forward and leaves a node on the tape, which runs the backward when a
gradient arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.builder import OpBuilder
from ..ir.types import TensorType
from ..passes.autodiff import Autodiff
from ..passes.dce import DeadCodeElimination
from ..passes.partition import partition
from ..passes.reroll import Reroll
from ..runtime.compiled_graph import CompiledGraph, CompileOptions, compile_graph
from ..state import local
from ..tape import FREED, Edge, Node, gradient_edge
from ..tensor import Storage, Tensor, wrap
from ..views import Views, apply_views
from .call import Binding, CallRecord, as_bound
from .sources import ArgumentSource, TensorSource
from .specialization import Specialization
from .trace import Trace, unaliased

Array = np.ndarray[Any, Any]
# Of a backward graph, for different dims; more are made anew.
MOST_BINDINGS = 64


class CompiledBackward(Node):
    """The tape's node for one call of a compiled forward."""

    __slots__ = ("binding", "saved", "versions", "views")

    def __init__(
        self,
        edges: tuple[Edge | None, ...],
        types: tuple[TensorType, ...],
        binding: Binding,
        saved: Sequence[Array],
        versions: Sequence[tuple[Storage, int]],
        views: Sequence[Views],
    ):
        super().__init__(edges, types)
        self.binding = binding
        self.saved: Sequence[Array] | None = saved
        self.versions = versions
        self.views = views  # the gradients are those of whole storages, of which a tensor may be a part

    @property
    def released(self) -> bool:
        return self.saved is None

    def release(self) -> None:
        self.saved = None

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        if self.saved is None:
            raise RuntimeError(FREED)
        if local.grad_enabled:
            raise RuntimeError(
                "create_graph=True through a compiled model is not supported: its backward is compiled code without a "
                "tape. Call the model uncompiled, or compile the function that takes the second derivative."
            )
        for storage, version in self.versions:
            if storage.version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"a tensor that the compiled forward read is at version {storage.version}; expected version "
                    f"{version} instead."
                )
        cotangents = [
            np.zeros(t.sizes, t.dtype.numpy) if g is None else as_bound(g._array, t)
            for g, t in zip(grads, self.result_types)
        ]
        record = self.binding.take()
        try:
            found = self.binding.call(record, [*self.saved, *cotangents])
        finally:
            self.binding.give_back(record)
        assert found is not None, "saved arrays have the types they were bound for"
        return [
            apply_views(F, wrap(a), views) if need else None
            for a, need, views in zip(found, needs, self.views)
        ]


class DifferentiableSpecialization(Specialization):
    """Forward and backward graphs of one trace."""

    def __init__(self, trace: Trace, leaves: Sequence[Any], options: CompileOptions):
        graph = trace.graph
        self.wrt = tuple(i for i, source in enumerate(trace.sources) if _requires_grad(source, leaves))
        names = tuple(graph.inputs[i].name for i in self.wrt)
        # An input that nothing flows back to gets None for its gradient, as in eager code.
        if trace.joint is None:
            joint, reached = Autodiff(names, outputs=trace.requires_grad).reached(graph)
        else:
            joint, reached = trace.joint, trace.reached
        self.wrt = tuple(i for i, name in zip(self.wrt, names) if name in reached)
        if options.pipeline.reroll:
            # Here, where what a loop saves for its way back is one stacked value and not one for each turn.
            joint = Reroll().run(DeadCodeElimination().run(joint))
        self.partition = partition(joint, len(graph.outputs), len(trace.requires_grad))
        self.backward = compile_graph(self.partition.backward, options)
        self._backward_bindings: dict[tuple[Any, ...], Binding] = {}
        super().__init__(trace, compile_graph(unaliased(self.partition.forward, trace), options), leaves)

    def graphs(self) -> list[CompiledGraph]:
        return [self.compiled, self.backward]

    def _result_slots(self) -> Sequence[int]:
        total = len(self.partition.forward.outputs)
        if self.trace.conditions:
            return range(total)
        return [*range(self.trace.results), *range(total - self.partition.extra, total)]

    def rebind(self) -> None:
        super().rebind()
        self._backward_bindings.clear()

    def _deliver(
        self,
        binding: Binding,
        record: CallRecord,
        arrays: Sequence[Array],
        results: Sequence[Array],
        leaves: Sequence[Any],
    ) -> Any:
        key = (binding, *record.sizes.values())
        backward = self._backward_bindings.get(key)
        if backward is None:
            if len(self._backward_bindings) >= MOST_BINDINGS:
                self._backward_bindings.clear()
            backward = self._backward_bindings[key] = self._bind_backward(binding, record.sizes)
        inputs = dict(binding.fixed_inputs)
        inputs.update((slot, array) for (slot, _), array in zip(self.argument_sources, arrays))
        inputs.update((slot, np.array(x, np.float64)) for slot, x in zip(self.number_slots, record.numbers))
        inputs.update((slot, np.array(record.random, np.uint64).view(np.int64)) for slot in self.random_slots)
        outputs = dict(binding.fixed_outputs)
        outputs.update(zip(binding.result_slots, results))
        outputs.update(
            (slot, t._array) for (slot, _), t in zip(binding.kept_slots, record.kept) if t._array is not None
        )
        saved = [(inputs if kind == "input" else outputs)[at] for kind, at in self.partition.saved]
        tensors = [self._input_tensor(slot, leaves) for slot in self.wrt]
        read = [self._input_storage(at, leaves) for kind, at in self.partition.saved if kind == "input"]
        known = {**binding.dims, **record.sizes}
        node = CompiledBackward(
            tuple(map(gradient_edge, tensors)),
            tuple(binding.graph.output_types[i].bind(known) for i in self.trace.requires_grad),
            backward,
            saved,
            [(storage, storage.version) for storage in read if storage is not None],
            [t._views if self._is_storage(slot) else () for slot, t in zip(self.wrt, tensors)],
        )
        made: dict[int, Tensor] = {}
        for number, index in enumerate(self.trace.requires_grad):
            tensor = made[index] = wrap(results[index])
            tensor._grad_fn, tensor._output_nr, tensor._requires_grad = node, number, True
        return self._unflatten(results, leaves, made)

    def _bind_backward(self, binding: Binding, sizes: Mapping[str, int]) -> Binding:
        types = self.backward.input_types
        known = {**binding.dims, **sizes}
        return Binding(
            self.backward,
            known,
            [(slot, type_.bind(known)) for slot, type_ in enumerate(types)],
            range(len(self.backward.output_types)),
        )

    def _input_tensor(self, slot: int, leaves: Sequence[Any]) -> Tensor:
        source = self.trace.sources[slot]
        if isinstance(source, ArgumentSource):
            return leaves[source.position]
        assert isinstance(source, TensorSource)
        return source.tensor

    def _is_storage(self, slot: int) -> bool:
        return isinstance(self.trace.sources[slot], TensorSource)

    def _input_storage(self, slot: int, leaves: Sequence[Any]) -> Storage | None:
        source = self.trace.sources[slot]
        if isinstance(source, ArgumentSource | TensorSource):
            return self._input_tensor(slot, leaves)._storage
        return None


def _requires_grad(source: Any, leaves: Sequence[Any]) -> bool:
    if isinstance(source, ArgumentSource):
        return bool(leaves[source.position].requires_grad)
    return isinstance(source, TensorSource) and source.tensor.requires_grad
