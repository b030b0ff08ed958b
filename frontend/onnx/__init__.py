"""ONNX files: `load` gives a Module that runs the file's graph with this package's functions; `export` writes a model.

Protobuf files are read by the `onnx` package, an extra (`pip install 'vitrify[onnx]'`), which is imported when one of
them is called and not before, so that programs may `import torch.onnx` at their top.
"""

from .exporting import export
from .model import GraphModule, load
from .table import ONNXError, supported_ops

__all__ = ["GraphModule", "ONNXError", "export", "load", "supported_ops"]
