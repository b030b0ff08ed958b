"""`torch.ao.quantization`: the modules that mark where a model's quantized part begins and ends."""

from __future__ import annotations

from typing import Any

from ..nn import Module
from ..tensor import Tensor


class QuantStub(Module):
    """The input as it is, as in a PyTorch model that was not converted. `qconfig` is kept."""

    def __init__(self, qconfig: Any = None):
        super().__init__()
        if qconfig:
            self.qconfig = qconfig

    def forward(self, x: Tensor) -> Tensor:
        return x


class DeQuantStub(QuantStub):
    """The input as it is."""


__all__ = ["DeQuantStub", "QuantStub"]
