"""What PyTorch's functions take as arguments: 0-d tensors for numbers, types and their names, kinds of device."""

import dataclasses
from typing import Any

import pytest

import vitrify as torch
from vitrify import nn
from vitrify.distributions import Normal, Transform, kl_divergence, register_kl

T = torch.tensor
X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("torch.linspace(T(0.0), 1, T(5))", "torch.linspace(0, 1, 5)"),
        ("torch.logspace(0, 1, T(3))", "torch.logspace(0, 1, 3)"),
        ("torch.eye(T(2), T(3))", "torch.eye(2, 3)"),
        ("torch.full((T(2), T(3)), T(1.5))", "torch.full((2, 3), 1.5)"),
        ("torch.arange(T(1), T(7), T(2))", "torch.arange(1, 7, 2)"),
        ("X.diagonal(T(1))", "X.diagonal(1)"),
        ("torch.bincount(T([1]), minlength=T(3))", "T([0, 1, 0])"),
        ("torch.histc(X, T(3), T(0.0), T(6.0))", "T([2.0, 2.0, 2.0])"),
        ("nn.functional.one_hot(T([0, 1]), T(3))", "torch.eye(2, 3, dtype=torch.long)"),
        ("nn.functional.max_pool1d(X[None], T(2))", "T([[[1.0], [4.0]]])"),
        ("torch.fft.rfft(X, T(3))", "torch.fft.rfft(X)"),
    ],
)
def test_tensors_for_numbers(given: str, plain: str) -> None:
    names = {"torch": torch, "nn": nn, "T": T, "X": X}
    found, wanted = eval(given, names), eval(plain, names)
    assert torch.equal(found, wanted)
    assert found.dtype is wanted.dtype


def test_a_fill_value_is_one_number() -> None:
    for size, value in (((2,), T([1.0])), (T(2), 1.0)):
        with pytest.raises(TypeError, match=r"full\(\): argument '(fill_value|size)'"):
            torch.full(size, value)


def test_types_and_their_names() -> None:
    whole = X.long()
    assert whole.type(torch.Tensor).dtype is torch.float32
    assert whole.type("torch.Tensor").dtype is torch.float32
    assert X.type("torch.LongTensor").dtype is X.type(torch.LongTensor).dtype is torch.int64
    for unknown in ("FloatTensor", float, nn.Parameter):
        with pytest.raises(ValueError, match=r"invalid type: '(FloatTensor|float|Parameter)'"):
            X.type(unknown)


def test_autocast_of_devices_that_are_not_here_is_off() -> None:
    for device in ("mps", "xpu", "hpu", "xla"):
        assert torch.is_autocast_enabled(device) is False
    assert torch.get_autocast_dtype("mps") is torch.float16
    with pytest.raises(RuntimeError, match="unknown device type"):
        torch.is_autocast_enabled("abacus")


def test_a_dtype_is_no_dataclass() -> None:
    assert not dataclasses.is_dataclass(torch.float32)


def test_divergences_of_foreign_classes() -> None:
    class Own:
        pass

    @register_kl(Own, Normal)
    def rule(p: Any, q: Any) -> torch.Tensor:
        return q.loc + 1

    assert kl_divergence(Own(), Normal(2.0, 1.0)) == 3
    with pytest.raises(TypeError, match="Expected type_q to be a Distribution subclass"):
        register_kl(Own, Own())


def test_a_transform_may_be_a_module() -> None:
    class Scale(Transform, nn.Module):
        def __init__(self) -> None:
            super().__init__(cache_size=1)
            self.weight = nn.Parameter(torch.tensor(2.0))

        def _call(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    scale = Scale()
    assert scale(torch.tensor(3.0)) == 6
    assert [name for name, _ in scale.named_parameters()] == ["weight"]


def test_functions_of_torch_are_no_methods_of_modules() -> None:
    class Layer(nn.Module):
        act = torch.tanh
        soft = nn.functional.gelu

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x) + self.soft(x)

    class Child(Layer):
        act = torch.relu

    assert torch.equal(Layer()(X), X.tanh() + nn.functional.gelu(X))
    assert torch.equal(Child()(X), X + nn.functional.gelu(X))


def test_ctc_loss_of_one_sequence_is_divided_by_its_targets() -> None:
    scores = (torch.arange(20.0).reshape(5, 4).sin() * 2).log_softmax(-1)
    loss = nn.functional.ctc_loss(scores, T([1, 2]), T(5), T(2))
    torch.testing.assert_close(loss, T(2.5556), atol=1e-4, rtol=0)
    assert nn.functional.ctc_loss(scores, T([1, 2]), (5,), (2,), reduction="none").shape == ()


def test_asserted_conditions() -> None:
    torch._assert(True, "no")
    with pytest.raises(AssertionError, match="too small"):
        torch._assert(T(False), "too small")
