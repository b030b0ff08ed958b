"""`__torch_function__`: functions of torch ask their arguments' classes, and modes, as PyTorch's do."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn
from vitrify._C import DisableTorchFunction, DisableTorchFunctionSubclass
from vitrify.overrides import (
    BaseTorchFunctionMode,
    TorchFunctionMode,
    get_overridable_functions,
    has_torch_function,
    resolve_name,
)


class Plain(torch.Tensor):
    """With Tensor's own rule."""


class Further(Plain):
    pass


class Noted(torch.Tensor):
    """Notes what it is asked."""

    asked: list[Any] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.asked.append((func, types, len(args), sorted(kwargs or ())))
        return super().__torch_function__(func, types, args, kwargs or {})


class Described(torch.Tensor):
    """Keeps what its attributes say, as images with metadata do."""

    meta: dict[str, Any]
    affine: torch.Tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs or {})
        source = next((a for a in args if isinstance(a, cls) and vars(a)), None)
        if isinstance(found, cls) and source is not None:
            found.__dict__.update(source.__dict__)
        return found


def plain(*values: float) -> Plain:
    return torch.tensor(values).as_subclass(Plain)


def noted(*values: float) -> Noted:
    made: Noted = torch.tensor(values).as_subclass(Noted)
    Noted.asked.clear()
    return made


def described() -> Described:
    made: Described = torch.tensor([1.0, 2.0]).as_subclass(Described)
    made.meta, made.affine = {"spacing": 3}, torch.eye(2)
    return made


