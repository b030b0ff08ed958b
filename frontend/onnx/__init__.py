"""ONNX files: `load` gives a Module that runs the file's graph with this package's functions.

Protobuf files are read by the `onnx` package, an extra (`pip install 'vitrify[onnx]'`), which is imported when `load` is
called and not before, so that programs may `import torch.onnx` at their top. Exporting is not there yet and says so.
"""

from .model import GraphModule, load
from .table import ONNXError, supported_ops

__all__ = ["GraphModule", "ONNXError", "load", "supported_ops"]
