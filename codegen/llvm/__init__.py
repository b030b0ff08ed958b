"""The LLVM CPU back end: loop IR programs as LLVM text, and LLVM text as object code or assembly."""

from .compile import assembly, compile_modules, optimized
from .emit import EmitOptions
from .program import ENTRY, MODULE_INSTRUCTIONS, emit_program, launched_functions

__all__ = [
    "ENTRY",
    "MODULE_INSTRUCTIONS",
    "EmitOptions",
    "assembly",
    "compile_modules",
    "emit_program",
    "launched_functions",
    "optimized",
]
