"""One compiled trace, and how it is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..eager import writeable
from ..generator import default_generator, device_generator
from ..ir.dims import solved
from ..nn.modules.structure import structure_changes
from ..runtime.threads import get_num_threads
from ..tensor import Storage, Tensor, grad_accesses, wrap
from . import pytree
from .call import MISS, Binding, CallRecord, as_bound, fits
from .changes import OfModule
from .device_call import GpuBinding, bind, fits_device, host_values, put, put_base
from .fit import Fit, base_array
from .histories import leaf_of
from .new_gradients import NewGradients
from .plain_call import Call, plain_call
from .plain_device_call import plain_device_call
from .prepared import Prepared
from .sources import ArgumentSource, ComputedSource, NumberSource, RandomSource, TensorSource
from .trace import Computed, FromArgument, FromOutput, Trace

Array = np.ndarray[Any, Any]


class Specialization:
    """A trace and its compiled graph. `run` executes one call on flattened argument leaves.

    Instances, those of subclasses too, have at most 30 attributes: with more, CPython 3.11 no longer shares the keys of
    their `__dict__`, and finding the edges of a 60-layer module took 20 µs instead of 17.
    """

    def __init__(self, trace: Trace, compiled: Any, leaves: Sequence[Any]):
        """`compiled`: a CompiledGraph or a GpuGraph, by the trace's device; `leaves`: the flattened arguments of the
        call that was traced."""
        self.trace = trace
        self.gpu = trace.gpu
        self.generator = default_generator if trace.gpu is None else device_generator(trace.gpu.index)
        self.compiled = compiled
        self.fit = Fit(trace, leaves)
        sources = trace.sources
        self.argument_sources = tuple(
            (slot, s.position) for slot, s in enumerate(sources) if isinstance(s, ArgumentSource)
        )
        self.tensor_sources = tuple(
            (slot, s.tensor) for slot, s in enumerate(sources) if isinstance(s, TensorSource)
        )
        for _, tensor in self.tensor_sources:
            tensor._storage.captured = True
        self.argument_positions = tuple(position for _, position in self.argument_sources)
        numbers = [
            (slot, s) for slot, s in enumerate(sources) if isinstance(s, NumberSource | ComputedSource)
        ]
        self.number_slots = tuple(slot for slot, _ in numbers)
        self.number_getters = tuple(
            (at, s.get) for at, (_, s) in enumerate(numbers) if isinstance(s, NumberSource)
        )
        self.computed_numbers = tuple(
            (at, s.compute) for at, (_, s) in enumerate(numbers) if isinstance(s, ComputedSource)
        )
        self.random_slots = tuple(slot for slot, s in enumerate(sources) if isinstance(s, RandomSource))
        self.gradients = NewGradients(trace)
        self.written_tensors = self._written_storages()
        self.written_arguments = tuple(
            position for slot, position in self.argument_sources if slot in trace.writes.values()
        )
        self.output_of_slot = {slot: output for output, slot in trace.writes.items()}
        # By threads and dims: the binding, and the short way through calls with it, where there is one.
        self._bindings: dict[tuple[int, ...], tuple[Binding, Call | None]] = {}
        # Those of the latest call.
        self._binding: Binding | None = None
        self.plain_call: Call | None = None
        self._dims_before: dict[str, int] = {}
        self.only_result = self._only_result()
        self.prepared = Prepared(compiled, self._prepared_from()) if compiled.prepared_bytes else None

    def why_not(self, leaves: Sequence[Any], structure: pytree.Structure) -> str | None:
        """The first reason why this call needs another specialization; None when it fits."""
        why = self.fit.why_not(leaves, structure)
        if why is None and self.prepared is not None and self.prepared.exposed:
            return "a parameter's memory was handed out, so that what depends on it is computed by every call"
        return why

    def refresh(self) -> None:
        """Accept the present counters: everything they stand for was checked again. Addresses are read anew."""
        self.fit.refresh()
        self.rebind()
        self.written_tensors = self._written_storages()
        if self.prepared is not None:
            self.prepared.follow(self._prepared_from())

    def rebind(self) -> None:
        """Have the next call decide anew which program runs, on which memory."""
        self._dims_before = self.current_dims()
        self._bindings.clear()
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

    def finished(self, found: Any, containers: Sequence[Any]) -> Any:
        """The call's result, from what `run` gave, once what the call changes is changed."""
        trace = self.trace
        if not trace.is_rebuilt:
            return found
        before = structure_changes[0]
        result = trace.finished(found, containers)
        of_modules = [change for change in trace.changes if isinstance(change, OfModule)]
        if of_modules and not any(change.relied_on for change in of_modules):
            now = before + len(of_modules)
            if self.fit.structure_version == before and structure_changes[0] == now:
                self.fit.structure_version = (
                    now  # nobody else has changed a module, and this trace fits as before
                )
        return result

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, leaves: Sequence[Any]) -> Any:
        """The call's result, or MISS when an argument array has another type than the latest call's."""
        binding = self._binding
        if binding is None or binding.threads != get_num_threads():
            return MISS
        if self.trace.gives_more:
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
        bound = self._bindings.get(key)
        if bound is None:
            new = self._bind(dims)
            plain = plain_device_call(self, new) if isinstance(new, GpuBinding) else plain_call(self, new)
            bound = self._bindings[key] = new, plain
        binding, self.plain_call = bound
        self._binding = binding
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
        record, gradients = binding.take(), self.gradients
        try:
            numbers = record.numbers
            for position, get in self.number_getters:
                numbers[position] = get()
            for position, compute in self.computed_numbers:
                numbers[position] = compute(leaves)
            if self.random_slots:
                calls = 0 if self.trace.conditions else self.trace.random_calls
                record.random[0], record.random[1] = self.generator.philox_state(calls)
            # Nobody has looked at a gradient since this record's were given to their owners: they may be written over.
            untouched = (
                record.accesses == grad_accesses[0]
                and gradients.kept_tensors is not None
                and not gradients.read_kept
            )
            owners = () if untouched else gradients.owners(leaves)
            if owners:
                gradients.free(binding, record, owners)
            for position in gradients.read_kept:
                record.renew(binding, position)
            prepared = self.prepared
            try:
                if prepared is None or prepared.is_current():
                    results = binding.call(record, arrays)
                else:
                    results = prepared.filling(lambda: binding.call(record, arrays))
            except BaseException:
                gradients.lose(record, leaves)
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
                for tensor, value in gradients.plain:
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
        captured: dict[int, Array] = {slot: base_array(t) for slot, t in self.tensor_sources}
        given: dict[int, Tensor] = {slot: leaves[position] for slot, position in self.argument_sources}
        for output, slot in self.trace.writes.items():
            if slot in captured:
                put_base(captured[slot], results[output])
            else:
                put(given[slot], results[output])
        for output, owner in self.gradients.fresh:
            leaf_of(owner, leaves)._grad = wrap(results[output])
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
            [slot for slot, _ in self.gradients.kept],
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
        if self.gpu is not None:
            binding.storages = {slot: t._storage for slot, t in self.tensor_sources}
        return binding

    def _only_result(self) -> int | None:
        """The output whose tensor is the call's whole result, where one is."""
        if self.trace.result == pytree.LEAF:
            (leaf,) = self.trace.leaves
            return leaf.index if isinstance(leaf, FromOutput) else None
        return None

    def _unflatten(self, results: Sequence[Array], leaves: Sequence[Any], made: dict[int, Tensor]) -> Any:
        """The nested result, or its leaves for `Trace.finished`; `made` holds the tensors of output arrays that have
        one."""
        found: list[Any] = []
        for leaf in self.trace.leaves:
            if isinstance(leaf, FromOutput):
                if leaf.index not in made:
                    made[leaf.index] = wrap(results[leaf.index])
                found.append(made[leaf.index])
            elif isinstance(leaf, FromArgument):
                found.append(leaves[leaf.position])
            elif isinstance(leaf, Computed):
                found.append(leaf.compute(leaves))
            else:
                found.append(leaf.value)
        trace = self.trace
        if trace.result is pytree.LEAF:
            return found[0]
        if trace.is_rebuilt:
            return found
        return pytree.unflatten(trace.result, found, (None,) * trace.containers)  # none of which is in it


def _native_base(tensor: Tensor) -> Array:
    """The array behind a captured tensor, as native code needs it.

    A captured tensor over a strided NumPy array would have to be copied on every call: TypeError asks for contiguity.
    """
    base = base_array(tensor)
    if not (base.flags.c_contiguous and base.flags.aligned and base.dtype.isnative):
        raise TypeError(
            "a compiled function captured a tensor over a non-contiguous NumPy array "
            f"(shape {list(base.shape)}); use .contiguous() on it first, or pass it as an argument"
        )
    return base
