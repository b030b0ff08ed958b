"""`torch.ao`: of PyTorch's quantization workflow, the parts that a float model contains.

Preparing and converting a model by observers is not here; docs/coverage.md has what there is for integer weights.
"""

from . import nn, quantization

__all__ = ["nn", "quantization"]
