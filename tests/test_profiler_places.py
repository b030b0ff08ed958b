"""The profiler knows the user's line of every eager op: the one that a look at all frames finds."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from pathlib import Path

import pytest

import vitrify as torch
from vitrify import eager
from vitrify.compile.locations import is_own_file
from vitrify.profiler import profile


class FrameWatch(frozenset):
    """Stands for `eager.ALIASING`, which is asked about every op, and looks at all frames then."""

    def __new__(cls, names, seen):
        self = super().__new__(cls, names)
        self.seen = seen
        return self

    def __contains__(self, name):
        frame = sys._getframe(1)
        while is_own_file(frame.f_code.co_filename):
            frame = frame.f_back
        self.seen.append((name, frame.f_code.co_filename, frame.f_lineno))
        return super().__contains__(name)


@pytest.fixture
def seen(monkeypatch):
    found = []
    monkeypatch.setattr(eager, "ALIASING", FrameWatch(eager.ALIASING, found))
    return found


def ops(p):
    """Name, file and line of the ops, but for writes."""
    return [(r.name, r.file, r.line) for r in p.events() if r.kind == "op" and r.name != "write"]


def line_of(text):
    """The first line of this file that has the text."""
    return next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.last = torch.nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(self.norm(x))


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x.square()


class Decaying(torch.optim.SGD):
    def _update(self, group, reader):
        for param in group["params"]:
            param.mul_(0.5)
        super()._update(group, reader)


class Loud(torch.nn.Parameter):
    def mul_(self, other):
        return super().mul_(other + torch.zeros(()).cos())


def test_training_steps(seen):
    net = Net()
    x, y = torch.randn(5, 4), torch.randint(0, 3, (5,))
    loss_function = torch.nn.CrossEntropyLoss()
    optimizers = [
        torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        torch.optim.Adam(net.parameters()),
        torch.optim.RMSprop(net.parameters()),
        Decaying(net.parameters()),
        torch.optim.SGD([Loud(torch.ones(3))], lr=0.1, weight_decay=0.1),
        torch.optim.LBFGS(net.parameters(), max_iter=2),
    ]
    optimizers[4].param_groups[0]["params"][0].grad = torch.ones(3)
    loss_function(net(x), y).backward()
    seen.clear()

    def closure():
        loss = loss_function(net(x), y)
        loss.backward()
        return loss * 1.0

    with profile() as p:
        for optimizer in optimizers:
            optimizer.step(closure)
            for _ in range(2):
                closure()
            if not isinstance(optimizer, torch.optim.LBFGS):
                optimizer.step()
    assert ops(p) == seen
    backward, step = line_of("loss.backward()"), line_of("optimizer.step()")
    places = {(name, line) for name, _, line in ops(p)}
    assert ("matmul", backward) in places and ("sqrt", step) in places
    assert {r.line for r in p.events() if r.name == "write"} >= {step, line_of("param.mul_(0.5)")}
    assert all(r.file == __file__ for r in p.events())


def test_what_the_user_has_run_in_backward(seen):
    def packed(x):
        return x * 2

    def unpacked(x):
        return x / 2

    def block(x):
        return torch.tanh(x).exp()

    net = Net()
    x = torch.randn(5, 4, requires_grad=True)
    net.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 1.0,))
    net.first.weight.register_hook(lambda grad: grad.abs())
    net.last.weight.register_post_accumulate_grad_hook(lambda p: p.grad.neg_())
    seen.clear()
    with profile() as p:
        with torch.autograd.graph.saved_tensors_hooks(packed, unpacked):
            y = net(x) @ torch.ones(3, 4)
            y = Cube.apply(y).sigmoid()
        y = torch.utils.checkpoint.checkpoint(block, y, use_reentrant=False).sum()
        y.grad_fn.register_prehook(lambda grads: (grads[0] + 1,))
        y.backward()
    assert ops(p) == seen
    places = {(name, line) for name, _, line in ops(p)}
    assert {
        ("mul", line_of("return x * 2")),
        ("div", line_of("return x / 2")),
        ("tanh", line_of("torch.tanh(x)")),
        ("mul", line_of("return grad * 3")),
    } <= places


def test_second_derivatives(seen):
    x = torch.randn(4, requires_grad=True)
    with profile() as p, torch.autograd.graph.saved_tensors_hooks(lambda x: x * 1, lambda x: x + 0):
        (first,) = torch.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
        first.sum().backward()
        torch.func.vmap(torch.func.grad(lambda v: v.sin().sum()))(torch.randn(3, 4))
    assert ops(p) == seen


def test_a_backward_inside_another(seen):
    x = torch.ones(2, requires_grad=True)

    def inner(grad):
        with torch.enable_grad():
            other = torch.ones(2, requires_grad=True)
            other.sin().sum().backward()
        return grad * other.grad

    y = x.exp()
    y.register_hook(inner)
    with profile() as p:
        y.cos().sum().backward()
    assert ops(p) == seen[-len(ops(p)) :]
    assert line_of("other.sin()") in {line for _, _, line in ops(p)}


def test_a_profile_that_begins_or_ends_in_a_backward(seen):
    x = torch.ones(2, requires_grad=True)
    p = profile()
    y = x.exp()
    y.register_hook(lambda grad: p.start())
    z = y.cos()
    z.register_hook(lambda grad: seen.clear())
    z.sum().backward()
    x.exp().sum().backward()
    p.stop()
    assert ops(p) == seen[-len(ops(p)) :] and len(ops(p)) > 4
    before = p.recording
    q = profile()
    y = x.exp()
    y.register_hook(lambda grad: q.stop())
    q.start()
    y.sin().sum().backward()
    assert p.recording is before and 4 < len(ops(q)) < 10


def test_threads_have_their_own_places_and_modules():
    net = Net()
    begin = threading.Barrier(2)

    def other():
        begin.wait()
        for _ in range(30):
            Net()(torch.randn(2, 4)).sum().backward()

    thread = threading.Thread(target=other)
    with profile(record_shapes=True) as p:
        thread.start()
        begin.wait()
        for _ in range(30):
            net(torch.randn(3, 4)).sum().backward()
        thread.join()
    mine, theirs = line_of("net(torch.randn(3, 4))"), line_of("Net()(torch.randn(2, 4))")
    found = {(r.line, r.thread == threading.get_ident()) for r in p.events() if r.name == "matmul"}
    assert found == {(mine, True), (theirs, False)}
    assert {r.module for r in p.events() if r.thread != threading.get_ident()} == {""}
    assert {"first", "last"} <= {r.module for r in p.events()}


def test_ranges_and_shapes_belong_together():
    with profile(record_shapes=True) as p:
        with torch.profiler.record_function("range"):
            torch.ones(2, 3).exp()
        torch.ones(4).log().add_(1)
    found = {r.name: r for r in p.events()}
    assert found["range"].shapes == () and found["range"].kind == "range"
    assert found["exp"].shapes == ((2, 3),) and found["log"].shapes == ((4,),)
    assert found["write"].shapes == ((4,), (4,)) and found["write"].bytes == 0
    assert found["exp"].bytes == 24


def test_no_tensor_is_kept():
    def run():
        x = torch.ones(3, requires_grad=True)
        x.exp().sum().backward()
        return weakref.ref(x)

    gc.disable()
    try:
        with profile():
            gone = run()
            assert gone() is None
    finally:
        gc.enable()
