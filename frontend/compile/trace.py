"""One traced run of a function: the graph, where its inputs come from, and what to do with its outputs."""

from __future__ import annotations

import gc
import operator
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..argument_numbers import KINDS, Compute, Number, Outcome
from ..capture import TraceAgain
from ..dispatch import use_backend
from ..ir import dims
from ..ir.graph import Graph, Value
from ..ir.types import TensorType
from ..nn.modules.paths import tracked_module_paths
from ..nn.modules.structure import structure_changes, watched_structure
from ..runtime.gpu.arrays import Gpu
from ..tensor import Storage, Tensor
from ..torch_function import program_code
from . import pytree
from .argument_types import array_type, static_or_symbolic
from .capture_names import Describer
from .changes import AfterTrace, Change, Given, OfModule, State, StateFound, difference, is_object, tables_of
from .changing_sizes import NONE, Symbols, names_of
from .conditions import Condition
from .contents import Content, content_of, fill, same_content
from .guards.guard import Guard
from .guards.outside import OutsideReads
from .locations import error_location
from .sharing import NOTHING_SHARED, SharedMemory, Sharing, first_positions
from .sizes import ORACLE, SizeOutcome
from .sources import ArgumentSource, Source, TensorSource
from .tape_gradients import append_tape, has_other_receivers, has_own_gradients
from .trace_error import TraceError
from .tracer import Tracer


@dataclass(frozen=True)
class FromOutput:
    """A result leaf that is the graph's output `index`."""

    index: int


@dataclass(frozen=True)
class FromArgument:
    """A result leaf that is the argument leaf `position`, handed back."""

    position: int


@dataclass(frozen=True)
class Fixed:
    """A result leaf that is not computed: a number, a string, or a tensor from outside."""

    value: Any


@dataclass(frozen=True)
class Computed:
    """A result leaf that is a number made of the call's arguments."""

    compute: Compute


Leaf = FromOutput | FromArgument | Fixed | Computed


@dataclass(frozen=True)
class GradEffect:
    """After the call the tensor's `.grad` is the graph's output `index`, or None, or a given tensor."""

    tensor: Tensor | ArgumentSource
    value: int | Tensor | None


