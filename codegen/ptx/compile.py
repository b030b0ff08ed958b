"""LLVM text to PTX text, by the NVPTX back end inside llvmlite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..llvm.process import inside_llvm, set_up
from ..target import GpuTarget

if TYPE_CHECKING:
    from llvmlite import binding


def target_machine(target: GpuTarget) -> binding.TargetMachine:
    """A new LLVM target machine for the GPU."""
    from llvmlite import binding

    set_up()
    found = binding.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.arch, features=target.features, opt=3)


@inside_llvm()
def optimized(text: str, target: GpuTarget) -> str:
    """The module's LLVM IR after the passes."""
    return str(_optimize(text, target_machine(target)))


@inside_llvm()
def compile_ptx(text: str, target: GpuTarget) -> str:
    """The module as PTX."""
    machine = target_machine(target)
    return machine.emit_assembly(_optimize(text, machine))


def _optimize(text: str, machine: binding.TargetMachine) -> binding.ModuleRef:
    """Registers become SSA values, instructions are combined; the back end itself finds address spaces and joins
    accesses of neighbours."""
    from llvmlite import binding

    module = binding.parse_assembly(text, binding.create_context())
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    passes = binding.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)
    return module
