"""The short way through compiled calls: taken where it holds, left to the general way where it does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.compile.call import MISS
from vitrify.tensor import new_storages_float


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plain(compiled, *args):
    """The result of the latest specialization's short way."""
    return compiled._last.plain_call(args)


def missed(compiled, *args) -> bool:
    return plain(compiled, *args) is MISS


def test_takes_the_call_it_was_bound_for():
    f = torch.compile(lambda a, b: (b - a) * 2)
    a, b = torch.arange(6.0), torch.ones(6)
    expected = f(a, b)
    assert plain(f, a, b).tolist() == expected.tolist() == [2.0, 0.0, -2.0, -4.0, -6.0, -8.0]


@pytest.mark.parametrize(
    "other",
    [
        lambda: torch.ones(7),
        lambda: torch.ones(6, dtype=torch.float64),
        lambda: torch.ones(6, requires_grad=True),
        lambda: torch.ones(12)[::2],
        lambda: np.ones(6, np.float32),
        lambda: torch.ones(6, 1),
        lambda: 1.0,
    ],
)
def test_leaves_other_arguments_alone(other):
    f = torch.compile(lambda a, b: a + b)
    f(torch.ones(6), torch.ones(6))
    assert missed(f, torch.ones(6), other())


def test_counts_of_arguments_and_constants():
    f = torch.compile(lambda a, n: a * n)
    f(torch.ones(3), 2)
    assert plain(f, torch.ones(3), 2).tolist() == [2.0] * 3
    assert missed(f, torch.ones(3), 3)
    assert missed(f, torch.ones(3))
    assert f(torch.ones(3), 3).tolist() == [3.0] * 3


def test_sees_grad_mode_threads_and_guards():
    scale = {"by": 2.0}
    f = torch.compile(lambda a: a * scale["by"])
    a = torch.ones(4)
    f(a)
    assert not missed(f, a)
    with torch.no_grad():
        assert missed(f, a)
    torch.set_num_threads(2)
    assert missed(f, a)
    torch.set_num_threads(1)
    scale["by"] = 3.0
    assert f(a).tolist() == [3.0] * 4


def test_other_sizes_have_a_short_way_of_their_own():
    f = torch.compile(lambda a: a + 1, dynamic_shapes={"a": {0: torch.Dim("n", 1, 64)}})
    for n in (3, 5, 3):
        assert f(torch.ones(n)).tolist() == [2.0] * n
        assert plain(f, torch.zeros(n)).tolist() == [1.0] * n


@pytest.mark.parametrize("look", [False, True])
def test_training_steps_give_new_gradients(look):
    w = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([w], lr=0.5)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    held = []
    for i in range(4):
        version = w._version
        loss = step(torch.full((4,), float(i)))
        assert loss.item() == 4 * i * (1 - 0.5 * (i * (i - 1) / 2))
        assert w._version > version
        if look:
            held.append(w.grad)
    assert [g.tolist() for g in held] == [[float(i)] * 4 for i in range(len(held))]
    assert w.grad.tolist() == [3.0] * 4


def test_results_that_need_gradients_have_them():
    f = torch.compile(lambda a: (a * a, a.detach() + 1))
    for value in (1.0, 2.0, 3.0):
        a = torch.full((3,), value, requires_grad=True)
        square, other = f(a)
        assert not other.requires_grad
        square.sum().backward()
        assert a.grad.tolist() == [2 * value] * 3


def test_a_failed_check_is_raised_as_its_error():
    f = torch.compile(lambda table, at: table.index_select(0, at))
    table = torch.arange(4.0)
    assert f(table, torch.tensor([1, 3])).tolist() == [1.0, 3.0]
    with pytest.raises(IndexError):
        f(table, torch.tensor([1, 4]))
    assert f(table, torch.tensor([0, 2])).tolist() == [0.0, 2.0]


def test_packed_weights_follow_their_parameters():
    layer = nn.Linear(40, 40)
    f = torch.compile(layer)
    x = torch.randn(33, 40)
    with torch.no_grad():
        for _ in range(3):
            assert torch.allclose(f(x), layer(x), atol=1e-5)
            layer.weight.mul_(-1.5)


def test_threads_share_a_short_way():
    f = torch.compile(lambda a: (a * 2 + 1).sum())
    f(torch.ones(1000))
    wrong = []

    def work(value: float) -> None:
        a = torch.full((1000,), value)
        for _ in range(200):
            if f(a).item() != 1000 * (2 * value + 1):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_functions_that_draw_or_branch_go_the_general_way():
    draws = torch.compile(lambda a: a + torch.rand(3))
    draws(torch.ones(3))
    branches = torch.compile(lambda a: a + 1 if a.sum() > 0 else a - 1)
    branches(torch.ones(3))
    assert draws._last.plain_call is None and branches._last.plain_call is None


@pytest.fixture
def devices_in_use() -> Iterator[None]:
    before = new_storages_float[0]
    new_storages_float[0] = True
    yield
    new_storages_float[0] = before


@pytest.mark.usefixtures("devices_in_use")
def test_programs_on_the_cpu_go_on_after_a_device_was_used():
    f = torch.compile(lambda a: a + 1)
    f(torch.ones(2))
    assert plain(f, torch.zeros(2)).tolist() == [1.0, 1.0]
    w = nn.Parameter(torch.ones(3))

    @torch.compile
    def accumulate(x):
        (w * x).sum().backward()
        return w.grad.sum()

    w.grad = torch.zeros(3)
    assert [accumulate(torch.ones(3)).item() for _ in range(3)] == [3.0, 6.0, 9.0]


def test_named_and_nested_arguments_go_the_short_way_too() -> None:
    net = nn.Linear(3, 2)
    named, nested = torch.compile(net), torch.compile(lambda pair: pair[0] * pair[1]["a"])
    x, z = torch.randn(4, 3), torch.randn(4, 3)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(named(input=x), net(x))
            torch.testing.assert_close(nested((x, {"a": z})), x * z)
        before = named.explain().facts["lookups"], nested.explain().facts["lookups"]
        for y in (x, x + 1):
            torch.testing.assert_close(named(input=y), net(y))
            torch.testing.assert_close(nested((y, {"a": z})), y * z)
        assert (named.explain().facts["lookups"], nested.explain().facts["lookups"]) == before
        net.eval()
        torch.testing.assert_close(named(input=x), net(x))
        assert named.explain().facts["lookups"] > before[0]
        assert named(input=torch.ones(5, 3)).shape == (5, 2)