@dataclass(frozen=True)
class Trace:
    """`graph.outputs` are, in order: `results` result tensors, new gradients, written storages (aliased to their
    inputs), conditions of branches.

    A trace with conditions is good for calls in which they come out the same. Nothing may be written before that is
    known: see `unaliased`.

    `grad_owners`: whose gradients the graph reads, as if these were arguments that follow the others.

    `gpu`: where it runs; None: on the CPU.

    `requires_grad`: the outputs through which gradients may flow: results, and what `histories` says of tensors that are
    written to. `names`: of the argument leaves.

    `numbers`: positions and classes of the arguments that are numbers for any of which the trace is good, as long as the
    `outcomes` are as they were.

    `automatic`: the dims that are symbols because they change; the `size_outcomes` are what code asked of them,
    `sized_numbers` those that it wanted as numbers.

    `joint`: the graph with the gradients of the `receivers`, where the tape computed them (`tape_gradients.py`).

    `changes`: of lists, dicts, objects and modules; what these hold then follows the result in a tuple.
    `given_objects`: whether such among the arguments are in the result; `containers`: how many there are.

    `sharing`: arguments over memory that others see, and that is written to; all of it follows the arguments too.
    """

    graph: Graph
    sources: tuple[Source, ...]
    guards: tuple[Guard, ...]
    arguments: pytree.Structure
    result: pytree.Structure
    leaves: tuple[Leaf, ...]
    grads: tuple[GradEffect, ...]
    writes: Mapping[int, int]
    random_calls: int
    conditions: Mapping[int, Condition]
    requires_grad: tuple[int, ...] = ()
    histories: Mapping[int, Tensor | ArgumentSource] = field(default_factory=dict)
    results: int = 0
    joint: Graph | None = None
    receivers: tuple[Tensor | ArgumentSource, ...] = ()
    names: tuple[str, ...] = field(default=())
    gpu: Gpu | None = None
    grad_owners: tuple[Tensor, ...] = ()
    numbers: Mapping[int, type] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    automatic: frozenset[str] = frozenset()
    size_outcomes: tuple[SizeOutcome, ...] = ()
    sized_numbers: frozenset[str] = frozenset()
    sharing: Sharing = NOTHING_SHARED
    changes: tuple[Change, ...] = ()
    given_objects: bool = False
    containers: int = 0

    def given(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """What the positions of `ArgumentSource` count: the flattened arguments, memory that some of them share, and the
        gradients that are read."""
        if not self.gives_more:
            return leaves
        own = leaves[: self.arguments.leaves]
        return [*own, *self.sharing.memories(own), *(owner._grad for owner in self.grad_owners)]

    @property
    def is_rebuilt(self) -> bool:
        """Whether more is done with the results of a run than to give them back: see `finished`."""
        return bool(self.changes or self.given_objects)

    def finished(self, leaves: Sequence[Any], containers: Sequence[Any]) -> Any:
        """The call's result, made of its leaves, once what it changes of `containers` (`State.flatten`) and modules is
        changed."""
        found = pytree.unflatten(self.result, leaves, containers)
        if not self.changes:
            return found
        result, *contents = found
        for change, content in zip(self.changes, contents, strict=True):
            change.make(content, containers)
        return result

    @property
    def gives_more(self) -> bool:
        """Whether the graph is given more than the arguments."""
        return bool(self.grad_owners or self.sharing.whole)


def trace_call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    name: str,
    parameter_names: Sequence[str],
    describe: Describer,
    dynamic: Mapping[str, Mapping[int, dims.Expr]],
    changing: Collection[int] = (),
    automatic: Symbols = NONE,
    state: State | None = None,
    sharing: Sharing = NOTHING_SHARED,
) -> tuple[Trace, list[weakref.ref[Tensor]]]:
    """Run `fn` with traced stand-ins for its tensor arguments, and for the numbers among the argument leaves at the
    `changing` positions, and capture what it does. `automatic`: which sizes are symbols besides those
    declared `dynamic`. `sharing`: what an attempt has found of memory that arguments share.

    Also returns weak references to the traced tensors, for `check_nothing_escaped` once the caller's frame is clean.
    Raises TraceError where the run cannot be captured; whatever `fn` itself raises passes through. Real tensors are left
    as they were.
    """
    state = State() if state is None else state
    leaves, structure, containers = state.flatten(args, kwargs)
    contents = [content_of(one) for one in containers]
    paths = _argument_paths(structure, parameter_names, state)
    names = tuple(zip(paths, leaves))
    memories = sharing.memories(leaves)
    paths += [f"{paths[group[0]]}'s memory" for group in sharing.whole]
    tracer = Tracer(name, describe, [*leaves, *memories])
    reads = OutsideReads(tracer.guard)
    placeholders: dict[int, Tensor] = {}
    first, inside = first_positions(leaves), sharing.members()
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, np.ndarray):
            raise TypeError(
                f"{name}: argument {paths[position]} is a NumPy array; pass torch.from_numpy(array) to a compiled "
                "function"
            )
        if isinstance(leaf, Tensor) and first[position] == position and position not in inside:
            type_ = array_type(leaf._array) if leaf._array is not None else leaf._type
            declared = dynamic.get(paths[position], {})
            what = f"{name}: argument {paths[position]}"
            shape = static_or_symbolic([int(s) for s in type_.shape], declared, what)
            changes = automatic.get(position, {})
            shape = tuple(changes.get(a, d) if isinstance(d, int) else d for a, d in enumerate(shape))
            tracer.bindings.update(
                (str(d), int(n)) for d, n in zip(shape, type_.shape) if not isinstance(d, int)
            )
            placeholders[position] = tracer.placeholder(
                position, paths[position], TensorType(shape, type_.dtype), leaf.requires_grad, leaf.is_leaf
            )
    if automatic:
        tracer.conditions.automatic = frozenset(names_of(automatic))
        dims.set_oracle(ORACLE)
    for number, group in enumerate(sharing.whole):
        memory = tracer.memory(len(leaves) + number, paths[len(leaves) + number])
        placeholders.update(
            (i, tracer.storages.seen(memory, leaves[i]._views)) for i in group if first[i] == i
        )
    stand_ins: list[Any] = [placeholders.get(first.get(i, i), leaf) for i, leaf in enumerate(leaves)]
    for position in changing:
        if type(leaves[position]) in KINDS:
            number = leaves[position]
            stand_ins[position] = tracer.argument_numbers.stand_in(position, number, paths[position])
    version = structure_changes[0]
    thread = threading.get_ident()
    assigned: list[bool] = []

    def note_assignment() -> None:
        if threading.get_ident() == thread:
            assigned.append(True)

    hyperparameters = describe.hyperparameters()
    try:
        with (
            reads.watching(fn, names, containers),
            use_backend(tracer),
            tracked_module_paths(),
            watched_structure(note_assignment),
        ):
            made: list[Any] = []
            traced_args, traced_kwargs, *_ = pytree.unflatten(structure, stand_ins, (), containers, made)
            copies = [(copy, pytree.children(copy)) for copy in made]
            given = [content_of(one) for one in containers]
            with program_code():
                result = fn(*traced_args, **traced_kwargs)
            _check_copies(copies, state, name)
            _check_outside(reads, state, leaves)
            outcome = AfterTrace(containers, reads.is_outside)
            changed, after = _changes(containers, given, reads)
            tracer.guards = reads.settled(tracer.guards)
            if structure_changes[0] != version and not assigned:
                raise TraceAgain  # another thread changed a module, which may be one that was read
            for what, get, before in hyperparameters:
                if get() != before and get() is not before:
                    raise TraceError(
                        f"{name} changes {what} itself, from {before!r} to {get()!r}, which compiled calls would not "
                        "repeat. Change it outside; the compiled optimizer reads it at every call."
                    )
            paths += [f"{describe(owner)}.grad" for owner in tracer.grad_owners]
            trace = _finish(
                tracer, result, placeholders, structure, leaves, paths, sharing, changed, after, outcome
            )
            for held in trace.result.children[1:] if changed else ():
                state.classes |= pytree.classes(held)
            return trace, list(tracer.storages.created)
    except TraceError:
        raise
    except StateFound:
        raise
    except TraceAgain as again:
        reads.undo()
        reads.keep(again.args)
    except SharedMemory as found:
        reads.undo()
        sharing = found.sharing
    except Exception as error:
        place = error_location(error)
        error.add_note(f"while compiling {name}" + (f", at {place}" if place else ""))
        raise
    finally:
        for one, content in zip(containers, contents):
            fill(one, content)
        if assigned:  # or it was another thread
            reads.undo_modules()
        tracer.effects.undo()
        tracer.argument_numbers.tracing = False
    return trace_call(
        fn, args, kwargs, name, parameter_names, describe, dynamic, changing, automatic, state, sharing
    )