RESULTS = {
    "operator": lambda x: x + 1,
    "reflected": lambda x: 1 - x,
    "beside a tensor": lambda x: torch.ones(2) * x,
    "function": lambda x: torch.exp(x),
    "method": lambda x: x.sum(),
    "functional": lambda x: F.gelu(x),
    "linalg": lambda x: torch.linalg.norm(x),
    "fft": lambda x: torch.fft.fft(x),
    "special": lambda x: torch.special.erf(x),
    "list": lambda x: torch.cat([torch.ones(1), x]),
    "keyword": lambda x: torch.where(torch.tensor([True, False]), input=torch.ones(2), other=x),
    "index": lambda x: x[0],
    "indexed by": lambda x: torch.ones(3)[x.long()],
    "property": lambda x: x.T,
    "data": lambda x: x.data,
    "module": lambda x: nn.Linear(2, 3)(x),
    "alike": lambda x: torch.zeros_like(x),
    "in place": lambda x: x.mul_(2),
    "copy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_of_the_class(name: str) -> None:
    given = RESULTS[name](torch.tensor([1.0, 2.0]) if name != "module" else torch.ones(2))
    found = RESULTS[name](plain(1.0, 2.0))
    assert type(found) is Plain and type(given) is torch.Tensor
    if name != "module":
        assert found.tolist() == given.tolist()


def test_results_in_tuples_are_of_the_class() -> None:
    found = plain(1.0, 3.0).max(0)
    assert type(found).__name__ == "max" and found.values == 3
    assert type(found.values) is type(found.indices) is Plain
    assert [type(part) for part in torch.split(plain(1.0, 2.0), 1)] == [Plain, Plain]
    assert [type(item) for item in plain(1.0, 2.0)] == [Plain, Plain]
    assert isinstance(plain(1.0).shape, torch.Size) and plain(1.0).item() == 1


def test_a_subclass_comes_before_its_base_and_strangers_decline() -> None:
    below = torch.ones(1).as_subclass(Further)
    assert type(plain(1.0) + below) is Further and type(below + plain(1.0)) is Further
    with pytest.raises(TypeError, match=r"no implementation found for 'torch.exp2?' on types .*Stranger"):
        torch.exp(torch.ones(1).as_subclass(Stranger))
    with pytest.raises(TypeError, match="unsupported operand"):
        torch.ones(1).as_subclass(Stranger) + 1


class Stranger(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented


def test_handlers_get_the_functions_that_programs_hold() -> None:
    x = noted(1.0, 2.0)
    torch.add(x, 1, alpha=2)
    x.add(1)
    x * 2
    F.relu(x)
    torch.sum(x, dim=0)
    assert x.shape == (2,)
    names = [(func, count, names) for func, _, count, names in Noted.asked]
    assert names == [
        (torch.add, 2, ["alpha"]),
        (torch.Tensor.add, 2, []),
        (torch.Tensor.mul, 2, []),
        (F.relu, 1, []),
        (torch.sum, 1, ["dim"]),
        (torch.Tensor.shape.__get__, 1, []),
    ]
    assert {types for _, types, *_ in Noted.asked} == {(Noted,)}


def test_inside_blocks_nobody_is_asked() -> None:
    x = noted(1.0)
    with DisableTorchFunctionSubclass():
        assert type(x + 1) is torch.Tensor and not has_torch_function((x,))
    assert not Noted.asked
    with Recording() as mode, DisableTorchFunction():
        x + 1
    assert not Noted.asked and not mode.calls


def test_gradients_flow_and_are_plain() -> None:
    x = plain(1.0, 2.0).requires_grad_()
    y = (x * x).sum()
    assert type(y) is Plain
    y.backward()
    assert x.grad is not None and type(x.grad) is torch.Tensor and x.grad.tolist() == [2.0, 4.0]
    (found,) = torch.autograd.grad((x * x).sum(), x)
    assert type(found) is Plain and found.tolist() == [2.0, 4.0]


def test_transforms_take_it_for_a_tensor() -> None:
    x = plain(1.0, 2.0)
    x.note = "kept"
    assert torch.func.grad(lambda v: (v * v).sum())(x).tolist() == [2.0, 4.0]
    assert torch.vmap(lambda v: v * 2)(x).tolist() == [2.0, 4.0]


def test_functions_stay_what_they_were() -> None:
    before = torch.add
    plain(1.0)
    assert torch.add is before and before.__name__ == "add"
    assert list(inspect.signature(torch.sum).parameters)[:2] == ["input", "dim"]
    assert torch.add(torch.ones(1), torch.ones(1), alpha=3).tolist() == [4.0]
    assert resolve_name(F.relu) == "torch.nn.functional.relu"
    assert resolve_name(print) is None
    assert torch.add in get_overridable_functions()["torch"]


def test_nothing_asks_before_the_first_tensor_of_such_a_class() -> None:
    program = (
        "import vitrify as torch\n"
        "code = torch.add.__code__\n"
        "class Own(torch.Tensor): pass\n"
        "torch.nn.Linear(2, 2)(torch.ones(2))\n"
        "assert torch.add.__code__ is code\n"
        "torch.ones(2).as_subclass(Own)\n"
        "assert torch.add.__code__ is not code\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- modes -----------------------------------------------------------------------------------------------------------


class Recording(TorchFunctionMode):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_each_call_also_without_tensors() -> None:
    with Recording() as mode:
        x = torch.zeros(2)
        x.relu() + 1
        F.softmax(x, dim=0)
        torch.get_default_dtype()
    torch.ones(1)
    assert mode.calls == ["zeros", "relu", "add", "softmax"]


def test_an_inner_mode_comes_first_and_classes_last() -> None:
    outer, inner = Recording(), Recording()
    x = noted(1.0)
    with outer, inner:
        torch.exp(x)
        with BaseTorchFunctionMode():
            torch.sin(x)
    assert outer.calls == inner.calls == ["exp", "sin"]
    assert [func for func, *_ in Noted.asked] == [torch.exp, torch.sin]


def test_what_a_mode_declines_goes_to_the_classes() -> None:
    class Declining(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return NotImplemented

    x = plain(0.0)
    with Declining():
        assert type(torch.exp(x)) is Plain
        with pytest.raises(TypeError, match=r"no implementation found for 'torch.zeros' .*Declining"):
            torch.zeros(1)


# -- compiled --------------------------------------------------------------------------------------------------------


def test_compiled_functions_keep_the_class() -> None:
    compiled = torch.compile(lambda x: (x * 2, isinstance(x, Plain)))
    for given in (torch.ones(2), plain(1.0, 1.0), torch.ones(2), plain(1.0, 1.0)):
        found, is_plain = compiled(given)
        assert type(found) is type(given) and is_plain is isinstance(given, Plain)
        assert found.tolist() == [2.0, 2.0]


def test_compiled_functions_keep_attributes() -> None:
    def step(x: Described) -> Described:
        y: Described = x * x.meta["spacing"]
        y.affine = x.affine + 1
        return y

    x, compiled = described(), torch.compile(step)
    for spacing in (3, 3, 5):
        x.meta["spacing"] = spacing
        wanted, found = step(x), compiled(x)
        assert type(found) is Described and found.meta == {"spacing": spacing}
        assert found.tolist() == wanted.tolist() and found.affine.tolist() == wanted.affine.tolist()
    x.requires_grad_()
    compiled(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [5.0, 5.0]


@pytest.mark.filterwarnings("ignore:.*changes asked itself")
def test_compiling_asks_nobody_for_itself() -> None:
    asked = []

    class Listening(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.append(func)
            return super().__torch_function__(func, types, args, kwargs)

    x = torch.ones(2).as_subclass(Listening)
    compiled = torch.compile(lambda x: x * 2 + 1)
    with DisableTorchFunctionSubclass():
        assert type(compiled(x)) is torch.Tensor
    assert not asked
    assert type(compiled(x)) is Listening
    assert asked == [torch.Tensor.mul, torch.Tensor.add]


def test_what_a_rule_reads_is_guarded() -> None:
    compiled = torch.compile(lambda x: x * 3)
    x = torch.ones(1).as_subclass(Scaled)
    for Scaled.factor in (2.0, 5.0):
        assert compiled(x).tolist() == [3 * Scaled.factor]


class Scaled(torch.Tensor):
    factor = 1.0

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs)
        if func is torch.Tensor.mul:
            with DisableTorchFunctionSubclass():
                return (found * cls.factor).as_subclass(cls)
        return found
