"""Attention that is written out is found, forward and backward, and left alone where the weights are wanted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import Tensor
from vitrify.passes.pipeline import PipelineOptions
from vitrify.runtime.compiled_graph import CompileOptions

LENGTH = 40
SEEN = torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64)
BIAS = torch.linspace(-1.0, 1.0, LENGTH * LENGTH).reshape(LENGTH, LENGTH)
Masked = Callable[[Tensor], Tensor]

MASKS: dict[str, Masked] = {
    "none": lambda scores: scores,
    "masked_fill": lambda scores: scores.masked_fill(SEEN[:, :, :LENGTH, :LENGTH] == 0, -math.inf),
    "added": lambda scores: scores + BIAS,
    "where and added": lambda scores: torch.where(SEEN[0, 0, :LENGTH, :LENGTH] > 0, scores + BIAS, -math.inf),
    "two": lambda scores: (
        (scores + BIAS).masked_fill(BIAS.T > 0.5, -math.inf).masked_fill(BIAS.T < -0.5, -math.inf)
    ),
}


def operands() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, LENGTH, 16, requires_grad=True) for _ in range(3)]


def attend(q: Tensor, k: Tensor, v: Tensor, masked: Masked, p: float = 0.0) -> Tensor:
    scores = masked(q @ k.transpose(-2, -1) / math.sqrt(k.size(-1)))
    return F.dropout(F.softmax(scores, dim=-1), p) @ v


def training(masked: Masked, p: float = 0.0) -> Callable[..., tuple[Tensor, ...]]:
    def step(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        out = attend(q, k, v, masked, p)
        return out, *torch.autograd.grad((out * out).sum(), (q, k, v))

    return step


def agree(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", MASKS.values(), ids=list(MASKS))
def test_a_training_step(masked: Masked) -> None:
    step = training(masked)
    compiled = torch.compile(step)
    agree(compiled(*operands()), step(*operands()))
    found = str(compiled.graph("find_attention"))
    assert " = attention_grad" in found and " = softmax" not in found


@pytest.mark.parametrize("masked", MASKS.values(), ids=list(MASKS))
def test_a_model_whose_backward_is_apart(masked: Masked) -> None:
    values = operands()
    compiled = torch.compile(lambda q, k, v: attend(q, k, v, masked))
    out = compiled(*values)
    grads = torch.autograd.grad((out * out).sum(), values)
    agree((out, *grads), training(masked)(*values))


def agree_in_short(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    """bfloat16 numbers, of which some were rounded on the way that the others were not."""
    for a, b in zip(got, want, strict=True):
        x, y = (t.detach().float().numpy() for t in (a, b))
        np.testing.assert_allclose(x, y, rtol=3e-2, atol=3e-2 * np.abs(y).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("masked", ["none", "masked_fill"])
def test_a_training_step_in_sixteen_bits(masked: str, p: float, dtype: torch.dtype) -> None:
    step = training(MASKS[masked], p)
    compiled = torch.compile(step)
    values = operands()
    short = [x.detach().to(dtype).requires_grad_() for x in values]
    torch.manual_seed(3)
    got = compiled(*short)
    torch.manual_seed(3)
    with torch.random.counter_based():
        want = step(*values)
    agree_in_short(got, want)
    assert all(x.dtype is dtype for x in got)
    found = str(compiled.graph("find_attention"))
    assert " = attention_grad" in found and " = softmax" not in found


@pytest.mark.parametrize("masked", ["none", "masked_fill", "added"])
def test_a_training_step_under_autocast(masked: str) -> None:
    def step(*values: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = attend(*values, MASKS[masked])
        return out, *torch.autograd.grad((out.float() * out.float()).sum(), values)

    compiled = torch.compile(step)
    agree_in_short(compiled(*operands()), training(MASKS[masked])(*operands()))
    found = str(compiled.graph("find_attention"))
    assert " = attention_grad" in found and " = softmax" not in found


def test_a_model_under_autocast_whose_backward_is_apart() -> None:
    values = operands()

    def forward(*given: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return attend(*given, MASKS["masked_fill"])

    out = torch.compile(forward)(*values).float()
    grads = torch.autograd.grad((out * out).sum(), values)
    agree_in_short((out, *grads), training(MASKS["masked_fill"])(*values))


def test_weights_that_are_wanted_in_sixteen_bits_are_made() -> None:
    def step(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = F.softmax(q @ k.transpose(-2, -1), dim=-1)
        return weights @ v, weights

    compiled = torch.compile(step)
    with torch.no_grad():
        values = [x.bfloat16() for x in operands()]
        agree_in_short(compiled(*values), step(*values))
    assert " = attention" not in str(compiled.graph("find_attention"))


def test_dropout_is_that_of_the_ops() -> None:
    step = training(MASKS["masked_fill"], 0.25)
    compiled = torch.compile(step)
    values = operands()
    torch.manual_seed(3)
    got = compiled(*values)
    torch.manual_seed(3)
    with torch.random.counter_based():
        want = step(*values)
    agree(got, want)
    assert " = softmax" not in str(compiled.graph("find_attention"))


def test_dropout_of_the_function_is_that_of_the_ops() -> None:
    values = operands()

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=0.25)

    torch.manual_seed(3)
    got = torch.compile(step)(*values)
    torch.manual_seed(3)
    with torch.random.counter_based():
        want = attend(*values, MASKS["none"], 0.25)
    agree((got,), (want,))


def test_weights_that_are_wanted_are_made() -> None:
    def step(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = F.softmax(q @ k.transpose(-2, -1), dim=-1)
        return weights @ v, weights

    compiled = torch.compile(step)
    with torch.no_grad():
        agree(compiled(*operands()), step(*operands()))
    assert " = attention" not in str(compiled.graph("find_attention"))


def test_a_gradient_of_the_mask_leaves_it_written_out() -> None:
    def step(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        out = F.softmax(q @ k.transpose(-2, -1) + bias, dim=-1) @ v
        return torch.autograd.grad((out * out).sum(), (q, bias))

    compiled = torch.compile(step)
    values = *operands(), torch.zeros(LENGTH, LENGTH, requires_grad=True)
    agree(compiled(*values), step(*values))
    assert " = attention" not in str(compiled.graph("find_attention"))


def test_strict_numerics_keep_what_is_written() -> None:
    strict = CompileOptions(PipelineOptions(strict=True))
    compiled = torch.compile(lambda q, k, v: attend(q, k, v, MASKS["none"]), options=strict)
    with torch.no_grad():
        compiled(*operands())
    assert " = attention" not in str(compiled.graph("decompose"))
