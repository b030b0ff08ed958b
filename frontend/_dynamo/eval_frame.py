"""`torch._dynamo.eval_frame`: the class of compiled modules, by PyTorch's name."""

from ..compile.compiled_module import CompiledModule as OptimizedModule

__all__ = ["OptimizedModule"]
