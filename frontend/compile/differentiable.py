"""A compiled trace whose results need gradients: eager code stands between its forward and its backward.

The traced graph is differentiated by the autodiff pass and split by the partition pass; forward and backward are
compiled graphs of their own. A call runs the forward and leaves a node on the tape, which runs the backward when a
gradient arrives.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..inplace import check_tracked, continue_history
from ..ir.builder import OpBuilder
from ..ir.types import TensorType
from ..passes.attention_match import FindAttention
from ..passes.autodiff import Autodiff
from ..passes.dce import DeadCodeElimination
from ..passes.partition import partition
from ..passes.reroll import Reroll
from ..runtime.compiled_graph import CompileOptions
from ..state import local
from ..tape import FREED, AccumulateGrad, Edge, Node, gradient_edge
from ..tensor import Storage, Tensor, wrap
from ..views import Views, apply_views
from .call import Binding, CallRecord, as_bound
from .device_call import GpuBinding, bind, compile_for
from .device_record import GpuRecord
from .histories import owner_of
from .sources import ArgumentSource, Source, TensorSource
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
                    f"a tensor that the compiled forward read or returned is at version {storage.version}; expected "
                    f"version {version} instead."
                )
        # The gradient of a sum may be on the host still: as a number it is taken along by the call.
        gpu = getattr(self.binding.graph, "gpu", None)
        cotangents = [
            as_bound(np.zeros(t.sizes, t.dtype.numpy) if g is None else g._array, t, gpu if t.shape else None)
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


class Delivery(NamedTuple):
    """How the calls of one binding leave what their backward needs. `types`: of the results that need gradients;
    `fixed`: the binding's arrays; `saved`: which of a call's arguments, results, `fixed`, kept results, numbers and
    random state, in this order, the backward reads; `views`: of the tensors whose gradients it gives."""

    backward: Binding
    types: tuple[TensorType, ...]
    fixed: tuple[Array, ...]
    saved: tuple[int, ...]
    views: tuple[Views, ...]


class DifferentiableSpecialization(Specialization):
    """Forward and backward graphs of one trace."""

    def __init__(self, trace: Trace, leaves: Sequence[Any], options: CompileOptions):
        graph, given = trace.graph, trace.given(leaves)
        # An input that nothing flows back to gets None for its gradient, as in eager code.
        find = FindAttention() if options.pipeline.attention else None
        if trace.joint is None:
            # Before it is differentiated: then its gradient is the op's own.
            found = graph if find is None else find.run(graph)
            wrt = {
                value.name: receiver
                for value, source in zip(graph.inputs, trace.sources, strict=True)
                if (receiver := _receiver(source, given)) is not None
            }
            joint, reached = Autodiff(tuple(wrt), outputs=trace.requires_grad).reached(found)
            receivers = tuple(wrt[name] for name in wrt if name in reached)
        else:
            joint = trace.joint if find is None else find.run(trace.joint)
            receivers = trace.receivers
        if options.pipeline.reroll:
            # Here, where what a loop saves for its way back is one stacked value and not one for each turn.
            joint = Reroll().run(DeadCodeElimination().run(joint))
        self.partition = partition(joint, len(graph.outputs), len(trace.requires_grad))
        self.backward = compile_for(trace.gpu, self.partition.backward, options)
        self._deliveries: dict[tuple[Any, ...], Delivery] = {}
        # Whose gradients the backward gives: captured tensors, and the positions of arguments.
        self.wrt_tensors = tuple(r.position if isinstance(r, ArgumentSource) else r for r in receivers)
        # And the references by which tensors find the nodes.
        self._known_edges: dict[int, tuple[Any, Edge]] = {}
        # The same of the memory that it reads.
        tensors = {
            slot: source.position if isinstance(source, ArgumentSource) else source.tensor
            for slot, source in enumerate(trace.sources)
            if isinstance(source, ArgumentSource | TensorSource)
        }
        self.read_tensors = tuple(
            tensors[at] for kind, at in self.partition.saved if kind == "input" and at in tensors
        )
        # The results whose memory it reads.
        self.read_results = tuple(
            at for kind, at in self.partition.saved if kind == "output" and at < trace.results
        )
        super().__init__(
            trace, compile_for(trace.gpu, unaliased(self.partition.forward, trace), options), leaves
        )

    def graphs(self) -> list[Any]:
        return [self.compiled, self.backward]

    def _result_slots(self) -> Sequence[int]:
        total = len(self.partition.forward.outputs)
        if self.trace.conditions:
            return range(total)
        return [*range(self.trace.results), *range(total - self.partition.extra, total)]

    def _saved_slots(self) -> Sequence[int]:
        total = len(self.partition.forward.outputs)
        return range(total - self.partition.extra, total)

    def rebind(self) -> None:
        super().rebind()
        self._deliveries.clear()

    def _deliver(
        self,
        binding: Binding,
        record: CallRecord,
        arrays: Sequence[Array],
        results: Sequence[Array],
        leaves: Sequence[Any],
    ) -> Any:
        key = (binding, *record.sizes.values())
        delivery = self._deliveries.get(key)
        if delivery is None:
            if len(self._deliveries) >= MOST_BINDINGS:
                self._deliveries.clear()
            delivery = self._deliveries[key] = self._delivery(binding, record.sizes)
        fixed = record.fixed if isinstance(record, GpuRecord) else delivery.fixed
        pool: list[Any] = [*arrays, *results, *fixed]
        if binding.kept_slots or self.number_slots or self.random_slots:
            pool += [t._array for t in record.kept]
            pool += [np.array(x, np.float64) for x, _ in zip(record.numbers, self.number_slots)]
            pool += [np.array(record.random, np.uint64).view(np.int64) for _ in self.random_slots]
        read = [(leaves[t] if isinstance(t, int) else t)._storage for t in self.read_tensors]
        made = {index: wrap(results[index]) for index in self.read_results}
        read += [tensor._storage for tensor in made.values()]
        node = CompiledBackward(
            self.edges(leaves),
            delivery.types,
            delivery.backward,
            [pool[at] for at in delivery.saved],
            [(storage, storage.version) for storage in read],
            delivery.views,
        )
        histories = self.trace.histories
        for number, index in enumerate(self.trace.requires_grad):
            if index in histories:
                continue_history(owner_of(histories[index], leaves), Edge(node, number))
                continue
            tensor = made.get(index)
            if tensor is None:
                tensor = made[index] = wrap(results[index])
            tensor._grad_fn, tensor._output_nr, tensor._requires_grad = node, number, True
        return self._unflatten(results, leaves, made)

    def _execute(self, binding: Binding, arrays: Sequence[Array], leaves: Sequence[Any]) -> Any:
        for owner in self.trace.histories.values():
            check_tracked(owner_of(owner, leaves))  # before anything is written
        return super()._execute(binding, arrays, leaves)

    def edges(self, leaves: Sequence[Any]) -> tuple[Edge | None, ...]:
        """Where the backward's gradients flow. Those of parameters are kept from call to call, as long as eager code
        would find the same node and nobody has put anything on it."""
        edges: list[Edge | None] = []
        for at, tensor in enumerate(self.wrt_tensors):
            if isinstance(tensor, int):
                edges.append(gradient_edge(leaves[tensor]))
                continue
            if not self._is_known(at, tensor):
                self._known_edges.pop(at, None)
                edge = gradient_edge(tensor)
                edges.append(edge)
                if edge is not None and type(edge.node) is AccumulateGrad and tensor._base is None:
                    self._known_edges[at] = tensor._autograd_extra().accumulator, edge
            else:
                edges.append(self._known_edges[at][1])
        return tuple(edges)

    def _views_of(self, receiver: Tensor | int) -> Views:
        """Of what the backward gives as the gradient of a captured tensor: of the whole memory where the graph was
        differentiated."""
        return () if isinstance(receiver, int) or self.trace.joint is not None else receiver._views

    def _is_known(self, at: int, tensor: Tensor) -> bool:
        known = self._known_edges.get(at)
        if known is None:
            return False
        (reference, (node, _)), extra = known, tensor._extra
        return (
            extra is not None
            and extra.accumulator is reference
            and tensor._grad_fn is None
            and tensor._requires_grad
            and node._hooks is None
            and node._metadata is None
        )

    def _only_result(self) -> int | None:
        return None  # results have a history, which `_deliver` gives them

    def _delivery(self, binding: Binding, sizes: Mapping[str, int]) -> Delivery:
        types = self.backward.input_types
        known = {**binding.dims, **sizes}
        backward = bind(
            self.backward,
            known,
            [(slot, type_.bind(known)) for slot, type_ in enumerate(types)],
            range(len(self.backward.output_types)),
        )
        if isinstance(backward, GpuBinding):
            backward.take_small_arguments_from_host()  # the state of random numbers
        inputs, outputs = itertools.repeat("input"), itertools.repeat("output")
        order = [
            *zip(inputs, (slot for slot, _ in self.argument_sources)),
            *zip(outputs, binding.result_slots),
            *zip(inputs, (slot for slot, _ in binding.fixed_inputs)),
            *zip(outputs, (slot for slot, _ in binding.fixed_outputs)),
            *zip(outputs, (slot for slot, _ in binding.kept_slots)),
            *zip(inputs, self.number_slots),
            *zip(inputs, self.random_slots),
        ]
        place = {name: at for at, name in enumerate(order)}
        return Delivery(
            backward,
            tuple(binding.graph.output_types[i].bind(known) for i in self.trace.requires_grad),
            tuple(array for _, array in (*binding.fixed_inputs, *binding.fixed_outputs)),
            tuple(place[name] for name in self.partition.saved),
            tuple(self._views_of(t) for t in self.wrt_tensors),
        )


def _receiver(source: Source, leaves: Sequence[Any]) -> Tensor | ArgumentSource | None:
    """Whose gradient is that of a graph's input; None where it has none."""
    if isinstance(source, ArgumentSource):
        return source if leaves[source.position].requires_grad else None
    return source.tensor if isinstance(source, TensorSource) and source.tensor.requires_grad else None
