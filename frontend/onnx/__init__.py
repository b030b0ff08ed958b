"""ONNX files: `load` gives a Module that runs the file's graph with this package's functions; `export` writes a model.

Protobuf files are read by the `onnx` package, an extra (`pip install 'vitrify[onnx]'`), which is imported when one of
them is called and not before, so that programs may `import torch.onnx` at their top.
"""

from typing import Any

from .exporting import export
from .model import GraphModule, load
from .table import ONNXError, supported_ops


def is_in_onnx_export() -> bool:
    """False: models are not run to be exported (`onnx.export` captures them as `torch.compile` does)."""
    return False


def register_custom_op_symbolic(symbolic_name: str, symbolic_fn: Any, opset_version: int) -> None:
    """Nothing to do: a custom op is exported as what it is made of."""


__all__ = [
    "GraphModule",
    "ONNXError",
    "export",
    "is_in_onnx_export",
    "load",
    "register_custom_op_symbolic",
    "supported_ops",
]
