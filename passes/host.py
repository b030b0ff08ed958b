"""Which nodes does compiled code leave to NumPy?

A *host node* is computed by its op's NumPy rule, called back from the native program: an op that codegen has no kernel
for (`lowering="host"`), or any op on complex numbers, which kernels do not compute with. Decomposition, fusion and
partition ask here; lowering follows the `host` groups that fusion makes.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.graph import Node
from ..ir.op import Op
from ..ir.types import TensorType


def runs_on_host(node: Node) -> bool:
    """Whether the node is a host node."""
    return is_host(node.op, (v.type for v in (*node.inputs, *node.outputs)))


def is_host(op: Op, types: Iterable[TensorType]) -> bool:
    """The same for an op with operands and results of these types."""
    return op.lowering == "host" or any(t.dtype.kind == "complex" for t in types)


def placed_lowering(node: Node) -> str:
    """The op's lowering, "host" for a host node."""
    return "host" if runs_on_host(node) else node.op.lowering
