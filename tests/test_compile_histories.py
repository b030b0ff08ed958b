"""Compiled functions that write in place to tensors through which gradients flow: values, gradients and errors are those
of eager code."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


def outcome(function, make, compiled, calls=2):
    """What calls return and leave: values, gradients of the leaves, who requires grad."""
    torch.manual_seed(0)
    leaves, args = make()
    run = torch.compile(function) if compiled else function
    found = []
    for _ in range(calls):
        given = args(*leaves)
        results = run(*given)
        results = results if isinstance(results, tuple) else (results,)
        tensors = [t for t in (*results, *given) if t.requires_grad]
        loss = sum((t * torch.arange(1.0, t.numel() + 1).reshape(t.shape)).sum() for t in tensors)
        loss.backward()
        found += [t.detach().numpy().copy() for t in (*results, *given)]
        # What was copied over gets zeros from eager code, nothing from compiled code.
        found += [np.zeros(x.shape) if x.grad is None else x.grad.numpy().copy() for x in leaves]
        found.append(np.array([t.requires_grad for t in (*results, *given)]))
        found.append(np.array([t.is_leaf for t in given]))
    return found


def leaf(*shape):
    return torch.randn(*shape).requires_grad_()


def computed():
    return [leaf(4, 4), leaf(4, 4)], lambda x, w: (x * 2, w)


def part():
    return [leaf(3, 4, 4), leaf(4, 4)], lambda b, w: ((b * 2)[1], w)


def transposed():
    return [leaf(4, 4), leaf(4, 4)], lambda x, w: ((x * 2).t(), w)


def buffer():
    return [leaf(4, 4)], lambda w: (torch.ones(4, 4), w)


FUNCTIONS = {
    "relu": lambda x, w: F.relu(x, inplace=True) @ w,
    "relu, not returned": lambda x, w: (x.relu_(), x @ w)[1],
    "mul": lambda x, w: x.mul_(w),
    "mul twice": lambda x, w: x.mul_(w).mul_(2).sin_(),
    "add to a row": lambda x, w: (x[1].add_(w[0]), w * x)[1],
    "copy": lambda x, w: x.copy_(w) * w,
    "a product": lambda x, w: (x.copy_(w @ w), x * w)[1],
    "zero": lambda x, w: x.zero_() + w,
    "fill a row": lambda x, w: (x[2].fill_(3.0), x @ w)[1],
    "masked": lambda x, w: x.masked_fill_(w > 0, 1.5) * w,
    "set": lambda x, w: (x.__setitem__((slice(None), 1), w[0] * w[1]), x * x)[1],
    "a branch": lambda x, w: x.mul_(w) if w.sum() > 0 else x.add_(w),
    "no gradient": lambda x, w: (no_grad_add(x), x * w)[1],
}


def no_grad_add(x):
    with torch.no_grad():
        x.add_(1)


@pytest.mark.parametrize("make", [computed, part, transposed, buffer])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_written_argument_has_its_new_history(name, make):
    expected = outcome(FUNCTIONS[name], make, compiled=False)
    found = outcome(FUNCTIONS[name], make, compiled=True)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


class Block(nn.Module):
    """As in torchvision's DenseNet: what it is given is normalized, and cut off at zero in place."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(self.relu(x)) + self.norm(x)


@pytest.mark.parametrize("train", [True, False])
def test_blocks_that_cut_off_in_place_compile_one_by_one(train):
    gradients = []
    for compiled in (False, True):
        torch.manual_seed(0)
        blocks = [Block() for _ in range(3)]
        stem = nn.Conv2d(3, 3, 1)
        net = nn.Sequential(stem, *(torch.compile(b) if compiled else b for b in blocks))
        net.train(train)
        x = torch.randn(2, 3, 7, 5)
        for _ in range(2):
            net(x).square().mean().backward()
        gradients.append(
            [p.grad.numpy() for p in (*stem.parameters(), *(p for b in blocks for p in b.parameters()))]
        )
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_written_buffer_outside_requires_grad(compiled):
    state, w = torch.ones(3), torch.full((3,), 2.0, requires_grad=True)

    def step():
        state.mul_(w)

    run = torch.compile(step) if compiled else step
    run()
    assert state.requires_grad and not state.is_leaf
    run()
    state.sum().backward()  # w ** 2
    np.testing.assert_allclose(w.grad.numpy(), [4, 4, 4])
    np.testing.assert_allclose(state.detach().numpy(), [4, 4, 4])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_leaf_may_not_be_written_to(compiled):
    def double(x):
        return x.mul_(2)

    run = torch.compile(double) if compiled else double
    w = torch.ones(3, requires_grad=True)
    for given in (w, w[:2]):
        with pytest.raises(
            RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"
        ):
            run(given)
    np.testing.assert_array_equal(run(w * 1).detach().numpy(), [2, 2, 2])
    for given in (w, w.view(3)):  # by the program for what was computed, of the same shape
        with pytest.raises(
            RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"
        ):
            run(given)
    np.testing.assert_array_equal(w.detach().numpy(), [1, 1, 1])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_result_that_backward_reads_may_not_change(compiled):
    run = torch.compile(torch.exp) if compiled else torch.exp
    x = torch.ones(3, requires_grad=True)
    result = run(x)
    result.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()
    run(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(3, np.e), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_calls_that_write_one_memory_keep_what_their_backwards_read(compiled):
    total, w = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)

    def step(x):
        seen = (w @ x).sin()
        total.copy_(seen.detach())
        return seen * seen

    run = torch.compile(step) if compiled else step
    first, second = run(torch.eye(2)), run(torch.ones(2, 2))
    (first + second).sum().backward()
    m = np.array([[1.0, 2.0], [3.0, 4.0]])
    expected = np.sin(2 * m) + 2 * np.sin(2 * m.sum(1, keepdims=True)) * np.ones((2, 2))
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-5)


