"""Loop IR programs as PTX text, through LLVM's NVPTX back end."""

from .program import PtxLaunch, PtxProgram, emit_ptx

__all__ = ["PtxLaunch", "PtxProgram", "emit_ptx"]
