"""`Variable`, which before PyTorch 0.4 wrapped every tensor that was to be differentiated."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor


class _VariableMeta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)

    def __call__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Tensor:
        alias = data._alias()
        if requires_grad:
            alias.requires_grad = True
        return alias


class Variable(metaclass=_VariableMeta):
    """`Variable(tensor)` is a tensor over the same memory; every tensor is an instance."""


def variable(*args: Any, **kwargs: Any) -> Tensor:
    """RuntimeError: PyTorch has removed it."""
    raise RuntimeError("torch.autograd.variable(...) is deprecated, use torch.tensor(...) instead")
