"""The rest of `torch.autograd`: anomaly mode, saved tensors, edges, dual numbers, inference tensors, Functions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import vitrify as torch
from vitrify.autograd import functional, graph
from vitrify.autograd.gradcheck import GradcheckError


def test_anomaly_mode_shows_where_the_node_was_made():
    x = torch.tensor([-1.0], requires_grad=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly():
            y = x.sqrt()  # the line that the warning quotes
            with pytest.raises(
                RuntimeError, match="Function 'SqrtBackward0' returned nan values in its 0th output"
            ):
                y.backward()
    texts = [str(w.message) for w in caught]
    assert texts[0].startswith("Anomaly Detection has been enabled")
    assert texts[1].startswith(
        "Error detected in SqrtBackward0. Traceback of forward call that caused the error:"
    )
    assert "the line that the warning quotes" in texts[1] and "frontend" not in texts[1]


def test_anomaly_mode_without_a_forward_trace_and_without_nan_check():
    y = torch.tensor([-1.0], requires_grad=True).sqrt()
    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.warns(UserWarning, match="No forward pass information available"),
        pytest.raises(RuntimeError, match="returned nan values"),
    ):
        y.backward(retain_graph=True)
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        y.backward()
    assert not torch.is_anomaly_enabled()


def test_saved_tensor_hooks_see_what_is_saved_and_refuse_bad_unpacks():
    x = torch.randn(3, requires_grad=True)
    packed = []
    with graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t, lambda t: "no tensor"):
        y = (x.exp() * x).sum()
    assert len(packed) == 3
    with pytest.raises(TypeError, match="unpack_hook expected to be a Tensor"):
        y.backward()
    with graph.disable_saved_tensors_hooks("none here"), pytest.raises(RuntimeError, match="none here"):
        graph.saved_tensors_hooks(lambda t: t, lambda t: t).__enter__()


def test_second_derivatives_through_saved_tensor_hooks():
    x = torch.randn(3, requires_grad=True)
    with graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
        (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
    assert torch.allclose(second, 6 * x)


def test_mutation_of_saved_tensors_only_inside_the_block():
    with graph.allow_mutation_on_saved_tensors():
        x = torch.ones(2, requires_grad=True)
        y = x.clone()
        z = (y * y).sum()
        y.zero_()
        z.backward(retain_graph=True)
        assert x.grad.tolist() == [2.0, 2.0]
        with pytest.raises(RuntimeError, match="cannot be nested"), graph.allow_mutation_on_saved_tensors():
            pass
    with pytest.raises(AssertionError, match="outside of the 'allow_mutation_on_saved_tensors' context"):
        z.backward()


def test_nodes_edges_and_what_they_saved():
    x = torch.randn(3, requires_grad=True)
    y = x * 2
    edge = graph.get_gradient_edge(y)
    assert edge.node is y.grad_fn and edge.output_nr == 0 and isinstance(y.grad_fn, graph.Node)
    (found,) = torch.autograd.grad(y.exp().sum(), edge)
    assert torch.allclose(found, y.exp())
    assert torch.equal(x.exp().grad_fn._saved_result, x.exp())
    with pytest.raises(AttributeError):
        _ = y.grad_fn._saved_result
    with pytest.raises(RuntimeError, match="It is not possible to get the gradient edge"):
        graph.get_gradient_edge(torch.ones(1))


def test_batched_grads_check_their_shapes():
    x = torch.randn(3, requires_grad=True)
    with pytest.raises(
        RuntimeError, match="we interpret the first dimension of each grad_output as the batch"
    ):
        torch.autograd.grad(x * 2, x, torch.ones(3, 2), is_grads_batched=True)
    found = torch.autograd.grad(x * x, (x,), torch.eye(3), is_grads_batched=True, create_graph=True)[0]
    assert torch.allclose(torch.autograd.grad(found.sum(), x)[0], torch.full((3,), 2.0))


def test_dual_numbers_need_a_level():
    fw = torch.autograd.forward_ad
    with pytest.raises(RuntimeError, match="no level exists, make sure to enter_dual_level"):
        fw.make_dual(torch.ones(2), torch.ones(2))
    x, t = torch.randn(4), torch.randn(4)
    with fw.dual_level(), torch.no_grad():
        pass
    with torch.no_grad(), fw.dual_level():
        primal, tangent = fw.unpack_dual(fw.make_dual(x, t).exp())
        assert torch.allclose(primal, x.exp()) and torch.allclose(tangent, x.exp() * t)
        with pytest.raises(RuntimeError, match="Nested forward mode AD is not supported"):
            fw.enter_dual_level()
    assert fw.unpack_dual(x).tangent is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: functional.jacobian(torch.sin, x, strategy="other"), AssertionError, "Expected strategy to be"),
        (lambda x: functional.jacobian(torch.sin, 3), TypeError, "The inputs given to jacobian must be either a Tensor"),
        (lambda x: functional.jacobian(lambda v: 3, x), TypeError, "The outputs of the user-provided function given to"),
        (lambda x: functional.jacobian(lambda v: v.detach(), x, strict=True), RuntimeError, "does not require grad"),
        (lambda x: functional.jacobian(lambda v, u: v, (x, x), strict=True), RuntimeError, "is independent of input 1"),
        (lambda x: functional.vjp(torch.sin, x), RuntimeError, "The vector v can only be None if the user-provided"),
        (lambda x: functional.vjp(torch.sin, x, x[:1]), RuntimeError, "v has invalid size: should be torch.Size"),
        (lambda x: functional.hessian(torch.sin, x), RuntimeError, "should contain a single element"),
        (lambda x: functional.hvp(lambda v: v.sum(), x, x, strict=True), RuntimeError, "the jacobian of the user-"),
    ],
)  # fmt: skip
def test_functional_errors_read_as_pytorchs(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.ones(3))


def test_inference_tensors():
    with torch.inference_mode():
        x = torch.ones(3)
        x.add_(1)
    assert x.is_inference() and not torch.ones(1).is_inference()
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        torch.ones(3, requires_grad=True) * x
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        x.add_(1)
    y = x.clone() * torch.ones(3, requires_grad=True)
    y.sum().backward()
    with torch.inference_mode(), torch.inference_mode(False):
        assert torch.is_grad_enabled() and not torch.ones(1).is_inference()


def test_once_differentiable_says_so():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    x = torch.ones(2, requires_grad=True)
    (grad,) = torch.autograd.grad((Once.apply(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="trying to differentiate twice a function that was marked with"):
        grad.sum().backward()


def test_compiled_gradients_of_custom_functions_and_hooks():
    class Tripled(torch.autograd.Function):
        """Its backward is not the derivative of its forward."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * x

    w = torch.randn(3, requires_grad=True)
    seen = []
    w.register_hook(lambda g: seen.append(1))

    def f(x):
        y = Tripled.apply(x * w)
        y.register_hook(lambda g: g * 10)
        return y * 2

    x = torch.randn(3, requires_grad=True)
    compiled = torch.compile(f)
    compiled(x).sum().backward()
    got, got_w = x.grad, w.grad
    x.grad = w.grad = None
    f(x).sum().backward()
    np.testing.assert_allclose(got.numpy(), x.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(got_w.numpy(), w.grad.numpy(), rtol=1e-6)
    assert len(seen) == 2


def test_compiler_disable_is_an_error_in_a_graph():
    quiet = torch.compiler.disable(lambda x: x + 1)
    assert quiet(torch.ones(1)).item() == 2.0
    with pytest.raises(
        RuntimeError, match=r"surface\.py:\d+: .*is marked with torch\.compiler\.disable.*call it in between"
    ):
        torch.compile(lambda x: quiet(x))(torch.ones(1))


def test_compiled_cond_and_while_follow_the_value():
    f = torch.compile(lambda x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,)))
    for x in (torch.ones(2), -torch.ones(2), torch.ones(2)):
        assert torch.allclose(f(x), x.sin() if x.sum() > 0 else x.cos())
    with pytest.raises(RuntimeError, match="boolean scalar tensor"):
        torch.while_loop(lambda x: x, lambda x: (x,), (torch.ones(1),))
    assert torch.vmap(lambda x: torch.cond(x > 0, torch.sin, torch.cos, (x,)))(
        torch.tensor([1.0, -1.0])
    ).shape == (2,)


def test_gradcheck_finds_wrong_gradients_and_takes_its_options():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 3

    x = torch.linspace(0.5, 1, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0"):
        torch.autograd.gradcheck(Wrong.apply, x)
    assert not torch.autograd.gradcheck(Wrong.apply, (x,), raise_exception=False)
    options = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(
        lambda a, b: (a * b.exp(), a.sum()),
        (x, (x * 1.5).detach().requires_grad_()),
        **options,
        fast_mode=True,
    )
    assert torch.autograd.gradgradcheck(
        torch.sin, x, check_fwd_over_rev=True, gen_non_contig_grad_outputs=True
    )
    with pytest.raises(AssertionError, match="requires check_forward_ad"):
        torch.autograd.gradcheck(torch.sin, x, check_batched_forward_grad=True)
    with pytest.warns(UserWarning, match="is not a double precision"):
        torch.autograd.gradcheck(torch.sin, torch.ones(1, requires_grad=True), atol=0.1)


def test_what_pytorch_has_removed_says_so():
    with pytest.raises(RuntimeError, match=r"use torch.tensor\(\.\.\.\) instead"):
        torch.autograd.variable(1.0)