def test_backward_inside_does_not_stop_at_a_computed_argument():
    w = torch.ones(3, requires_grad=True)

    def step(x):
        x.sum().backward()

    run = torch.compile(step)
    with pytest.raises(RuntimeError, match=r"reaches x, which code outside has computed.*detach"):
        run(w * 2)
    run(w)
    np.testing.assert_array_equal(w.grad.numpy(), [1, 1, 1])
    with pytest.raises(RuntimeError, match=r"reaches x, which code outside has computed.*detach"):
        run(w * 2)
    assert w.grad.tolist() == [1, 1, 1]


def test_hooks_on_a_computed_argument_run():
    def triple(x):
        x.register_hook(lambda g: g * 3)
        return x.sin()

    gradients = []
    for run in (triple, torch.compile(triple)):
        w = torch.ones(3, requires_grad=True)
        run(w * 2).sum().backward()
        gradients.append(w.grad.numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-6)


def test_a_history_that_backward_has_used_ends_there():
    """As of a layer that keeps a mean without `no_grad`: nobody goes back through it."""
    w = torch.ones(3, requires_grad=True)
    mean = torch.zeros(3)

    @torch.compile
    def step(x):
        hidden = w * x
        mean.mul_(0.5).add_(hidden * 0.5)
        (hidden * hidden).sum().backward()

    for _ in range(3):
        step(torch.ones(3))
    np.testing.assert_array_equal(mean.detach().numpy(), [0.875] * 3)
    np.testing.assert_array_equal(w.grad.numpy(), [6, 6, 6])


def test_what_cannot_be_followed_is_refused():
    w = torch.ones(3, requires_grad=True)

    def of_part():
        part.mul_(w)

    part = torch.ones(6)[:3].detach()
    with pytest.raises(RuntimeError, match="is a part of other memory"):
        torch.compile(of_part)()


def test_check_compares_what_is_written_too():
    w = torch.ones(3, requires_grad=True)
    x = w * 2
    report = torch.compile(lambda x, w: x.mul_(w).sin()).check(x, w)
    assert report.ok, str(report)
    assert x.tolist() == [2, 2, 2]
    x.sum().backward()
    assert w.grad.tolist() == [2, 2, 2]


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return grad * 5


def clamped(w):
    def run(x):
        with torch.no_grad():
            w.clamp_(-0.5, 0.5)
        return x * w.sin()

    return run


def renormed(w):
    def run(x):
        w.data = torch.renorm(w.data, 2, 0, 1.0)  # as EEGNet's layers do
        return x * w.sin()

    return run


def rows(w):
    both = w * 2
    first, second = both[0], both[1]
    return lambda x: first.sin() * x + second


def another_over_the_same_memory(w):
    seen = w.data
    return lambda x: (seen * 2 + w) * x


def parameters_over_one_memory(w):
    other = nn.Parameter(w.data)
    w.other = other  # for the test
    return lambda x: other * 2 * x + w.sin()


@pytest.mark.parametrize("own", [False, True], ids=["by the graph", "by the tape"])
@pytest.mark.parametrize(
    "make", [clamped, renormed, rows, another_over_the_same_memory, parameters_over_one_memory]
)
def test_gradients_arrive_at_the_tensors_that_were_used(make, own):
    gradients = []
    for compiled in (False, True):
        torch.manual_seed(0)
        memory = torch.randn(4, 3)
        w = nn.Parameter(memory[1:3] if make is not renormed else memory[1:3].clone())
        function = make(w)
        run = (lambda x, function=function: Square.apply(function(x))) if own else function
        run = torch.compile(run) if compiled else run
        for _ in range(1 if make is rows else 2):
            run(torch.randn(2, 3)).square().sum().backward()
        others = [w.other.grad.numpy()] if hasattr(w, "other") else []
        gradients.append([w.grad.numpy(), w.detach().numpy(), *others])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
