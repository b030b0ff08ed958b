"""`torch.overrides`: a library's functions leave the work to `__torch_function__`. `test_torch_function.py`: torch's."""

from typing import Any

import pytest

import vitrify as torch
from vitrify import nn
from vitrify.overrides import (
    handle_torch_function,
    has_torch_function,
    is_tensor_like,
    is_tensor_method_or_property,
    wrap_torch_function,
)


class Scaled:
    """A duck-typed tensor."""

    def __init__(self, factor: float):
        self.factor = factor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not doubled:
            return NotImplemented
        return cls(args[0].factor * 2)


class Tagged(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs)


class Special(Tagged):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return types


@wrap_torch_function(lambda x: (x,))
def doubled(x: Any) -> Any:
    return x * 2


def other(*args: Any) -> Any:
    if has_torch_function(args):
        return handle_torch_function(other, args, *args)
    return sum(args)


def test_objects_with_a_rule_are_asked() -> None:
    found = doubled(Scaled(3.0))
    assert isinstance(found, Scaled)
    assert found.factor == 6
    assert doubled(torch.tensor(3.0)) == 6
    with pytest.raises(TypeError, match=r"no implementation found for '.*other' on types that implement"):
        other(Scaled(1.0), torch.tensor(1.0))


def test_plain_tensors_and_parameters_have_none() -> None:
    x = torch.ones(2)
    assert not has_torch_function((x, nn.Parameter(x), 1.0))
    assert has_torch_function((x, x.as_subclass(Tagged)))
    assert is_tensor_like(x) and is_tensor_like(Scaled(1.0)) and not is_tensor_like(1.0)
    assert is_tensor_method_or_property(torch.Tensor.add)
    assert not is_tensor_method_or_property(other)


def test_a_subclass_is_asked_before_its_base_and_the_base_keeps_the_class() -> None:
    x = torch.ones(2)
    tagged, special = x.as_subclass(Tagged), x.as_subclass(Special)
    assert other(x, tagged, special) == (Special, Tagged)
    assert type(Tagged.__torch_function__(torch.add, (Tagged,), (tagged, 1))) is Tagged
    parts = Tagged.__torch_function__(torch.split, (Tagged,), (tagged, 1))
    assert [type(part) for part in parts] == [Tagged, Tagged]
    assert Tagged.__torch_function__(torch.add, (Special,), (special, 1)) is NotImplemented
