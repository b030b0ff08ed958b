"""A compiled model: inference, training through an ordinary autograd node, and one compile for every batch size."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from networks import digits, lenet

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


def close(a, b, tolerance=1e-5):
    a, b = a.detach().numpy(), b.detach().numpy()
    np.testing.assert_allclose(
        a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(b).max(initial=0)))
    )


def test_inference_equals_eager():
    net = lenet()
    fast = torch.compile(net)
    x, _ = digits(5)
    with torch.no_grad():
        close(fast(x), net(x))
        assert not fast(x).requires_grad


def test_training_through_the_model_equals_eager():
    eager, net = lenet(), lenet()
    fast = torch.compile(net)
    criterion = nn.CrossEntropyLoss()
    x, y = digits(6)
    out = fast(x)
    assert out.requires_grad and out.grad_fn.name() == "CompiledBackward"
    criterion(out, y).backward()
    criterion(eager(x), y).backward()
    for p, q in zip(net.parameters(), eager.parameters()):
        close(p.grad, q.grad)


def test_gradient_of_the_input():
    net = lenet()
    fast = torch.compile(net)
    x, _ = digits(2)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    fast(a).sum().backward()
    net(b).sum().backward()
    close(a.grad, b.grad)


def test_backward_twice_is_pytorchs_error():
    fast = torch.compile(lenet())
    x, _ = digits(2)
    loss = fast(x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        loss.backward()


def test_a_parameter_changed_between_forward_and_backward_is_an_error():
    net = lenet()
    fast = torch.compile(net)
    x, _ = digits(2)
    loss = fast(x).sum()
    with torch.no_grad():
        net.fc3.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("grad", [False, True])
def test_one_compile_serves_every_batch_size(grad):
    net = lenet()
    fast = torch.compile(net, dynamic_shapes={"x": {0: torch.Dim("batch", 1, 256)}})
    for batch in (1, 7, 64, 256):
        x, y = digits(batch)
        if not grad:
            with torch.no_grad():
                close(fast(x), net(x))
            continue
        for parameter in net.parameters():
            parameter.grad = None
        F.cross_entropy(fast(x), y).backward()
        found = [p.grad for p in net.parameters()]
        for parameter in net.parameters():
            parameter.grad = None
        F.cross_entropy(net(x), y).backward()
        for g, p in zip(found, net.parameters()):
            close(g, p.grad)
    assert len(fast.report().compiles) == 1


def test_a_size_outside_the_declared_bounds_is_an_error():
    fast = torch.compile(lenet(), dynamic_shapes={"x": {0: torch.Dim("batch", 1, 4)}})
    with pytest.raises(ValueError, match=r"size 5, outside the bounds of batch \[1, 4\]"):
        fast(digits(5)[0])


def test_the_compiled_module_is_the_module():
    net = lenet()
    fast = torch.compile(net)
    assert fast.conv1 is net.conv1
    assert [id(p) for p in fast.parameters()] == [id(p) for p in net.parameters()]
    assert fast.eval() is fast and not net.training
    assert fast.train() is fast and net.training


def test_dropout_is_the_same_for_a_seed_and_off_in_eval():
    net = nn.Sequential(nn.Linear(20, 30), nn.Dropout(0.5))
    fast = torch.compile(net)
    x = torch.randn(4, 20)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([fast(x) for _ in range(3)])
    again, compiled = runs
    for a, b in zip(compiled, again):
        close(a, b)
    assert not np.array_equal(compiled[0].detach().numpy(), compiled[1].detach().numpy())
    fast.eval()
    close(fast(x), net[0](x))
    fast.train()
    assert (fast(x) == 0).any().item()
    assert len(fast.report().compiles) == 2


def test_weights_replaced_through_data_are_used():
    net = nn.Linear(3, 2)
    fast = torch.compile(net)
    x = torch.randn(5, 3)
    with torch.no_grad():
        close(fast(x), net(x))
        net.weight.data = torch.randn(2, 3)
        close(fast(x), net(x))
        net.load_state_dict({"weight": torch.zeros(2, 3), "bias": torch.ones(2)})
        close(fast(x), torch.ones(5, 2))
    assert len(fast.report().compiles) == 1


def test_hooks_run_inside_the_compiled_model():
    net = lenet()
    net.fc3.register_forward_hook(lambda module, inputs, output: output * 2)
    x, _ = digits(2)
    with torch.no_grad():
        close(torch.compile(net)(x), net(x))


def test_many_threads_may_call_and_compile_at_once():
    net = lenet()
    fast = torch.compile(net, dynamic_shapes={"x": {0: torch.Dim("batch", 1, 64)}})
    inputs = [digits(batch, seed=batch)[0] for batch in (1, 3, 8, 17)]
    with torch.no_grad():
        want = [net(x).numpy() for x in inputs]
    faults: list[str] = []

    def work(x, expected):
        with torch.no_grad():
            for _ in range(30):
                if not np.allclose(fast(x).numpy(), expected, rtol=1e-4, atol=1e-5):
                    faults.append(str(tuple(x.shape)))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, want)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(fast.report().compiles) == 1


def test_one_compile_serves_every_multiple():
    n = torch.Dim("n", 1, 6)
    f = torch.compile(lambda x: x.reshape(-1, 4).sum(1).tanh(), dynamic_shapes={"x": {1: 4 * n}})
    for size in (4, 8, 24):
        x = torch.randn(3, size)
        assert torch.allclose(f(x), x.reshape(-1, 4).sum(1).tanh(), atol=1e-6)
    assert len(f.report().compiles) == 1
    with pytest.raises(ValueError, match=r"dim 1 has size 9, which is not 4\*n for any n"):
        f(torch.randn(3, 9))
