"""LLVM text to object code: the pass pipeline, the target machine, modules compiled side by side in threads."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..target import Target
from .process import inside_llvm, need_room, set_up, unlocked

if TYPE_CHECKING:
    from llvmlite import binding


# Bytes: five times what LLVM takes, measured on modules of 4 to 230 kB; a thread's stack and the beginning of its heap.
_ROOM, _ROOM_FOR_TEXT, _ROOM_FOR_THREAD = 16 << 20, 200, 16 << 20


def target_machine(target: Target) -> binding.TargetMachine:
    """A new LLVM target machine: position-independent code, optimization level 2."""
    from llvmlite import binding

    set_up()
    found = binding.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
    )


def optimize(text: str, machine: binding.TargetMachine) -> binding.ModuleRef:
    """The module parsed, verified and optimized.

    The emitter already numbers values, hoists, unrolls and vectorizes, so that little is left to LLVM: register
    buffers become SSA values, instructions are combined, blocks merged. On a training step of LeNet (43 launches) this
    takes 36 ms where the O1 pipeline takes 320, and the code is as fast.
    """
    from llvmlite import binding

    module = binding.parse_assembly(text, binding.create_context())
    _run_passes(module, machine)
    return module


def _emitted(module: binding.ModuleRef, machine: binding.TargetMachine) -> bytes:
    """The object code: `machine.emit_object(module)`, without the lock."""
    from llvmlite.binding import ffi

    with ffi.OutputString() as error:
        buffer = unlocked("LLVMPY_TargetMachineEmitToMemory")(machine, module, 1, error)
        if not buffer:
            raise RuntimeError(str(error))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _run_passes(module: binding.ModuleRef, machine: binding.TargetMachine) -> None:
    from llvmlite import binding

    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=1))
    passes = binding.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    unlocked("LLVMPY_RunNewModulePassManager")(passes, module, builder)


@inside_llvm()
def compile_linked(texts: Sequence[str], target: Target, exported: Collection[str]) -> bytes:
    """One object of several modules linked together, in which only the `exported` functions are seen from outside."""
    from llvmlite import binding

    machine = target_machine(target)
    context = binding.create_context()
    first, *others = (binding.parse_assembly(text, context) for text in texts)
    for other in others:
        first.link_in(other)
    for function in first.functions:
        if not function.is_declaration and function.name not in exported:
            function.linkage = "internal"
    _run_passes(first, machine)
    return machine.emit_object(first)


@inside_llvm()
def compile_module(text: str, target: Target) -> bytes:
    """Object code of one module. MemoryError where there is no room to make it in."""
    need_room(_ROOM + _ROOM_FOR_TEXT * len(text))
    machine = target_machine(target)
    return _emitted(optimize(text, machine), machine)


@inside_llvm()
def assembly(text: str, target: Target) -> str:
    """The assembly of one module, optimized as `compile_module` does."""
    machine = target_machine(target)
    machine.set_asm_verbosity(False)
    return machine.emit_assembly(optimize(text, machine))


@inside_llvm()
def optimized(text: str, target: Target) -> str:
    """The module's LLVM IR after the passes."""
    return str(optimize(text, target_machine(target)))


def compile_modules(texts: Iterable[str], target: Target, workers: int) -> list[bytes]:
    """Object code of several modules, compiled by up to `workers` threads while more come."""
    if workers <= 1:
        return [compile_module(text, target) for text in texts]
    need_room(workers * _ROOM_FOR_THREAD)
    with ThreadPoolExecutor(workers) as pool:
        begun = [_begin(pool, text, target) for text in texts]
        return [each.result() for each in begun]


def _begin(pool: ThreadPoolExecutor, text: str, target: Target) -> Future[bytes]:
    try:
        return pool.submit(compile_module, text, target)
    except RuntimeError:  # the interpreter is ending and starts no threads
        done: Future[bytes] = Future()
        done.set_result(compile_module(text, target))
        return done
