"""Errors inside compiled functions: PyTorch's kind, with the user's line, and nothing left half done."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from networks import lenet

import vitrify as torch
import vitrify.nn as nn
from vitrify.compile.trace_error import TraceError


def line_of(fn, text):
    lines, start = inspect.getsourcelines(fn)
    return start + next(i for i, line in enumerate(lines) if text in line)


def test_a_shape_error_names_the_op_the_shapes_and_the_users_line():
    def f(x):
        y = x + 1
        return y @ torch.ones(5, 2)

    with pytest.raises(
        RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 5x2\)"
    ) as caught:
        torch.compile(f)(torch.ones(2, 3))
    assert f"test_compile_errors.py:{line_of(f, '@')}" in "".join(
        [str(caught.value), *caught.value.__notes__]
    )


def test_item_is_refused():
    with pytest.raises(TraceError, match=r"\.item\(\)"):
        torch.compile(lambda x: x * x.max().item())(torch.ones(2))


def test_a_tensor_that_escapes_is_refused():
    seen = set()

    @torch.compile
    def f(x):
        y = x * 2
        seen.add(y)
        return y.sum()

    with pytest.raises(TraceError, match="stored outside the compiled function"):
        f(torch.ones(2))


def test_a_failed_trace_leaves_tensors_as_they_were():
    net = lenet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @torch.compile
    def step(x):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()
        raise ValueError("user's own")

    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ValueError, match="user's own"):
        step(torch.ones(1, 1, 32, 32))
    for p, q in zip(net.parameters(), before):
        assert p.grad is None
        np.testing.assert_array_equal(p.detach().numpy(), q.numpy())


def test_written_arguments_that_share_memory_and_need_gradients_are_refused():
    @torch.compile
    def f(a, b):
        with torch.no_grad():
            a.add_(1)
        return a + b

    x = torch.ones(4, requires_grad=True)
    with pytest.raises(
        TraceError, match="a and b share memory, of which some is changed in place, and need grad"
    ):
        f(x, x[:])


def test_a_target_out_of_range_is_eagers_error():
    criterion = nn.CrossEntropyLoss()
    compiled = torch.compile(lambda x, y: criterion(x, y))
    x = torch.randn(3, 5)
    for y in (torch.tensor([0, 5, 1]), torch.tensor([0, -1, 1])):
        with pytest.raises(IndexError) as eager:
            criterion(x, y)
        with pytest.raises(IndexError) as found:
            compiled(x, y)
        assert str(found.value).split(" ")[-4:] == str(eager.value).split(" ")[-4:]


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_read_only_memory_is_not_written():
    read_only = np.ones(4, np.float32)
    read_only.flags.writeable = False

    @torch.compile
    def double(x):
        x.mul_(2)
        return x.sum()

    with pytest.raises(RuntimeError, match="read-only"):
        double(torch.from_numpy(read_only))
    assert double(torch.ones(4)).item() == 8
    with pytest.raises(RuntimeError, match="read-only"):
        double(torch.from_numpy(read_only))
    captured = torch.from_numpy(read_only)
    with pytest.raises(RuntimeError, match="read-only"):
        torch.compile(lambda x: captured.add_(x).sum())(torch.ones(4))
    assert read_only.tolist() == [1, 1, 1, 1]


def test_a_failed_check_leaves_the_parameters_alone():
    net = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    @torch.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x = torch.randn(2, 4)
    step(x, torch.tensor([0, 1]))
    before = net.weight.detach().clone()
    with pytest.raises(IndexError, match="Target is out of bounds") as failed:
        step(x, torch.tensor([0, 3]))
    (note,) = failed.value.__notes__
    assert re.fullmatch(r"in compiled step, at \S*test_compile_errors\.py:\d+", note)
    np.testing.assert_array_equal(net.weight.detach().numpy(), before.numpy())
    step(x, torch.tensor([2, 1]))
    assert not np.array_equal(net.weight.detach().numpy(), before.numpy())


def test_asking_before_the_first_call():
    with pytest.raises(RuntimeError, match="not been called yet"):
        torch.compile(lambda x: x).report()


def test_compile_wants_something_callable():
    with pytest.raises(TypeError, match="function or a Module"):
        torch.compile(3)


def test_an_unknown_stage_lists_the_stages():
    f = torch.compile(lambda x: x + 1)
    f(torch.ones(2))
    with pytest.raises(KeyError, match="traced"):
        f.graph("nonsense")


def test_a_numpy_argument_is_refused_by_name():
    with pytest.raises(TypeError, match=r"argument x is a NumPy array; pass torch.from_numpy"):
        torch.compile(lambda x: x + 1)(np.ones(3))


def test_dynamic_shapes_must_name_an_argument():
    with pytest.raises(ValueError, match="names 'z'"):
        torch.compile(lambda x: x, dynamic_shapes={"z": {0: torch.Dim("n")}})


def test_the_line_that_computed_what_escapes_is_named():
    seen = set()
    with pytest.raises(TraceError, match=r"f32\[1\], at \S*test_compile_errors\.py:\d+\) was stored outside"):
        torch.compile(lambda x: (seen.add(x * 2), x + 1)[1])(torch.ones(1))


def test_a_number_with_a_format_is_refused_by_its_line():
    with pytest.raises(
        TraceError, match=r"test_compile_errors\.py:\d+: the code asks for the value of a tensor"
    ):
        torch.compile(lambda x: f"{x.mean():.3f}" and x)(torch.ones(2))
    assert torch.compile(lambda x: f"{x.mean()}" and x)(torch.ones(2)).tolist() == [1, 1]


def test_the_value_of_a_tensor_made_of_numbers_is_known() -> None:
    outside = torch.tensor(3.0)

    @torch.compile
    def scaled(x: torch.Tensor) -> torch.Tensor:
        steps = int(torch.tensor([1, 2, 3]).sum())
        short = torch.tensor([2.5], dtype=torch.bfloat16).item()
        return x * 2 ** float(torch.tensor(0.25).log2().round()) + steps + short

    for given in (1.0, 2.0):
        assert scaled(torch.tensor([given])).item() == given / 4 + 8.5
    for compute in (lambda x: x * outside.item(), lambda x: x * torch.rand(1).item()):
        with pytest.raises(TraceError, match="asks for the value of a tensor"):
            torch.compile(compute)(torch.ones(1))


def test_a_size_outside_its_bounds_names_the_argument():
    f = torch.compile(lambda x: x * 2, dynamic_shapes={"x": {0: torch.Dim("b", 1, 8)}})
    with pytest.raises(
        ValueError, match=r"<lambda>: argument x: dim 0 has size 9, outside the bounds of b \[1, 8\]"
    ):
        f(torch.ones(9))


def test_what_scripts_ask_of_the_compiler_of_pytorch():
    f = torch.compile(lambda x: x * 2, backend="inductor", mode="reduce-overhead", dynamic=False)
    assert f(torch.ones(2)).tolist() == [2, 2]
    net = nn.Linear(2, 2)
    assert torch.compile(net, disable=True) is net and torch.compile(disable=True)(net) is net
    with pytest.raises(RuntimeError, match=r"Invalid backend: 'tensorrt'.*leave backend out"):
        torch.compile(net, backend="tensorrt")
    with pytest.raises(RuntimeError, match="Unrecognized mode=fast, should be one of: default, lite"):
        torch.compile(net, mode="fast")
    with pytest.raises(RuntimeError, match="Either mode or options"):
        torch.compile(net, mode="default", options={})


@pytest.mark.parametrize("how", ["schedule", "sequence", "group"])
def test_learning_rates_are_not_changed_inside(how):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    if how == "sequence":
        later = torch.optim.lr_scheduler.ConstantLR(optimizer)
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [schedule, later], [3])

    def step(x):
        optimizer.step()
        if how == "group":
            optimizer.param_groups[0]["lr"] *= 0.5
        else:
            schedule.step()
        return x

    message = (
        "SequentialLR.step" if how == "sequence" else "StepLR.step" if how == "schedule" else "0.5 to 0.25"
    )
    with pytest.raises(RuntimeError, match=message):
        torch.compile(step)(torch.ones(1))
    assert schedule.last_epoch == 0