def unaliased(graph: Graph, trace: Trace) -> Graph:
    """The graph to be run for the trace: where branches decide whether it applies, with written storages as results of
    their own, so that a run that took another branch leaves no mark."""
    return replace(graph, aliases={}) if trace.conditions else graph


def check_nothing_escaped(created: Sequence[weakref.ref[Tensor]], name: str, graph: Graph) -> None:
    """TraceError if a traced tensor is still alive after the trace: the code stored it somewhere (in a set, in a global
    variable), which a compiled call would not repeat."""
    for generation in (0, 2):  # cycles of the trace's own objects are young: the collector was paused
        if all(ref() is None for ref in created):
            return
        gc.collect(generation)
    for ref in created:
        tensor = ref()
        if tensor is not None:
            value = tensor._value and tensor._value[1]
            place = next((n.location for n in graph.nodes if value in n.outputs and n.location), None)
            raise TraceError(
                f"{name}: a tensor computed inside ({tensor._type}{f', at {place}' if place else ''}) was stored "
                "outside the compiled function, for instance in a set or a global variable, which compiled calls do not "
                "repeat. Return it, put it into a list, a dict or an attribute of an object instead, or make such state "
                "before the first compiled call (an optimizer of one's own: by an eager step)."
            )


def _check_copies(copies: Sequence[tuple[Any, list[Any]]], state: State, name: str) -> None:
    """Registered classes and dataclasses among the arguments are the trace's own copies: where one was changed, it is
    from now on an object whose changes are followed."""
    for copy, before in copies:
        after = pytree.children(copy)
        if len(after) == len(before) and all(map(operator.is_, after, before)):
            continue
        kind = type(copy)
        if not is_object(copy) or kind in state.classes:
            raise TraceError(
                f"{name} changes an argument of class {kind.__name__}, which compiled calls cannot repeat: "
                "return what is new instead"
            )
        state.classes.add(kind)
        raise StateFound


