"""`compiled.check(*args)`: eager code, the interpreter at every stage, and compiled kernels on the same inputs.

The function runs once eagerly and is traced once; what it changed (parameters, `.grad`, random state) is put back.
Random numbers are those of compiled code in all runs. Graphs are examined by `runtime/bisect.py`; eager results are held
against those of the traced graph. Of a call on a device, eager code and the kernels run there, and float32 is not
rounded to tf32: that would be found everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..autograd.api import grad as gradients
from ..autograd.graph import GradientEdge
from ..codegen.target import Target
from ..generator import Generator, default_generator, device_generator
from ..ir.graph import Graph
from ..ir.interpreter import bind_symbols
from ..random import counter_based
from ..runtime.agreement import Reference, values_of
from ..runtime.bisect import Examination, Fault, examine
from ..runtime.compiled_graph import CompileOptions, tuned
from ..runtime.gpu.arrays import DeviceArray, Gpu, from_host
from ..runtime.gpu.compiled import for_devices
from ..runtime.machines import Graphics
from ..runtime.staged import StagedGraph
from ..runtime.threads import get_num_threads
from ..tape import Edge
from ..tensor import Tensor, wrap
from ..tf32 import without_tf32
from . import pytree
from .changes import State
from .contents import content_of, fill
from .device_call import host_values
from .differentiable import DifferentiableSpecialization
from .effects import HISTORY
from .histories import GivenHistory, owner_of
from .prepared import with_preparing
from .sources import ArgumentSource, TensorSource, array_of
from .trace import FromOutput, Trace, unaliased

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class EagerDifference:
    """A result of eager code that is not the traced graph's; `what` names it."""

    what: str
    apart: float


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `ok`: all ways of computing agree but for rounding; `faults`: at most one for each graph."""

    function: str
    eager: tuple[EagerDifference, ...]
    graphs: tuple[Examination, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(g.fault for g in self.graphs if g.fault is not None)

    @property
    def ok(self) -> bool:
        return not self.eager and not self.faults

    def save(self, folder: str | os.PathLike[str] = ".") -> list[Path]:
        """Write a graph and its inputs for each fault (`.ir` and `.npz`); their paths. `vitrify bisect --replay` reads
        them."""
        paths: list[Path] = []
        for graph in self.graphs:
            if graph.fault is not None:
                stem = re.sub(r"\W+", "_", f"{self.function}.{graph.name}.{graph.fault.stage}")
                paths += graph.fault.save(folder, stem)
        return paths

    def __str__(self) -> str:
        lines = [f"check of {self.function}: {'all agree' if self.ok else 'results part'}"]
        lines += [f"  eager: {d.what} differs from the traced graph's by {d.apart:.3g}" for d in self.eager]
        for graph in self.graphs:
            lines.append(f"  graph {graph.name}")
            lines += [f"    {name:22} {_verdict(apart)}" for name, apart in graph.stages]
            if graph.fault is not None:
                lines += [f"    {line}" for line in str(graph.fault).splitlines()]
        return "\n".join(lines)


def _verdict(apart: float | None) -> str:
    return "agrees" if apart is None else f"PARTS, by {apart:.3g}"


def check_call(
    name: str,
    fn: Callable[..., Any],
    trace: Trace,
    options: CompileOptions,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    state: State,
) -> CheckReport:
    """Compare all ways of computing this call of `fn`, of which `trace` is the trace."""
    flat, _, containers = state.flatten(args, kwargs)
    leaves = trace.given(flat)
    generator = _generator(trace)
    inputs = [_copy(array_of(source, leaves, generator)) for source in trace.sources]
    eager: list[EagerDifference] = []
    graph = unaliased(trace.graph, trace)
    graphs: list[tuple[Graph, list[Array]]] = [(graph, inputs)]
    reference = Reference(graph, inputs, bind_symbols(graph, inputs))
    specialization = DifferentiableSpecialization(trace, leaves, options) if trace.requires_grad else None
    with _unchanged(containers), _restored(trace, leaves), counter_based(), without_tf32():
        _cut_off(flat)
        edges = [] if specialization is None else specialization.edges(leaves)
        result = _leaves_of(fn(*args, **kwargs), trace, containers)
        for what, index, array in _eager_outputs(trace, leaves, result):
            apart = reference.apart(graph.outputs[index], array)
            if apart is not None:
                eager.append(EagerDifference(what, apart))
        if specialization is not None:
            graphs = _both_ways(specialization, leaves, edges, inputs, result, eager)
    threads = max(2, get_num_threads())
    machine = None
    if trace.gpu is not None:
        machine, options = Graphics(trace.gpu), for_devices(options, trace.gpu)
    elif not trace.requires_grad:
        options = with_preparing(options, trace)
    found = tuple(
        examine(g, given, _as_compiled(g, options, machine), threads, machine) for g, given in graphs
    )
    return CheckReport(name, tuple(eager), found)


def _as_compiled(graph: Graph, options: CompileOptions, machine: Graphics | None) -> CompileOptions:
    """The options with the choices that the compiled function has by measurement."""
    if machine is not None or not options.tune:
        return options
    return tuned(StagedGraph(graph, options), options.target or Target.host())[0]


def _both_ways(
    specialization: DifferentiableSpecialization,
    leaves: Sequence[Any],
    edges: Sequence[Edge | None],
    inputs: list[Array],
    result: Sequence[Any],
    eager: list[EagerDifference],
) -> list[tuple[Graph, list[Array]]]:
    """Forward and backward graph with inputs: cotangents are random numbers. Eager gradients are compared on the way:
    of the `result`, with respect to what `edges` lead to."""
    trace, parts = specialization.trace, specialization.partition
    forward = unaliased(parts.forward, trace)
    bindings = bind_symbols(forward, inputs)
    values = values_of(forward, inputs, bindings)
    rng = np.random.default_rng(0)
    saved = [inputs[at] if kind == "input" else values[forward.outputs[at]] for kind, at in parts.saved]
    shapes = [values[forward.outputs[i]] for i in trace.requires_grad]
    cotangents = [np.asarray(rng.standard_normal(a.shape)).astype(a.dtype) for a in shapes]
    given = [*saved, *cotangents]
    backward = parts.backward
    reference = Reference(backward, given, bind_symbols(backward, given))
    outputs = {leaf.index: t for leaf, t in zip(trace.leaves, result) if isinstance(leaf, FromOutput)}
    outputs.update((i, owner_of(owner, leaves)) for i, owner in trace.histories.items())
    found = gradients(
        [outputs[i] for i in trace.requires_grad],
        [GradientEdge(*edge) for edge in edges if edge is not None],
        [_tensor(c, trace.gpu) for c in cotangents],
        allow_unused=True,
    )
    paths = {id(s.tensor): s.path for s in trace.sources if isinstance(s, TensorSource)}
    for receiver, tensor, value in zip(specialization.wrt_tensors, found, backward.outputs):
        if tensor is not None and tuple(tensor.shape) == reference.values[value].shape:
            apart = reference.apart(value, _numpy(tensor))
            if apart is not None:
                path = (
                    trace.names[receiver]
                    if isinstance(receiver, int)
                    else paths.get(id(receiver), "a tensor")
                )
                eager.append(EagerDifference(f"the gradient of {path}", apart))
    return [(forward, inputs), (backward, given)]


# -- the call's values ------------------------------------------------------------------------------------------------


def _copy(array: Any) -> Array:
    """On the host."""
    return np.array(host_values(array), order="C", copy=True)


def _numpy(tensor: Tensor) -> Array:
    array: Array = host_values(tensor._array)
    return array


def _tensor(array: Array, gpu: Gpu | None) -> Tensor:
    made: Any = array if gpu is None else from_host(gpu, array)
    return wrap(made)


def _generator(trace: Trace) -> Generator:
    return default_generator if trace.gpu is None else device_generator(trace.gpu.index)


def _leaves_of(result: Any, trace: Trace, containers: Sequence[Any]) -> list[Any]:
    """Those of an eager result, as the trace has them."""
    return pytree.flatten(result, pytree.Mutables(pytree.classes(trace.result), containers))[0]


@contextmanager
def _unchanged(containers: Sequence[Any]) -> Iterator[None]:
    """After the block lists, dicts and objects hold what they held."""
    contents = [content_of(one) for one in containers]
    try:
        yield
    finally:
        for one, content in zip(containers, contents):
            fill(one, content)


def _eager_outputs(
    trace: Trace, leaves: Sequence[Any], result: Sequence[Any]
) -> Iterator[tuple[str, int, Array]]:
    """What an eager run left: a name, the graph's output that it corresponds to, the array."""
    for number, (leaf, tensor) in enumerate(zip(trace.leaves, result)):
        if isinstance(leaf, FromOutput):
            yield f"result {number}" if len(result) > 1 else "the result", leaf.index, _numpy(tensor)
    paths = {id(s.tensor): s.path for s in trace.sources if isinstance(s, TensorSource)}
    for effect in trace.grads:
        if isinstance(effect.value, int):
            owner = effect.tensor
            tensor = owner_of(owner, leaves)
            path = owner.path if isinstance(owner, ArgumentSource) else paths.get(id(owner), "a tensor")
            grad = tensor._grad
            assert grad is not None
            yield f"{path}.grad", effect.value, _numpy(grad)
    for index, slot in trace.writes.items():
        source = trace.sources[slot]
        array = array_of(source, leaves, _generator(trace))
        yield f"{source.path} afterwards", index, host_values(array)


