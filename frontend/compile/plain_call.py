"""The short way through a compiled call, for the calls that programs make over and over.

What a call does in general is spread over `Fit.quickly`, `Specialization.run`, `_execute` and `Binding.call`, and costs
twice what the facts of most calls ask for: arguments are the tensors that were bound, on the CPU; no branch, random
number or told size is waited for; gradients lie where the last run put them. For such specializations one function
holds everything a call needs in its own variables. What it cannot vouch for it leaves to the general way, which says
why, copies, or compiles anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..nn.modules.structure import structure_changes
from ..runtime.call_shim import MISMATCH
from ..runtime.threads import get_num_threads
from ..state import local
from ..tensor import data_changes, grad_accesses, new_storages_float, wrap
from .call import MISS, Binding
from .pytree import LEAVES

if TYPE_CHECKING:
    from .specialization import Specialization

Call = Callable[[tuple[Any, ...]], Any]


def is_plain(s: Specialization) -> bool:
    """Whether its calls need nothing but arguments that are leaves, and memory that the last run left."""
    return not (
        s.fit.flat_arguments < 0
        or s.gradients.read_kept
        or s.written_arguments
        or s.gradients.kept_tensors is None
        or s.trace.conditions
        or s.trace.gives_more
    )


def plain_call(s: Specialization, binding: Binding) -> Call | None:
    """The call of a specialization with this binding, from its positional arguments to its result, or MISS when nothing
    has run. None where calls need more than this function does.

    The function holds for as long as the binding does: `Specialization.rebind` drops both.
    """
    if not is_plain(s) or s.random_slots or binding.tells_sizes:
        return None
    fit, gradients = s.fit, s.gradients
    requires_grad_at = dict(fit.tensors)
    read = [(position, requires_grad_at.pop(position)) for position in s.argument_positions]
    unread = list(requires_grad_at.items())
    arguments, constants, guarded = fit.flat_arguments, fit.constants, fit.guards_hold.any
    structure_version, data_version, grad_enabled = fit.structure_version, fit.data_version, fit.grad_enabled
    numbers, computed, any_number = s.number_getters, s.computed_numbers, bool(fit.numbers)
    prepared, written = s.prepared, s.written_tensors
    shares_alike = fit.shares_alike
    asks_of_sharing = shares_alike.asks and not shares_alike.is_simple
    none_captured, (one, other) = shares_alike.none_captured, shares_alike.apart or (-1, -1)
    gives_gradients = bool(gradients.kept or gradients.plain)
    threads, result_specs, only, deliver = binding.threads, binding.result_specs, s.only_result, s._deliver
    take, give_back, invoke = binding.take, binding.give_back, binding._invoke

    def call(args: tuple[Any, ...]) -> Any:
        if (
            len(args) != arguments
            or structure_changes[0] != structure_version
            or data_changes[0] != data_version
            or local.grad_enabled is not grad_enabled
            or (new_storages_float[0] and not fit.on_its_devices(args))
            or get_num_threads() != threads
        ):
            return MISS
        for position, constant in constants:
            if args[position] is not constant:
                return MISS
        for position, requires_grad in unread:
            leaf = args[position]
            if type(leaf) not in LEAVES or leaf.requires_grad is not requires_grad:
                return MISS
        if any_number and not fit.numbers_fit(args):
            return MISS
        if (guarded and not fit.guards_hold()) or (prepared is not None and not prepared.is_current()):
            return MISS
        record = take()
        try:
            if gives_gradients and record.accesses != grad_accesses[0]:
                return MISS  # someone looked at a gradient, or it is another record's
            for at, number in numbers:
                record.numbers[at] = number()
            for at, compute in computed:
                record.numbers[at] = compute(args)
            objects = record.objects
            arrays: list[Any] = []  # holds them while the program runs
            at = 0
            for position, requires_grad in read:
                leaf = args[position]
                if (
                    type(leaf) not in LEAVES
                    or leaf._base is not None
                    or leaf._requires_grad is not requires_grad
                    or (none_captured and leaf._storage.captured and not shares_alike(args))
                ):
                    return MISS
                array = leaf._array
                arrays.append(array)
                objects[at] = id(array)
                at += 1
            if (other > 0 and args[one] is args[other]) or (asks_of_sharing and not shares_alike(args)):
                return MISS
            results: list[Any] = []
            try:
                for empty, shape, dtype in result_specs:
                    array = empty(shape, dtype)
                    results.append(array)
                    objects[at] = id(array)
                    at += 1
            except MemoryError:
                return MISS  # perhaps these sizes are not this call's
            try:
                status = invoke(record.address, record.objects_address)
                if status:
                    if status == MISMATCH:
                        return MISS
                    binding.graph.raise_status(status, record.run_memory(binding))
            except BaseException:
                gradients.lose(record, args)
                raise
            for storage in written:
                storage.version += 1
            return (
                wrap(results[only]) if only is not None else deliver(binding, record, arrays, results, args)
            )
        finally:
            give_back(record)

    return call
