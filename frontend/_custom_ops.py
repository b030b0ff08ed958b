"""`torch._custom_ops`: the older name of `torch.library`'s functions."""

from .library import custom_op

__all__ = ["custom_op"]
