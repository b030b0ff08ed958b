"""`torch.nn.quantized`: the older name of `torch.ao.nn.quantized`."""

from ..ao.nn.quantized import FloatFunctional

__all__ = ["FloatFunctional"]
