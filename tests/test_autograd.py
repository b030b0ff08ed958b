"""The tape: right gradients of every order, memory that is let go, and graphs of any shape."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import vitrify as torch
from vitrify.autograd import Function, gradcheck, gradgradcheck
from vitrify.autograd.gradcheck import GradcheckError
from vitrify.tape_ops import OpNode


def leaf(*shape: int, low: float = 0.5, high: float = 1.5, seed: int = 0) -> Any:
    values = np.random.RandomState(seed + len(shape)).uniform(low, high, shape)
    return torch.tensor(values, requires_grad=True)


FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arithmetic": (lambda a, b: (a + b) * a - b / (a * a), (leaf(3, 2), leaf(2, seed=1))),
    "powers": (lambda a, b: a**b + a**3 + 2**a, (leaf(3), leaf(3, seed=1))),
    "elementary": (lambda a: a.exp().log1p() * a.sin() / a.cosh(), (leaf(4),)),
    "roots": (lambda a: a.sqrt() + a.rsqrt() + a.reciprocal(), (leaf(4),)),
    "activations": (lambda a: a.tanh() + a.sigmoid() + a.erf() + a.relu(), (leaf(5, low=-1),)),
    "clamp and where": (lambda a: torch.where(a > 1, a * a, a.clamp(0.7, 1.3)), (leaf(5),)),
    "lerp": (lambda a, b: torch.lerp(a, b, a * b), (leaf(3), leaf(3, seed=1))),
    "addcmul": (lambda a, b: torch.addcmul(a, a, b, value=2) * a, (leaf(3), leaf(3, seed=1))),
    "addcdiv": (lambda a, b: torch.addcdiv(a, a, b) * b, (leaf(3), leaf(3, seed=1))),
    "reductions": (lambda a: a.sum(0) * a.mean(1).sum() + a.prod(0), (leaf(3, 2),)),
    "variance": (lambda a: a.var(0) + a.std(1).sum() + a.var(correction=0), (leaf(3, 3),)),
    "extremes": (lambda a: a.max() * a.min(1)[0] + a.amax(0).sum(), (leaf(3, 4),)),
    "order": (lambda a: a.sort(0)[0] * a.topk(2, 0)[0].sum() + a.median(), (leaf(4, 2),)),
    "running": (lambda a: a.cumsum(0) * a.cumprod(1), (leaf(3, 3),)),
    "norms": (lambda a: a.norm() + a.norm(1) * a.norm(3, 1) + a.norm(float("inf")), (leaf(3, 2),)),
    "softmax": (lambda a: a.softmax(1) * a.log_softmax(0) + a.logsumexp(1, keepdim=True), (leaf(3, 3),)),
    "matmul": (lambda a, b: (a @ b).t() @ a @ b[:, 0], (leaf(3, 2), leaf(2, 3, seed=1))),
    "batched": (lambda a, b: a @ b.unsqueeze(0) + torch.bmm(a, a), (leaf(2, 2, 2), leaf(2, 2, seed=1))),
    "addmm": (lambda a, b: torch.addmm(b[0], a, b, beta=2, alpha=0.5), (leaf(3, 2), leaf(2, 3, seed=1))),
    "einsum": (lambda a, b: torch.einsum("ij,kj,k->ik", a, b, b[:, 0]), (leaf(2, 3), leaf(2, 3, seed=1))),
    "views": (lambda a: a.view(3, 4).t()[1:, ::2].unsqueeze(1).expand(3, 2, 2) ** 2, (leaf(2, 6),)),
    "pieces": (lambda a: a.chunk(2)[0] * a.split(1)[2] + a.unbind(0)[1], (leaf(3, 3)[:, :] * 1,)),
    "joins": (
        lambda a, b: torch.cat([a, b, a], 1) * torch.stack([a[0], b[0]], 0).sum(),
        (leaf(2, 2), leaf(2, 2, seed=1)),
    ),
    "diagonals": (lambda a: a.diagonal() * a.tril().triu(-1).sum(0) + torch.diag(a[0]).sum(1), (leaf(3, 3),)),
    "copies": (lambda a: a.flip(0) * a.roll(1, 1) + a.repeat(2, 1)[1:4], (leaf(3, 2),)),
    "index tensors": (lambda a: a[[0, 2, 0]] * a[:, [1, 1]].sum() + a[[0, 1], [1, 0]].sum(), (leaf(3, 2),)),
    "masks": (lambda a: a[a > 1].sum() * a.masked_fill(a > 1, 0), (leaf(3, 2),)),
    "gather and scatter": (
        lambda a: a.gather(1, torch.tensor([[0, 0], [1, 0], [1, 1]])).scatter_add(0, torch.tensor([[2, 0]]), a[:1] ** 2),
        (leaf(3, 2),),
    ),
    "index_put": (
        lambda a, b: a.index_put((torch.tensor([0, 2]),), b, accumulate=True) ** 2,
        (leaf(3, 2), leaf(2, 2, seed=1)),
    ),
    "scatter": (lambda a, b: a.scatter(1, torch.tensor([[1], [0]]), b) ** 2, (leaf(2, 2), leaf(2, 1, seed=1))),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_first_and_second_derivatives(name: str) -> None:
    function, inputs = FUNCTIONS[name]
    inputs = tuple(x.detach().clone().requires_grad_() for x in inputs)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, atol=1e-4)


def inplace_program(x: Any, w: Any) -> Any:
    """Writes through views, in place and not, between reads that other writes make stale."""
    y = x * 1
    row, column = y[0], y[:, 1]
    row.mul_(w)
    y.add_(column.sum())
    column.mul_(w[:3] + 1)
    y.t()[2].copy_(w[:3] * 2)
    z = torch.zeros(3, 4, dtype=torch.float64)
    z[1:] = y[:2]
    z[[0, 2]] += w
    z[z.detach() > 2] = 0.5
    return z * y + row.sum()


def test_in_place_programs_have_right_gradients() -> None:
    assert gradcheck(inplace_program, (leaf(3, 4), leaf(4, seed=3)))
    assert gradgradcheck(inplace_program, (leaf(3, 4), leaf(4, seed=3)), atol=1e-4)


def test_gradcheck_finds_a_wrong_gradient() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3

    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(Wrong.apply, (leaf(2),))
    assert not gradcheck(Wrong.apply, (leaf(2),), raise_exception=False)


def test_deep_graphs_need_no_recursion() -> None:
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(30_000):
        y = y + x
    y.backward()
    assert x.grad.item() == 30_001
    del y


def test_wide_graphs_run_each_node_once() -> None:
    x = torch.ones(2, requires_grad=True)
    calls: list[int] = []
    y = x * 1
    y.register_hook(lambda g: calls.append(1))
    total = sum((y * k for k in range(50)), torch.zeros(2))
    total.sum().backward()
    assert calls == [1] and x.grad.tolist() == [sum(range(50))] * 2


def test_a_diamond_of_diamonds_is_linear_in_its_nodes() -> None:
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(60):
        y = y * 0.5 + y * 0.5
    y.backward()
    assert x.grad.item() == pytest.approx(1.0)


def test_the_graph_frees_itself_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = torch.ones(4, requires_grad=True)
        inner = x.exp()
        seen = weakref.ref(inner)
        y = (inner * inner).softmax(0).sum()
        del inner
        assert seen() is not None
        y.backward()
        assert seen() is None, "backward lets go of what was saved"
        z = x.exp().sqrt()
        node = weakref.ref(z.grad_fn)
        del z
        assert node() is None
        w = x * 1
        w.mul_(2).exp_()
        alive = weakref.ref(w)
        del w
        assert alive() is None
    finally:
        gc.enable()


def test_results_without_gradient_keep_nothing() -> None:
    x = torch.ones(4)
    seen = weakref.ref(x)
    y = x.exp() * 2
    del x
    assert seen() is None and y.grad_fn is None


def test_accumulated_gradients_are_nobody_elses_memory() -> None:
    x, y = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    start = torch.full((3,), 2.0)
    (x + y).backward(start)
    assert len({t.data_ptr() for t in (x.grad, y.grad, start)}) == 3
    seen = []
    x.grad = None
    x.register_hook(seen.append)
    (x * 2).sum().backward()
    x.grad.zero_()
    assert seen[0].tolist() == [2.0, 2.0, 2.0]


def test_grad_mode_belongs_to_the_thread() -> None:
    found = []
    with torch.no_grad():
        thread = threading.Thread(target=lambda: found.append(torch.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]


def test_no_grad_survives_an_error_and_decorates_generators() -> None:
    with pytest.raises(ValueError), torch.no_grad():
        raise ValueError
    assert torch.is_grad_enabled()

    @torch.no_grad()
    def numbers() -> Any:
        for _ in range(3):
            yield torch.is_grad_enabled()

    seen = [(inside, torch.is_grad_enabled()) for inside in numbers()]
    assert seen == [(False, True)] * 3


def test_backward_in_threads() -> None:
    results: list[float] = []

    def work(k: int) -> None:
        x = torch.full((5,), float(k), requires_grad=True)
        for _ in range(20):
            x.grad = None
            (x * x).sum().backward()
        results.append(x.grad[0].item() / 2)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0.0, 1.0, 2.0, 3.0]


def test_backward_inside_backward() -> None:
    class Inner(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.detach() ** 3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                y = x.detach().requires_grad_()
                (d,) = torch.autograd.grad((y**3).sum(), y)
            return g * d

    x = torch.tensor([2.0, 3.0], requires_grad=True)
    Inner.apply(x).sum().backward()
    assert x.grad.tolist() == [12.0, 27.0]


def test_anomaly_mode_names_the_node() -> None:
    x = torch.tensor([0.0], requires_grad=True)
    with (
        torch.autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match="Function 'MulBackward0' returned nan values in its 0th output"),
    ):
        (x.log() * 0 * float("inf")).backward()
    with torch.autograd.set_detect_anomaly(True):
        pass
    (x.log() * 0 * float("inf")).backward()


def test_hooks_may_replace_but_not_reshape() -> None:
    x = torch.ones(3, requires_grad=True)
    handle = x.register_hook(lambda g: g[:1])
    with pytest.raises(RuntimeError, match="changed the size of value"):
        x.sum().backward()
    handle.remove()
    with x.register_hook(lambda g: g * 0):
        x.sum().backward()
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("bad", [lambda g: (g, g), lambda g: "text", lambda g: g.new_ones(5)])
def test_functions_must_return_fitting_gradients(bad: Any) -> None:
    class F(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return bad(g)

    x = torch.ones(3, requires_grad=True)
    with pytest.raises((RuntimeError, TypeError), match="gradient"):
        F.apply(x).sum().backward()


def test_functions_that_write_in_place() -> None:
    class Double(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    x = torch.ones(3, requires_grad=True)
    y = x * 3
    z = Double.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0, 6.0]


def test_every_named_node_is_an_op_node_or_says_what_it_is() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    node = (x @ torch.ones(3, 2) + 1).relu().sum().grad_fn
    names = []
    while node is not None:
        names.append(type(node).__name__)
        assert isinstance(node, OpNode) or names[-1] == "AccumulateGrad"
        assert repr(node).startswith(f"<{names[-1]} object at 0x")
        node = next((n for n, _ in node.next_functions if n is not None), None)
    assert names == ["SumBackward0", "ReluBackward0", "AddBackward0", "MmBackward0", "AccumulateGrad"]


def test_gradients_do_not_depend_on_the_order_of_building() -> None:
    terms = [lambda x: x.exp(), lambda x: x * 2, lambda x: x.sin()]
    for order in itertools.permutations(range(3)):
        x = leaf(3)
        made: dict[int, Any] = {k: terms[k](x) for k in order}
        (made[0] * made[1] + made[2]).sum().backward()
        want = (x.exp() * 2 * x + x.exp() * 2 + x.cos()).detach()
        np.testing.assert_allclose(x.grad.numpy(), want.numpy())


def test_a_gradient_may_have_a_dtype_of_its_own():
    x = torch.ones(2, requires_grad=True)
    assert x.grad_dtype is torch.float32
    x.grad_dtype = torch.float64
    (x * 3).sum().backward()
    assert x.grad.dtype is torch.float64 and x.grad.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="because there is already a gradient with dtype"):
        x.grad_dtype = torch.float16
    x.grad_dtype = None
    x.grad = torch.ones(2, dtype=torch.float16)
    with pytest.raises(RuntimeError, match="grad_dtype can only be set on leaf tensors"):
        (x * 1).grad_dtype = torch.float64


def test_what_a_gradient_reads_depends_on_the_number_of_steps():
    net = torch.nn.LSTM(2, 3)
    net(torch.randn(1, 1, 2))[0].sum().backward()  # one step: the gradient does not read the output
    x = torch.randn(4, 1, 2)
    net(x)[0].sum().backward()
    assert net.weight_hh_l0.grad.abs().sum() > 0
