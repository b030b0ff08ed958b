"""Tensors that a module owns: parameters, which are trained, and buffers, which are not; and those whose shape the
first input will tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..creation import empty
from ..functional_tensor import typename
from ..ir.dtypes import DType
from ..placement import committed
from ..promotion import get_default_dtype
from ..tensor import Tensor, wrap
from ..torch_function import disabled_torch_function


class Parameter(Tensor):
    """A tensor that, assigned to a module's attribute, is one of its parameters."""

    _printed_name = "tensor"
    __torch_function__ = staticmethod(disabled_torch_function)

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = wrap(np.zeros(0, get_default_dtype().numpy))
        if not isinstance(data, Tensor):
            raise TypeError(
                f"Creating a Parameter from an instance of type {type(data).__name__} requires a Tensor"
            )
        if requires_grad and not (data.dtype.is_floating_point or data.dtype.is_complex):
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        return Tensor._make_subclass(cls, committed(data).detach(), requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __repr__(self, **kwargs: Any) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that, assigned to a module's attribute, becomes one of its buffers."""

    persistent: bool
    __torch_function__ = staticmethod(disabled_torch_function)

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            data = wrap(np.zeros(0, get_default_dtype().numpy))
        made: Buffer = Tensor._make_subclass(cls, committed(data).detach(), data.requires_grad)
        made.persistent = persistent
        return made


class UninitializedTensorMixin(Tensor):
    """A tensor without elements or shape until `materialize` gives it one; its class changes then."""

    cls_to_become: ClassVar[type[Tensor]] = Tensor

    def materialize(self, shape: Sequence[int], device: Any = None, dtype: DType | None = None) -> None:
        """Elements of the shape, not initialized; on this tensor's device and in its dtype unless given."""
        kind = Tensor.dtype.fget(self) if dtype is None else dtype  # type: ignore[attr-defined]
        where = Tensor.device.fget(self) if device is None else device  # type: ignore[attr-defined]
        made = empty(tuple(shape), device=where, dtype=kind)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        self.data = made

    @property
    def shape(self) -> Any:
        """RuntimeError: there is none before the first input."""
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
            "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call "
            "`forward` to initialize the parameters before accessing their attributes."
        )

    def share_memory_(self) -> Any:
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the parameters "
            "before calling `module.share_memory()`."
        )

    def __repr__(self, **kwargs: Any) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.requires_grad,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, dtype=self.dtype)  # type: ignore[call-arg]
        return memo[id(self)]


def is_lazy(param: Any) -> bool:
    """Whether the parameter or buffer has no shape yet."""
    return isinstance(param, UninitializedTensorMixin)


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter whose shape is not known yet."""

    cls_to_become = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: Any = None, dtype: DType | None = None
    ) -> UninitializedParameter:
        return Tensor._make_subclass(cls, empty(0, device=device, dtype=dtype), requires_grad)


class UninitializedBuffer(UninitializedTensorMixin):
    """A buffer whose shape is not known yet."""

    persistent: bool
    __torch_function__ = staticmethod(disabled_torch_function)

    def __new__(
        cls,
        requires_grad: bool = False,
        device: Any = None,
        dtype: DType | None = None,
        persistent: bool = True,
    ) -> UninitializedBuffer:
        made: UninitializedBuffer = Tensor._make_subclass(
            cls, empty(0, device=device, dtype=dtype), requires_grad
        )
        made.persistent = persistent
        return made


__all__ = [
    "Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "UninitializedTensorMixin", "is_lazy",
    "typename",
]  # fmt: skip
