"""`torch.vmap`: refusals, randomness, in-place writes, nesting; every op's rule is in `test_vmap_ops.py`."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: torch.vmap(torch.sin)(), ValueError, "got no inputs"),
        (lambda x: torch.vmap(torch.sin, in_dims=None)(x), ValueError, "expected `in_dims` to be int or a"),
        (lambda x: torch.vmap(torch.sin, in_dims=(None,))(x), ValueError, "at least one Tensor to vmap over"),
        (lambda x: torch.vmap(torch.sin, in_dims=5)(x), ValueError, "dimensionality 2 so expected in_dim to satisfy -2"),
        (lambda x: torch.vmap(torch.sin, in_dims=(0, 0))(x), ValueError, "not compatible with the structure"),
        (lambda x: torch.vmap(torch.add)(x, 3), ValueError, "We cannot vmap over non-Tensor arguments"),
        (lambda x: torch.vmap(torch.add)(x, x[:1]), ValueError, r"got sizes \[2, 1\] for the mapped dimension"),
        (lambda x: torch.vmap(lambda v: 3)(x), ValueError, "must only return Tensors, got type <class 'int'>"),
        (lambda x: torch.vmap(torch.sin, out_dims=None)(x), ValueError, "can not return a BatchedTensor"),
        (lambda x: torch.vmap(torch.sin, out_dims=(0, 1))(x), ValueError, "out_dims is not compatible"),
        (lambda x: torch.vmap(torch.sin, out_dims="0")(x), ValueError, "must be an int, None or a python collection"),
        (lambda x: torch.vmap(torch.sin, randomness="no")(x), RuntimeError, "Only allowed values for randomness"),
        (lambda x: torch.vmap(torch.sin, chunk_size=0)(x), ValueError, "chunk_size should be None or greater than 0"),
        (lambda x: torch.vmap(lambda v: v.sum().item())(x), RuntimeError, r"calling .item\(\) on a Tensor"),
        (lambda x: torch.vmap(lambda v: v if v.sum() > 0 else -v)(x), RuntimeError, "data-dependent control flow"),
        (lambda x: torch.vmap(lambda v: v.nonzero())(x), RuntimeError, "can output dynamic shape"),
        (lambda x: torch.vmap(lambda v: torch.zeros(3).add_(v))(x), RuntimeError, "inplace arithmetic"),
        (lambda x: torch.vmap(lambda v: v + torch.rand(3))(x), RuntimeError, "in randomness error mode"),
        (lambda x: torch.vmap(lambda v: v.numpy())(x), RuntimeError, "Cannot access data pointer"),
    ],
)  # fmt: skip
def test_refusals_read_as_pytorchs(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.ones(2, 3))


def test_writes_reach_the_batch():
    x = torch.arange(6.0).reshape(2, 3)
    torch.vmap(lambda v: v[0].mul_(10))(x)
    torch.vmap(lambda v: v.add_(1), in_dims=1)(x)
    close(x, torch.tensor([[1.0, 2.0, 3.0], [31.0, 5.0, 6.0]]))


def test_gradients_through_writes():
    x = torch.randn(3, 4, requires_grad=True)

    def f(v):
        w = v * 2
        w[1:].mul_(v[1:])
        w.exp_()
        return w

    torch.vmap(f)(x).sum().backward()
    y = x.detach().clone().requires_grad_()
    torch.stack([f(row) for row in y]).sum().backward()
    close(x.grad, y.grad)


def test_randomness_same_and_different():
    x = torch.zeros(4, 5)
    same = torch.vmap(lambda v: v + torch.randn(5), randomness="same")(x)
    assert (same == same[0]).all()
    different = torch.vmap(lambda v: torch.nn.functional.dropout(v + 1), randomness="different")(
        torch.zeros(8, 16)
    )
    assert not (different == different[0]).all()
    filled = torch.vmap(lambda v: torch.empty_like(v).uniform_(), randomness="different")(x)
    assert len(set(filled.reshape(-1).tolist())) == 20
    orders = torch.vmap(lambda v: torch.randperm(5) + v.long(), randomness="different")(x)
    assert all(sorted(row) == list(range(5)) for row in orders.tolist())


def test_a_chunk_at_a_time():
    x = torch.randn(5, 3)
    close(torch.vmap(lambda v: v.cumsum(0), chunk_size=2)(x), x.cumsum(1))


def test_an_op_without_a_rule_warns_and_is_right():
    x = torch.randint(0, 4, (3, 6))
    with pytest.warns(UserWarning, match="There is a performance drop"):
        found = torch.vmap(lambda v: torch.bincount(v, minlength=4))(x)
    assert found.tolist() == [torch.bincount(row, minlength=4).tolist() for row in x]


def test_a_function_needs_vmap_support():
    class Plain(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    with pytest.raises(RuntimeError, match="You tried to vmap over Plain, but it does not have vmap support"):
        torch.vmap(Plain.apply)(torch.ones(2))


def test_a_module_with_buffers_under_three_levels():
    net = torch.nn.Sequential(
        torch.nn.Conv1d(2, 3, 3), torch.nn.BatchNorm1d(3), torch.nn.Flatten(), torch.nn.Linear(12, 1)
    )
    net.eval()
    x = torch.randn(4, 2, 6)

    def f(v):
        return net(v.unsqueeze(0)).squeeze()

    found = torch.vmap(torch.func.jacrev(torch.func.grad(f)))(x)
    one = torch.func.jacrev(torch.func.grad(f))(x[2])
    close(found[2], one)


def test_debug_unwrap_shows_the_batch():
    seen = []
    torch.vmap(lambda v: seen.append(torch.func.debug_unwrap(v)) or v)(torch.ones(2, 3))
    assert seen[0].shape == (2, 3)


def test_a_batched_tensor_prints_as_pytorchs():
    texts = []
    torch.vmap(lambda v: texts.append(str(v)) or v)(torch.ones(2))
    assert texts == ["BatchedTensor(lvl=1, bdim=0, value=\n    tensor([1., 1.])\n)"]


def test_hooks_on_the_input_of_a_transform():
    x = torch.ones(3)

    def f(v):
        v.register_hook(lambda g: g * 5)
        return (v * v).sum()

    close(torch.func.grad(f)(x), torch.full((3,), 10.0))