def _check_outside(reads: OutsideReads, state: State, leaves: Sequence[Any]) -> None:
    """StateFound where the trace has put something that it computed into what is no argument yet."""
    outcome = AfterTrace(())
    found = [(what, one) for what, one in reads.changed() if outcome.holds_traced(one)]
    for what, one in found:
        state.add(what, one, leaves)
    if found:
        reads.undo()
        raise StateFound


def _changes(
    containers: Sequence[Any],
    given: Sequence[Content],
    reads: OutsideReads,
) -> tuple[list[Change], list[Any]]:
    """What the run has changed, and what that holds now."""
    changes: list[Change] = []
    contents: list[Any] = []
    for number, (one, before) in enumerate(zip(containers, given)):
        after = content_of(one)
        if not same_content(before, after):
            changes.append(Given(number))
            contents.append(tuple(after))
    for path, module, was in reads.changed_modules():
        new, gone = difference(was, tables_of(module))
        names = sorted({str(key) for table in (*new.values(), *gone.values()) for key in table})
        relied_on = set(new) != {""} or any(gone.values()) or reads.has_read(module, names)
        changes.append(OfModule(module, f"{path}.{', '.join(names)}", gone, relied_on))
        contents.append(new)
    return changes, contents


def _argument_paths(structure: pytree.Structure, names: Sequence[str], state: State) -> list[str]:
    positional, keyword, *objects = structure.children
    found: list[str] = []
    for position, child in enumerate(positional.children):
        root = names[position] if position < len(names) else f"arg{position}"
        found += pytree.paths(child, root)
    for key, child in zip(keyword.keys, keyword.children):
        found += pytree.paths(child, str(key))
    for child, (what, _) in zip(objects, state.objects, strict=True):
        found += pytree.paths(child, what)
    return found


