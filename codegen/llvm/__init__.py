"""The LLVM CPU back end: loop IR programs as LLVM text, and LLVM text as object code or assembly."""

from .compile import assembly, compile_modules, optimized
from .emit import EmitOptions
from .program import ENTRY, emit_program, launched_functions

__all__ = [
    "ENTRY",
    "EmitOptions",
    "assembly",
    "compile_modules",
    "emit_program",
    "launched_functions",
    "optimized",
]
