"""`torch._C`: the few names of PyTorch's compiled part that libraries import."""

from __future__ import annotations

from typing import Any

from .tensor import Tensor
from .tensor_object import disabled_torch_function as _disabled_torch_function_impl

_TensorMeta = type(Tensor)


class PyTorchFileReader:
    """The reader of checkpoints in PyTorch's C++: NotImplementedError. `torch.load` reads them."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(
            "torch.PyTorchFileReader is not in vitrify: torch.load reads PyTorch's files"
        )


__all__ = ["PyTorchFileReader", "_TensorMeta", "_disabled_torch_function_impl"]