def _finish(
    tracer: Tracer,
    result: Any,
    placeholders: Mapping[int, Tensor],
    structure: pytree.Structure,
    leaves: Sequence[Any],
    paths: Sequence[str],
    sharing: Sharing,
    changes: Sequence[Change],
    after: Sequence[Any],
    outcome: AfterTrace,
) -> Trace:
    outputs: list[Value] = []
    differentiable: set[int] = set()
    stand_ins = {**placeholders, **{position: leaves[position] for position in sharing.pinned}}
    positions = {id(tensor): position for position, tensor in stand_ins.items()}

    containers = len(outcome.found)
    result_leaves, result_structure = pytree.flatten((result, *after) if changes else result, outcome)
    known: dict[int, FromOutput] = {}  # a tensor in two places is one result
    described: list[Leaf] = []
    for leaf in result_leaves:
        if type(leaf) is Number:
            described.append(Computed(leaf.compute))
        elif not isinstance(leaf, Tensor):
            described.append(Fixed(leaf))
        elif id(leaf) in positions:
            described.append(FromArgument(positions[id(leaf)]))
        elif leaf._array is not None:
            described.append(Fixed(leaf))
        elif id(leaf) in known:
            described.append(known[id(leaf)])
        else:
            if leaf.requires_grad and _still_differentiable(leaf):
                differentiable.add(len(outputs))
            described.append(known.setdefault(id(leaf), FromOutput(len(outputs))))
            outputs.append(tracer.read(leaf))

    results = len(outputs)
    of_outputs = {d.index: leaf for leaf, d in zip(result_leaves, described) if isinstance(d, FromOutput)}
    tensors = [leaf for index, leaf in of_outputs.items() if index in differentiable]
    tracer.effects.settle_data(tracer.storages)
    grads = list(_grad_effects(tracer, placeholders, paths, outputs))
    _check_sharing(tracer, placeholders, leaves, paths, sharing)
    writes: dict[int, int] = {}
    for traced in tracer.storages.values():
        if traced.input is not None and traced.value is not traced.initial:
            writes[len(outputs)] = traced.input
            outputs.append(traced.value)
    histories: dict[int, Tensor | ArgumentSource] = {}
    for index, owner, stand_in in _new_histories(tracer, placeholders, paths, sharing, writes):
        histories[index] = owner
        tensors.append(stand_in)
    differentiable.update(histories)
    conditions = {len(outputs) + i: c for i, c in enumerate(tracer.conditions.found.values())}
    outputs += tracer.conditions.found

    joint: Graph | None = None
    receivers: tuple[Tensor | ArgumentSource, ...] = ()
    if differentiable and (has_other_receivers(tracer) or has_own_gradients(tensors, placeholders)):
        graph, joint, receivers = _differentiated(tracer, tensors, placeholders, outputs, writes)
    else:
        builder = tracer.builder
        if differentiable:
            outputs, builder = tracer.flow.detached(outputs, differentiable)
        graph = builder.finish(outputs, writes, made_by="trace")
    return Trace(
        graph=graph,
        sources=tuple(tracer.sources),
        guards=tuple(tracer.guards),
        arguments=structure,
        result=result_structure,
        leaves=tuple(described),
        grads=tuple(grads),
        writes=writes,
        random_calls=tracer.random_calls,
        conditions=conditions,
        requires_grad=tuple(sorted(differentiable)),
        histories=histories,
        results=results,
        joint=joint,
        receivers=receivers,
        names=tuple(paths),
        gpu=tracer.gpu,
        grad_owners=tuple(tracer.grad_owners),
        numbers=tracer.argument_numbers.free,
        outcomes=tuple(tracer.argument_numbers.outcomes),
        automatic=tracer.conditions.automatic,
        size_outcomes=tuple(tracer.conditions.sizes.items()),
        sized_numbers=tracer.conditions.automatic & tracer.conditions.sized_numbers,
        sharing=sharing,
        changes=tuple(changes),
        containers=containers,
        given_objects=not pytree.numbers(result_structure).isdisjoint(range(containers)),
    )


def _differentiated(
    tracer: Tracer,
    results: Sequence[Tensor],
    placeholders: Mapping[int, Tensor],
    outputs: Sequence[Value],
    writes: Mapping[int, int],
) -> tuple[Graph, Graph, tuple[Tensor | ArgumentSource, ...]]:
    """The graph, and the joint graph with the tensors whose gradients it gives, by the tape."""
    count = len(tracer.builder.nodes)
    cotangents, gradients = append_tape(tracer, results, placeholders)
    whole = tracer.builder.finish(outputs, writes, made_by="trace")
    inputs = tuple(v for v in whole.inputs if v not in cotangents)
    graph = replace(whole, inputs=inputs, nodes=whole.nodes[:count])
    joint = replace(
        whole,
        name=f"{graph.name}.joint",
        inputs=(*inputs, *cotangents),
        outputs=(*graph.outputs, *gradients.values()),
    )
    return graph, joint, tuple(gradients)


