"""One compiled trace: what it was specialised to, and how it is called.

Three kinds of facts decide whether a call may use it, in order of cost: counters that say nothing anywhere has changed
(module attributes, tensor storages), Python guards (closed-over values, hyper-parameter decisions), and the types of the
argument arrays, which native code checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from ..eager import writeable
from ..generator import default_generator, device_generator
from ..ir.dims import evaluate, solved
from ..nn.modules.structure import structure_changes
from ..placement import gpu_under
from ..runtime.threads import get_num_threads
from ..state import local
from ..tensor import Storage, Tensor, data_changes, grad_accesses, new_storages_float, wrap
from . import pytree
from .argument_types import array_type
from .call import MISS, Binding, CallRecord, as_bound, fits
from .device_call import bind, fits_device, host_values, put, put_base
from .guards.settings import Settings
from .guards.values import same_argument, same_value
from .plain_call import Call, plain_call
from .prepared import Prepared
from .sources import ArgumentSource, NumberSource, RandomSource, TensorSource
from .trace import FromArgument, FromOutput, Trace

Array = np.ndarray[Any, Any]


class Specialization:
    """A trace and its compiled graph. `run` executes one call on flattened argument leaves."""

    def __init__(self, trace: Trace, compiled: Any, leaves: Sequence[Any]):
        """`compiled`: a CompiledGraph or a GpuGraph, by the trace's device; `leaves`: the flattened arguments of the
        call that was traced."""
        self.trace = trace
        self.gpu = trace.gpu
        self.generator = default_generator if trace.gpu is None else device_generator(trace.gpu.index)
        self.settings = Settings.now()
        self.compiled = compiled
        self.grad_enabled = local.grad_enabled
        self.structure_version = structure_changes[0]
        self.data_version = data_changes[0]
        own = leaves[: trace.arguments.leaves]
        self.constants = tuple((i, leaf) for i, leaf in enumerate(own) if not isinstance(leaf, Tensor))
        self.tensors = tuple(
            (i, leaf.requires_grad) for i, leaf in enumerate(own) if isinstance(leaf, Tensor)
        )
        sources = trace.sources
        self.argument_sources = tuple(
            (slot, s.position) for slot, s in enumerate(sources) if isinstance(s, ArgumentSource)
        )
        self.tensor_sources = tuple(
            (slot, s.tensor) for slot, s in enumerate(sources) if isinstance(s, TensorSource)
        )
        self.argument_positions = tuple(position for _, position in self.argument_sources)
        getters = [s.get for s in sources if isinstance(s, NumberSource)]
        self.number_getters = tuple(enumerate(getters))
        self.number_slots = tuple(slot for slot, s in enumerate(sources) if isinstance(s, NumberSource))
        self.random_slots = tuple(slot for slot, s in enumerate(sources) if isinstance(s, RandomSource))
        # New gradients: (output slot, whose); and those that are None or tensors from outside. Where branches decide
        # whether a run counts, gradients are new tensors each time.
        new_grads = tuple((g.value, g.tensor) for g in trace.grads if isinstance(g.value, int))
        self.fresh_grads = new_grads if trace.conditions else ()
        self.kept_owners = () if trace.conditions else new_grads
        # Of the kept ones those whose memory the graph may read as well: the gradient of the call before.
        read = {id(owner) for owner in trace.grad_owners}
        self.read_kept = tuple(i for i, (_, owner) in enumerate(self.kept_owners) if id(owner) in read)
        captured = [owner for _, owner in self.kept_owners if isinstance(owner, Tensor)]
        self.kept_tensors = captured if len(captured) == len(self.kept_owners) else None
        self.plain_grads = tuple(
            (g.tensor, g.value)
            for g in trace.grads
            if isinstance(g.tensor, Tensor) and not isinstance(g.value, int)
        )
        self.fixed_facts = tuple(
            (t, t.requires_grad, _hooks(t), t._views, array_type(_base_array(t)))
            for _, t in self.tensor_sources
        )
        self.identities = tuple((g.get, g.seen) for g in trace.guards if not g.by_value)
        self.values = tuple((g.get, g.seen) for g in trace.guards if g.by_value)
        self.written_tensors = self._written_storages()
        self.written_arguments = tuple(
            position for slot, position in self.argument_sources if slot in trace.writes.values()
        )
        self.output_of_slot = {slot: output for output, slot in trace.writes.items()}
        positional, keyword = trace.arguments.children
        flat = not keyword.children and all(child == pytree.LEAF for child in positional.children)
        # How many positional arguments a call has whose arguments are its leaves; -1 where they are nested.
        self.flat_arguments = len(positional.children) if flat else -1
        self._bindings: dict[tuple[int, ...], Binding] = {}
        self._binding: Binding | None = None
        self._plain_calls: dict[tuple[int, ...], Call | None] = {}
        # The short way for calls like the latest one, where there is one.
        self.plain_call: Call | None = None
        self._dims_before: dict[str, int] = {}
        self.only_result = self._only_result()
        self.prepared = Prepared(compiled, self._prepared_from()) if compiled.prepared_bytes else None

    # -- does it fit? ----------------------------------------------------------------------------------------

    def fits_quickly(self, leaves: Sequence[Any]) -> bool:
        """The cheap part of `why_not`: True means only the array types remain to be checked."""
        if (
            self.structure_version != structure_changes[0]
            or self.data_version != data_changes[0]
            or self.grad_enabled is not local.grad_enabled
            or (new_storages_float[0] and not self._on_its_devices(leaves))
        ):
            return False
        for i, requires_grad in self.tensors:
            leaf = leaves[i]
            if not isinstance(leaf, Tensor) or leaf.requires_grad is not requires_grad:
                return False
        for i, constant in self.constants:
            if leaves[i] is not constant and not same_argument(leaves[i], constant):
                return False
        for get, seen in self.identities:
            if get() is not seen:
                return False
        for get, seen in self.values:
            now = get()
            if now is not seen and not same_value(now, seen):
                return False
        return True

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
        for i, requires_grad in self.tensors:
            if not isinstance(leaves[i], Tensor):
                return f"argument {names[i]} was a tensor, now {leaves[i]!r}"
            if leaves[i].requires_grad is not requires_grad:
                return f"argument {names[i]} had requires_grad={requires_grad}"
        here = (self.gpu, None)
        if not self._on_its_device(leaves) or any(gpu_under(t) not in here for _, t in self.tensor_sources):
            return f"the tensors were on {self.gpu or 'cpu'}, or some are elsewhere now"
        types = self.trace.graph.inputs
        bound: dict[str, int] = {}
        for slot, position in self.argument_sources:
            type_, leaf = types[slot].type, leaves[position]
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
        for guard in self.trace.guards:
            if not guard.holds():
                return guard.reason()
        for tensor, requires_grad, hooks, views, type_ in self.fixed_facts:
            if tensor.requires_grad is not requires_grad or tensor._views != views:
                return "requires_grad of a captured tensor changed"
            if _hooks(tensor) != hooks:
                return "the hooks of a captured tensor changed"
            now = array_type(_base_array(tensor))
            if now != type_:
                return f"a captured tensor was {type_}, now {now}"
        if self.prepared is not None and self.prepared.exposed:
            return "a parameter's memory was handed out, so that what depends on it is computed by every call"
        if self.structure_version != structure_changes[0]:
            return "an attribute of a Module changed"
        return None

    def _on_its_devices(self, leaves: Sequence[Any]) -> bool:
        """Where there are devices: whether the default one and those of the arguments are the trace's. A program on a
        device looks itself where its arguments are."""
        return local.device is self.settings.device and (self.gpu is not None or self._on_its_device(leaves))

    def _on_its_device(self, leaves: Sequence[Any]) -> bool:
        """Whether the arguments are where the program runs; 0-d ones are taken there. Captured tensors are: where one
        gets other memory, `data_version` moves."""
        for i in self.argument_positions:
            leaf = leaves[i]
            if not isinstance(leaf, Tensor):
                return False
            gpu = gpu_under(leaf)
            if gpu is not self.gpu and (gpu is not None or leaf.ndim):
                return False
        return True

    def refresh(self) -> None:
        """Accept the present counters: everything they stand for was checked again. Addresses are read anew."""
        self.structure_version = structure_changes[0]
        self.data_version = data_changes[0]
        self.rebind()
        self.written_tensors = self._written_storages()
        if self.prepared is not None:
            self.prepared.follow(self._prepared_from())

    def rebind(self) -> None:
        """Have the next call decide anew which program runs, on which memory."""
        self._dims_before = self.current_dims()
        self._bindings.clear()
        self._plain_calls.clear()
        self._binding = self.plain_call = None

    def _written_storages(self) -> tuple[Storage, ...]:
        """The memory of the captured tensors that a call writes to."""
        written = set(self.trace.writes.values())
        return tuple(t._storage for slot, t in self.tensor_sources if slot in written)

    def _prepared_from(self) -> list[Tensor]:
        """The captured tensors that the program's leading launches read, where it has such."""
        return [tensor for slot, tensor in self.tensor_sources if slot in self.compiled.prepared_inputs]

    def graphs(self) -> list[Any]:
        """The compiled graphs behind this specialization, forward first."""
        return [self.compiled]

    def current_dims(self) -> dict[str, int]:
        """The symbolic dims of the latest call, those it told included."""
        return (
            {**self._binding.dims, **self._binding.told} if self._binding is not None else self._dims_before
        )

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, leaves: Sequence[Any]) -> Any:
        """The call's result, or MISS when an argument array has another type than the latest call's."""
        binding = self._binding
        if binding is None or binding.threads != get_num_threads():
            return MISS
        if self.trace.grad_owners:
            leaves = self.trace.given(leaves)
        arrays = [leaves[position]._array for position in self.argument_positions]
        if self.random_slots:
            fit = fits if self.gpu is None else fits_device
            if not all(fit(a, t) for a, (_, t) in zip(arrays, binding.argument_slots)):
                return MISS  # before random numbers are drawn for a call that would not run
        return self._execute(binding, arrays, leaves)

    def run_checked(self, leaves: Sequence[Any]) -> Any:
        """The call's result, or MISS when a branch on a tensor came out another way; `why_not` has said that all else
        fits. Arrays that are not contiguous are copied."""
        leaves = self.trace.given(leaves)
        dims: dict[str, int] = {}
        for slot, position in self.argument_sources:
            for dim, size in zip(self.trace.graph.inputs[slot].type.shape, leaves[position].shape):
                found = solved(dim, int(size))
                if found is not None:
                    dims[found[0].name] = found[1]
        key = (get_num_threads(), *(dims[name] for name in sorted(dims)))
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(dims)
            self._plain_calls[key] = self._plain_call(binding)
        self._binding = binding
        self.plain_call = self._plain_calls[key]
        given = [leaves[position]._array for _, position in self.argument_sources]
        for position in self.written_arguments:
            writeable(leaves[position]._array)
        arrays = [as_bound(a, t) for a, (_, t) in zip(given, binding.argument_slots)]
        result = self._execute(binding, arrays, leaves)
        if result is not MISS and not self.trace.conditions:
            for (slot, position), before, used in zip(self.argument_sources, given, arrays):
                if slot in self.output_of_slot and used is not before:
                    put(leaves[position], used)
        return result

    def _execute(self, binding: Binding, arrays: Sequence[Array], leaves: Sequence[Any]) -> Any:
        record = binding.take()
        try:
            numbers = record.numbers
            for position, get in self.number_getters:
                numbers[position] = get()
            if self.random_slots:
                calls = 0 if self.trace.conditions else self.trace.random_calls
                record.random[0], record.random[1] = self.generator.philox_state(calls)
            # Nobody has looked at a gradient since this record's were given to their owners: they may be written over.
            untouched = (
                record.accesses == grad_accesses[0] and self.kept_tensors is not None and not self.read_kept
            )
            owners = () if untouched else self._owners(leaves)
            if owners:
                self._free_kept(binding, record, owners)
            for position in self.read_kept:
                record.renew(binding, position)
            prepared = self.prepared
            try:
                if prepared is None or prepared.is_current():
                    results = binding.call(record, arrays)
                else:
                    results = prepared.filling(lambda: binding.call(record, arrays))
            except BaseException:
                self._lose_kept(record, leaves)
                raise
            if results is None or (self.trace.conditions and not self._commit(results, leaves)):
                return MISS
            for storage in self.written_tensors:
                storage.version += 1
            for at in self.written_arguments:
                leaves[at]._storage.version += 1
            if not untouched:
                for owner, grad in zip(owners, record.kept):
                    owner._grad = grad
                for tensor, value in self.plain_grads:
                    tensor._grad = value
                # Other records' gradients, other specializations' too, are no longer the owners'.
                grad_accesses[0] += 1
                record.accesses = grad_accesses[0]
            return self._deliver(binding, record, arrays, results, leaves)
        finally:
            binding.give_back(record)

    def _commit(self, results: Sequence[Array], leaves: Sequence[Any]) -> bool:
        """Whether every branch came out as in the trace; if so, write what the run is to write."""
        for index, condition in self.trace.conditions.items():
            if bool(host_values(results[index])) is not condition.outcome:
                return False
        if self.random_slots:
            self.generator.philox_state(self.trace.random_calls)
        captured: dict[int, Array] = {slot: _base_array(t) for slot, t in self.tensor_sources}
        given: dict[int, Tensor] = {slot: leaves[position] for slot, position in self.argument_sources}
        for output, slot in self.trace.writes.items():
            if slot in captured:
                put_base(captured[slot], results[output])
            else:
                put(given[slot], results[output])
        for output, owner in self.fresh_grads:
            tensor = leaves[owner.position] if isinstance(owner, ArgumentSource) else owner
            tensor._grad = wrap(results[output])
        return True

    def _deliver(
        self,
        binding: Binding,
        record: CallRecord,
        arrays: Sequence[Array],
        results: Sequence[Array],
        leaves: Sequence[Any],
    ) -> Any:
        """The call's result from the result arrays."""
        only = self.only_result
        return self._unflatten(results, leaves, {}) if only is None else wrap(results[only])

    def _result_slots(self) -> Sequence[int]:
        """Which graph outputs are made anew for every call; the others are kept, or written in place."""
        return range(len(self.compiled.output_types) if self.trace.conditions else self.trace.results)

    def _saved_slots(self) -> Sequence[int]:
        """Which of the fresh outputs are nobody's but the backward's."""
        return ()

    def _bind(self, dims: dict[str, int]) -> Binding:
        types = self.trace.graph.inputs
        arguments = [(slot, types[slot].type.bind(dims)) for slot, _ in self.argument_sources]
        fixed = [(slot, _native_base(t)) for slot, t in self.tensor_sources]
        in_place = {} if self.trace.conditions else self.output_of_slot
        written = [(in_place[slot], writeable(a)) for slot, a in fixed if slot in in_place]
        binding = bind(
            self.compiled,
            dims,
            arguments,
            self._result_slots(),
            [slot for slot, _ in self.kept_owners],
            fixed,
            written,
            self.number_slots,
            self.random_slots,
            in_place,
            [(c.size, c.outcome) for c in self.trace.conditions.values() if c.size is not None],
            self._saved_slots(),
        )
        if self.prepared is not None:
            binding.prepared = self.prepared.address
        return binding

    def _plain_call(self, binding: Binding) -> Call | None:
        """The short way through calls with this binding, where there is one."""
        return plain_call(self, binding, self.only_result) if self.gpu is None else None

    def _free_kept(self, binding: Binding, record: CallRecord, owners: Sequence[Tensor]) -> None:
        """Gradients of the last call with this record are written over, unless someone besides their owner holds the
        tensor or its memory: those get new memory."""
        fresh = record.fresh_references
        if fresh is None:
            record.fresh_references = _references(record, owners)
            return
        now = _references(record, owners)
        if now != fresh:
            for position, (count, expected) in enumerate(zip(now, fresh)):
                if count != expected:
                    record.renew(binding, position)

    def _lose_kept(self, record: CallRecord, leaves: Sequence[Any]) -> None:
        """A run that failed may have left anything in the gradients' memory, which holds other values until they are
        written (`codegen/lower/lending.py`): gradients of the call before that lie there are gone."""
        for owner, kept in zip(self._owners(leaves), record.kept):
            if owner._grad is kept:
                owner._grad = None
                grad_accesses[0] += 1

    def _owners(self, leaves: Sequence[Any]) -> Sequence[Tensor]:
        """The tensors that receive the new gradients."""
        if self.kept_tensors is not None:
            return self.kept_tensors
        return [leaves[o.position] if isinstance(o, ArgumentSource) else o for _, o in self.kept_owners]

    def _only_result(self) -> int | None:
        """The output that is the call's whole result, where one is."""
        if self.trace.result == pytree.LEAF:
            (leaf,) = self.trace.leaves
            return leaf.index if isinstance(leaf, FromOutput) else None
        return None

    def _unflatten(self, results: Sequence[Array], leaves: Sequence[Any], made: dict[int, Tensor]) -> Any:
        """The nested result; `made` holds tensors for output arrays that already have one."""
        found: list[Any] = []
        for leaf in self.trace.leaves:
            if isinstance(leaf, FromOutput):
                if leaf.index not in made:
                    made[leaf.index] = wrap(results[leaf.index])
                found.append(made[leaf.index])
            elif isinstance(leaf, FromArgument):
                found.append(leaves[leaf.position])
            else:
                found.append(leaf.value)
        return pytree.unflatten(self.trace.result, found)


