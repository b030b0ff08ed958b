"""`torch._subclasses`: classes of tensors that PyTorch's compiler makes."""

from __future__ import annotations

from .fake_tensor import FakeTensor, FakeTensorMode

__all__ = ["FakeTensor", "FakeTensorMode"]