def _cut_off(leaves: Sequence[Any]) -> None:
    """Arguments that were computed are, until they are restored, computed of nothing."""
    for tensor in leaves:
        if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
            tensor._grad_fn, tensor._output_nr = GivenHistory(tensor._type, "an argument"), 0
            tensor._base = None


@contextmanager
def _restored(trace: Trace, leaves: Sequence[Any]) -> Iterator[None]:
    """Put back, at the end, what the function may change of the tensors it knows, and the random state."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    tensors += [s.tensor for s in trace.sources if isinstance(s, TensorSource)]
    tensors += [e.tensor for e in trace.grads if isinstance(e.tensor, Tensor)]
    grads = [(t, t._grad) for t in tensors]
    histories = [(t, [(name, getattr(t, name)) for name in ("_base", *HISTORY)]) for t in tensors]
    storages = {id(t._storage): t._storage for t in (*tensors, *(g for _, g in grads if g is not None))}
    before = [
        (s, s.version, s.base_array, _copy(s.base_array))
        for s in storages.values()
        if s.base_array is not None
    ]
    generators = {default_generator, _generator(trace)}
    states = [(g, g.state_bytes()) for g in generators]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state_bytes(state)
        for tensor, grad in grads:
            tensor._grad = grad
        for tensor, history in histories:
            for name, value in history:
                setattr(tensor, name, value)
        for storage, version, array, copy in before:
            if type(array) is DeviceArray:
                array.gpu.device.to_device(array.address, copy)
            elif array.flags.writeable:
                np.copyto(array, copy)
            storage.version = version
