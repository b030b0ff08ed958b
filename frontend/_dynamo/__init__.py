"""`torch._dynamo`: names of PyTorch's tracer that other libraries ask for. Here they are `torch.compiler`'s."""

from __future__ import annotations

from ..compiler import allow_in_graph, assume_constant_result, disable, is_compiling, reset
from ..tensor import Tensor
from . import eval_frame as eval_frame
from .eval_frame import OptimizedModule


def mark_static_address(tensor: Tensor, guard: bool = True) -> None:
    """Nothing to do: where captured tensors lie is looked up when it may have changed."""


__all__ = [
    "OptimizedModule", "allow_in_graph", "assume_constant_result", "disable", "is_compiling", "mark_static_address",
    "reset",
]  # fmt: skip
