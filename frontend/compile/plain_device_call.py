"""The short way through a compiled call on a device, as `plain_call.py` is on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..device_programs import VECTOR
from ..nn.modules.structure import structure_changes
from ..runtime.gpu.arrays import DeviceArray, DeviceMemory
from ..state import local
from ..tensor import data_changes, grad_accesses, wrap
from .call import MISS
from .device_call import GpuBinding
from .plain_call import Call, is_plain
from .pytree import LEAVES

if TYPE_CHECKING:
    from .specialization import Specialization


def plain_device_call(s: Specialization, binding: GpuBinding) -> Call | None:
    """The call of a specialization with this binding, from its positional arguments to its result, or MISS when nothing
    has run. None where calls need more than this function does.

    The function holds for as long as the binding does: `Specialization.rebind` drops both.
    """
    if not is_plain(s) or binding.graph.told or binding.written_captured:
        return None
    fit, gradients = s.fit, s.gradients
    requires_grad_at = dict(fit.tensors)
    read = [
        (position, requires_grad_at.pop(position), *expected)
        for position, expected in zip(s.argument_positions, binding.expected)
    ]
    unread = list(requires_grad_at.items())
    arguments, constants, guarded = fit.flat_arguments, fit.constants, fit.guards_hold.any
    structure_version, data_version, grad_enabled = fit.structure_version, fit.data_version, fit.grad_enabled
    default_device = fit.settings.device
    numbers, computed, any_number = s.number_getters, s.computed_numbers, bool(fit.numbers)
    random, generator, draws = bool(s.random_slots), s.generator, s.trace.random_calls
    written, gives_gradients = s.written_tensors, bool(gradients.kept or gradients.plain)
    gpu, early, order, uploads = binding.graph.gpu, binding.early, binding.order, binding.uploads
    shares_alike = fit.shares_alike if fit.shares_alike.asks else None
    thread, only, deliver = gpu.thread, s.only_result, s._deliver
    take, give_back = binding.take, binding.give_back
    bound: Any = binding

    def call(args: tuple[Any, ...]) -> Any:
        if (
            len(args) != arguments
            or structure_changes[0] != structure_version
            or data_changes[0] != data_version
            or local.grad_enabled is not grad_enabled
            or local.device is not default_device
        ):
            return MISS
        for position, constant in constants:
            if args[position] is not constant:
                return MISS
        for position, requires_grad in unread:
            leaf = args[position]
            if type(leaf) not in LEAVES or leaf.requires_grad is not requires_grad:
                return MISS
        if (any_number and not fit.numbers_fit(args)) or (guarded and not fit.guards_hold()):
            return MISS
        record: Any = take()
        try:
            if gives_gradients and record.accesses != grad_accesses[0]:
                return MISS  # someone looked at a gradient, or it is another record's
            addresses = record.addresses
            key = [thread.stream]
            arrays: list[Any] = []  # holds them while the program is launched
            for position, requires_grad, slot, dtype, shape in read:
                leaf = args[position]
                if (
                    type(leaf) not in LEAVES
                    or leaf._base is not None
                    or leaf._requires_grad is not requires_grad
                ):
                    return MISS
                array: Any = leaf._array
                if (
                    type(array) is not DeviceArray
                    or array.shape != shape
                    or array.dtype != dtype
                    or array.memory.gpu is not gpu
                    or not array.c_contiguous
                    or array.address % VECTOR
                ):
                    return MISS
                arrays.append(array)
                addresses[slot] = address = array.address
                key.append(address)
            if shares_alike is not None and not shares_alike(args):
                return MISS
            for at, number in numbers:
                record.numbers[at] = number()
            for at, compute in computed:
                record.numbers[at] = compute(args)
            try:
                results: list[Any] = []
                for nbytes, places in early:
                    memory = DeviceMemory(gpu, nbytes)
                    key.append(memory.address)
                    for slot, shape, dtype, strides, offset in places:
                        array = DeviceArray(memory, shape, dtype, strides, offset, True)
                        addresses[slot] = array.address
                        results.append(array)
                if order is not None:
                    results = [results[at] for at in order]
                if random:
                    record.random[0], record.random[1] = generator.philox_state(draws)
                if uploads:
                    record.upload(gpu)
                record.runner.run(addresses, tuple(key))
            except BaseException:
                gradients.lose(record, args)
                raise
            for storage in written:
                storage.version += 1
            return wrap(results[only]) if only is not None else deliver(bound, record, arrays, results, args)
        finally:
            give_back(record)

    return call
