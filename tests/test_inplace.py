"""In-place functions: the value of the function, in the same memory, one version later."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import vitrify as torch

UNARY = [
    "neg", "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "sin",
    "cos", "tan", "sinh", "cosh", "tanh", "erf", "sigmoid", "abs", "sign", "relu", "floor", "ceil",
    "trunc", "round", "square", "cumsum:0", "cumprod:1", "tril", "triu",
]  # fmt: skip
BINARY = [
    "add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "lt", "le", "gt", "ge", "eq",
    "ne", "logical_and", "logical_or",
]  # fmt: skip


def start() -> torch.Tensor:
    return torch.tensor(np.linspace(0.25, 3, 12, dtype=np.float32).reshape(3, 4))


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    name, _, dim = name.partition(":")
    args = (int(dim),) if dim else ()
    check(lambda x: getattr(x, name)(*args), lambda x: getattr(x, name + "_")(*args))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("other", [2, 0.5, "row", "full"])
def test_binary(name: str, other: Any) -> None:
    if isinstance(other, str):
        other = start() * 0.5 if other == "full" else torch.tensor([1.0, 2.0, 0.5, 3.0])
    if name.startswith("logical") and not isinstance(other, torch.Tensor):
        pytest.skip("takes tensors only")
    check(lambda x: getattr(x, name)(other).to(x.dtype), lambda x: getattr(x, name + "_")(other))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp_(0.5, 2),
        lambda x: x.clip_(max=1),
        lambda x: x.clamp_min_(1),
        lambda x: x.masked_fill_(x > 1, -1),
        lambda x: x.lerp_(torch.ones(3, 4), 0.5),
        lambda x: x.addcmul_(torch.ones(3, 4), torch.ones(4), value=2),
        lambda x: x.addcdiv_(torch.ones(3, 4), x, value=2),
        lambda x: x.add_(torch.ones(4), alpha=3),
        lambda x: x.sub_(1, alpha=2),
        lambda x: x.scatter_(1, torch.tensor([[0], [1], [2]]), 9.0),
        lambda x: x.scatter_add_(0, torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4)),
        lambda x: x.index_add_(1, torch.tensor([0, 0]), torch.ones(3, 2)),
        lambda x: x.index_fill_(0, torch.tensor([2]), 1),
        lambda x: x.index_copy_(0, torch.tensor([0]), torch.ones(1, 4)),
        lambda x: x.masked_scatter_(x > 2, torch.zeros(12)),
        lambda x: x.zero_(),
        lambda x: x.fill_(math.pi),
        lambda x: x.copy_(torch.ones(4)),
    ],
)
def test_the_same_tensor_comes_back_one_version_later(function: Any) -> None:
    x = start()
    memory, version = x.numpy(), x._version
    assert function(x) is x
    assert x.numpy() is memory and x._version == version + 1
    view = start().t()
    assert function(view.t()).data_ptr() == view.data_ptr()


def check(function: Any, inplace: Any) -> None:
    expected = function(start())
    x = start()
    assert inplace(x) is x and x._version == 1
    np.testing.assert_array_equal(x.numpy(), expected.numpy())
    # On a view with gaps, between numbers that must stay.
    base = torch.full((5, 9), 77.0)
    view = base[1:4, 1::2]
    view.copy_(start())
    inplace(view)
    np.testing.assert_array_equal(base[1:4, 1::2].numpy(), expected.numpy())
    base[1:4, 1::2] = 77.0
    assert (base == 77).all()


def test_operators_in_place_keep_the_object_and_the_dtype() -> None:
    x = torch.arange(4)
    same = x
    x += 1
    x *= 2
    x -= torch.ones(4, dtype=torch.int32)
    x //= 2
    x %= 3
    x **= 2
    x &= 3
    x |= 4
    x ^= 1
    x <<= 2
    x >>= 1
    assert x is same and x.dtype is torch.int64
    want = np.arange(4)
    want += 1
    want *= 2
    want -= 1
    want //= 2
    want %= 3
    want **= 2
    want &= 3
    want |= 4
    want ^= 1
    want <<= 2
    want >>= 1
    np.testing.assert_array_equal(x.numpy(), want)


def test_overlapping_source_and_target() -> None:
    x = torch.arange(6)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    y = torch.arange(6)
    y[:-1].add_(y[1:])
    assert y.tolist() == [1, 3, 5, 7, 9, 5]


def test_read_only_memory_is_refused() -> None:
    array = np.ones(3)
    array.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        x = torch.from_numpy(array)
    assert (x + 1).tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="read-only"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="read-only"):
        x.expand(2, 3).zero_()


def test_a_failed_write_changes_nothing() -> None:
    x = torch.ones(3, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="can't be cast"):
        x.mul_(1.5)
    with pytest.raises(RuntimeError, match="broadcast shape"):
        x.add_(torch.ones(2, 3, dtype=torch.int64))
    assert x.tolist() == [1, 1, 1] and x._version == 0


def test_a_tensor_multiplied_by_itself_in_place_has_the_right_gradient() -> None:
    # PyTorch refuses this; here the tape keeps a copy of the old value.
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    y = x * 1
    y.mul_(y)
    y.sum().backward()
    assert x.grad.tolist() == [4.0, 6.0]


def test_only_what_a_gradient_reads_is_kept() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 1
    z = y * 2  # needs no y
    y.add_(1)
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    w = torch.ones(3, requires_grad=True)
    u = w * 1
    v = u / 4  # needs no quotient
    v.mul_(3)
    v.sum().backward()
    assert w.grad.tolist() == [0.75, 0.75, 0.75]


def test_a_quotient_may_be_written_to() -> None:
    a = torch.tensor([3.0, 5.0], requires_grad=True)
    b = torch.tensor([2.0, 4.0], requires_grad=True)
    y = a / b
    y.add_(1).mul_(2)
    y.sum().backward()
    assert a.grad.tolist() == [1.0, 0.5]
    assert b.grad.tolist() == [-1.5, -0.625]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 0, 3)])
def test_empty_and_scalar_tensors(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    x.add_(1).mul_(3).clamp_(max=2).sub_(torch.ones(shape))
    assert x.shape == shape and (x == 1).all()
    x[...] = 5
    assert (x == 5).all()


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "sqrt", "relu"])
def test_what_autograd_saved_may_be_copied_into_a_buffer(name: str) -> None:
    """The copy is written to later, the result that was saved is not."""
    x = torch.tensor([0.5, 2.0], requires_grad=True)
    buffer = torch.zeros(2, 2)
    kept = getattr(x, name)()
    buffer[0] = kept
    buffer[1] = getattr(x, name)()
    buffer.add_(1)
    buffer.sum().backward()
    y = torch.tensor([0.5, 2.0], requires_grad=True)
    (2 * getattr(y, name)()).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_a_quotient_may_be_written_to_before_backward():
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([4.0, 8.0], requires_grad=True)
    quotient = a / b
    quotient[0] = 3.0
    quotient.sum().backward()
    assert a.grad.tolist() == [0.0, 0.125]
    assert b.grad.tolist() == [0.0, -0.03125]
