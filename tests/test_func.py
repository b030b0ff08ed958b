"""`torch.func`: what the sample table cannot say: error texts, histories, nesting, state."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_result_has_a_history_only_where_something_outside_is_differentiated():
    x = torch.randn(3)
    assert not torch.func.grad(lambda v: (v**3).sum())(x).requires_grad
    assert not torch.func.vjp(torch.sin, x)[0].requires_grad
    x.requires_grad_()
    gradient = torch.func.grad(lambda v: (v**3).sum())(x)
    close(torch.autograd.grad(gradient.sum(), x)[0], 6 * x)
    with torch.no_grad():
        assert not torch.func.grad(lambda v: (v**3).sum())(x).requires_grad


def test_closed_over_tensors_are_differentiated_from_outside():
    x, w = torch.randn(3), torch.randn(3, requires_grad=True)
    value = torch.func.grad(lambda v: (v * v * w).sum())(x).sum()
    close(torch.autograd.grad(value, w)[0], 2 * x)


def test_no_grad_inside_is_respected_and_outside_is_not():
    x = torch.randn(3)

    def f(v):
        with torch.no_grad():
            c = v**2
        return (v - c).sum()

    with torch.no_grad():
        close(torch.func.grad(f)(x), torch.ones(3))


def test_levels_do_not_mix():
    inner = torch.func.grad(lambda x: x * torch.func.grad(lambda y: x + y)(torch.tensor(1.0)))
    close(inner(torch.tensor(3.0)), torch.tensor(1.0))
    assert (
        torch.func.grad(lambda x: torch.func.grad(lambda y: x * y * y)(x))(torch.tensor(3.0)).item() == 12.0
    )


def test_captured_tensors_are_not_mutated():
    captured = torch.zeros(3)

    def writes(x):
        captured.add_(x.detach())
        return x.sum()

    with pytest.raises(RuntimeError, match="would mutate a captured Tensor"):
        torch.func.grad(writes)(torch.ones(3))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"):
        torch.func.grad(lambda x: x.add_(1).sum())(torch.ones(3))

    def writes_its_own(x):
        total = torch.zeros(3)
        total[0] = x[0] * 2
        return total.sum()

    close(torch.func.grad(writes_its_own)(torch.ones(3)), torch.tensor([2.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: torch.func.grad(lambda v: v)(x), r"Expected f\(\*args\) to return a scalar Tensor, got"),
        (lambda x: torch.func.grad(lambda v: 3)(x), r"Expected f\(\*args\) to return a Tensor, got <class 'int'>"),
        (lambda x: torch.func.grad(torch.sum, argnums=1)(x), "Got argnum=1, but only 1 positional inputs"),
        (lambda x: torch.func.grad(torch.sum, argnums=())(x), "argnums must be non-empty"),
        (lambda x: torch.func.grad(torch.sum, has_aux=True)(x), r"should be a tuple: \(output, aux\)"),
        (lambda x: torch.func.vjp(lambda v: 3, x), "expected f.* to return only tensors, got unsupported type"),
        (lambda x: torch.func.vjp(torch.sin, x)[1]((x, x)), "Expected pytree structure of cotangents"),
        (lambda x: torch.func.jvp(torch.sin, x, x), "Expected primals to be a tuple"),
        (lambda x: torch.func.jvp(torch.sin, (x,), (x, x)), "to have the same python structure"),
        (lambda x: torch.func.jvp(lambda v: x, (x,), (x,), strict=True), "is independent of the inputs"),
        (lambda x: torch.func.linearize(torch.sin, x)[1](x[:2]), "tangent:0 with shape"),
        (lambda x: torch.func.functional_call(torch.nn.Linear(3, 1), [1], x), "to be dictionaries"),
        (lambda x: torch.func.stack_module_state([]), "Expected at least one model, got 0"),
    ],
)  # fmt: skip
def test_errors_read_as_pytorchs(call, message):
    with pytest.raises((RuntimeError, ValueError), match=message):
        call(torch.ones(3))


def test_arguments_must_be_tensors():
    with pytest.raises(ValueError, match="Thing passed to transform API must be Tensor, got <class 'int'>"):
        torch.func.grad(lambda x: x)(3)


def test_functional_call_ties_weights_and_puts_everything_back():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight = model[0].weight
    own = model[0].weight
    given = torch.eye(2)
    found = torch.func.functional_call(
        model, {"0.weight": given, "0.bias": torch.zeros(2), "1.bias": torch.ones(2)}, given
    )
    close(found, torch.eye(2) + 1)
    assert model[0].weight is own and model[1].weight is own


def test_compiled_transforms_compute_the_same():
    torch.manual_seed(4)
    w, x, y = torch.randn(4, 2), torch.randn(3, 4), torch.randn(3, 2)

    def loss(w, x, y):
        return ((x @ w).tanh() - y).pow(2).sum()

    def everything(w, x, y):
        per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(w, x, y)
        hessian = torch.func.hessian(lambda v: loss(v, x, y))(w)
        return per_sample, hessian, torch.func.jvp(lambda v: v.sin(), (x,), (x,))[1]

    for a, b in zip(torch.compile(everything)(w, x, y), everything(w, x, y)):
        close(a, b)
        assert not a.requires_grad


def test_rearrange_refuses_bad_patterns():
    x = torch.zeros(2, 3)
    for pattern in ("a b", "a b -> a", "a a -> a a", "(a b -> a b", "a b c -> a b c"):
        with pytest.raises(ValueError):
            torch.func.rearrange(x, pattern)