def _new_histories(
    tracer: Tracer,
    placeholders: Mapping[int, Tensor],
    paths: Sequence[str],
    sharing: Sharing,
    writes: Mapping[int, int],
) -> list[tuple[int, Tensor | ArgumentSource, Tensor]]:
    """The tensors outside that were written to and have another history since, in the order of the graph's outputs: the
    output that holds their elements, the tensor, and what stands for it in the trace."""
    owners: dict[int, tuple[Tensor | ArgumentSource, Tensor, str]] = {}
    for position, tensor in placeholders.items():
        if tensor.grad_fn is not tracer.given_histories.get(position):
            source = ArgumentSource(position, paths[position])
            if position in sharing.members():
                raise TraceError(_UNFOLLOWED.format(what=source.path, why="shares its memory with another"))
            owners[id(tensor._storage)] = source, tensor, source.path
    for tensor, before in tracer.effects.histories_before.items():
        if tensor._base is None and tensor._grad_fn is not before[0]:
            owners[id(tensor._storage)] = tensor, tensor, tracer.describe(tensor)
    written: dict[int | None, int] = {slot: index for index, slot in writes.items()}
    found: list[tuple[int, Tensor | ArgumentSource, Tensor]] = []
    for owner, tensor, path in owners.values():
        index = written.get(tracer.storages[tensor._storage].input)
        if index is None:
            continue  # it holds what it held
        if tensor._views:
            raise TraceError(_UNFOLLOWED.format(what=path, why="is a part of other memory"))
        if _still_differentiable(tensor):  # or eager code could not go back through it either
            found.append((index, owner, tensor))
    return sorted(found, key=operator.itemgetter(0))


_UNFOLLOWED = (
    "{what} {why}, and a compiled function gives it elements that have gradients. Give it their detach(), or return "
    "them instead"
)


def _still_differentiable(tensor: Tensor) -> bool:
    """Whether backward could still run from this tensor: its history was not consumed by a backward in the trace."""
    seen: set[int] = set()
    waiting = [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        if node.released:
            return False
        seen.add(id(node))
        waiting += [edge.node for edge in node.edges if edge is not None]
    return True


def _grad_effects(
    tracer: Tracer, placeholders: Mapping[int, Tensor], paths: Sequence[str], outputs: list[Value]
) -> Any:
    for tensor, before in tracer.effects.grads_before.items():
        now = tensor._grad
        if now is None:
            yield GradEffect(tensor, None)
        elif now._array is None:
            yield GradEffect(tensor, len(outputs))
            outputs.append(tracer.read(now))
        elif now is not before:
            yield GradEffect(tensor, now)
    for position, tensor in placeholders.items():
        if tensor._grad is not None:
            yield GradEffect(ArgumentSource(position, paths[position]), len(outputs))
            outputs.append(tracer.read(tensor._grad))


def _check_sharing(
    tracer: Tracer,
    placeholders: Mapping[int, Tensor],
    leaves: Sequence[Any],
    paths: Sequence[str],
    sharing: Sharing,
) -> None:
    """SharedMemory where memory is changed that others see than this trace knows of."""
    written = {traced.input for traced in tracer.storages.values() if traced.value is not traced.initial}
    captured, changed = set[Storage](), set[Storage]()
    for number, source in enumerate(tracer.sources):
        if isinstance(source, TensorSource):
            captured.add(source.tensor._storage)
        if number in written and isinstance(source, TensorSource | ArgumentSource):
            changed.add(_tensor_of(source, tracer.arguments)._storage)
    changed.update(tensor._storage for tensor in tracer.effects.grads_before)
    changed.update(leaves[i]._storage for i, tensor in placeholders.items() if tensor._grad is not None)
    by_memory: dict[Storage, list[int]] = {}
    for position in first_positions(leaves):
        if leaves[position]._storage in changed:
            by_memory.setdefault(leaves[position]._storage, []).append(position)
    of_captured = captured.union(tensor._storage for tensor in tracer.effects.grads_before)
    pinned = [i for storage, group in by_memory.items() if storage in of_captured for i in group]
    whole = tuple(
        tuple(group)
        for storage, group in by_memory.items()
        if storage not in of_captured and len({id(leaves[i]) for i in group}) > 1
    )
    found = Sharing(tuple({*sharing.whole, *whole}), tuple(sorted({*sharing.pinned, *pinned})))
    if found.members() == sharing.members():
        return
    for group in whole:
        if any(leaves[i].requires_grad for i in group):
            raise TraceError(
                f"{' and '.join(paths[i] for i in group)} share memory, of which some is changed in place, and need "
                "gradients; pass a clone() of one of them"
            )
    raise SharedMemory(found)


def _tensor_of(source: ArgumentSource | TensorSource, given: Sequence[Any]) -> Tensor:
    found: Tensor = source.tensor if isinstance(source, TensorSource) else given[source.position]
    return found
