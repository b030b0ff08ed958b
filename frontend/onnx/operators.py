"""`torch.onnx.operators`: shapes as tensors."""

from ..functional_tensor import _shape_as_tensor as shape_as_tensor

__all__ = ["shape_as_tensor"]