def _references(record: CallRecord, owners: Sequence[Tensor]) -> list[int]:
    """For each kept gradient a count of the references to it and to its memory (views hold that), its owner's not
    counted. Only good for comparing with what the same function gave when nobody else held any."""
    return [
        getrefcount(grad) - (owner._grad is grad) + getrefcount(array) if grad._array is array else -1
        for grad, array, owner in zip(record.kept, record.kept_arrays, owners)
    ]


def _base_array(tensor: Tensor) -> Array:
    base = tensor._storage.base_array
    assert base is not None, "captured tensors have memory"
    return base


def _native_base(tensor: Tensor) -> Array:
    """The array behind a captured tensor, as native code needs it.

    A captured tensor over a strided NumPy array would have to be copied on every call: TypeError asks for contiguity.
    """
    base = _base_array(tensor)
    if not (base.flags.c_contiguous and base.flags.aligned and base.dtype.isnative):
        raise TypeError(
            "a compiled function captured a tensor over a non-contiguous NumPy array "
            f"(shape {list(base.shape)}); use .contiguous() on it first, or pass it as an argument"
        )
    return base


def _hooks(tensor: Tensor) -> tuple[int, ...]:
    """The ids of a leaf's hooks, no two of which are the same."""
    extra = tensor._extra
    return () if extra is None else (*extra.hooks, *extra.post_accumulate)
