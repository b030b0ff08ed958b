"""Where PyTorch has `LinearCrossEntropyOptions`."""

from ..linear_losses import LinearCrossEntropyOptions

__all__ = ["LinearCrossEntropyOptions"]
