"""copy, deepcopy and pickle of tensors, parameters, modules, optimizers and schedulers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn


def pickled(value):
    return pickle.loads(pickle.dumps(value))


COPIES = [copy.deepcopy, pickled]


@pytest.mark.parametrize("make", [copy.copy, *COPIES])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.arange(6).reshape(2, 3).t(),
        torch.ones(3).to(torch.bfloat16),
        torch.tensor(True),
        torch.zeros(0, 3),
        torch.zeros(2, 3)[:, 3:],
        torch.tensor([1 + 2j]),
        torch.ones(2, requires_grad=True),
        torch.ones(3, 1).expand(3, 4),
        torch.from_numpy(np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)),
    ],
)
def test_tensors(make, tensor):
    made = make(tensor)
    assert type(made) is torch.Tensor and made.dtype is tensor.dtype and made.shape == tensor.shape
    assert made.detach().tolist() == tensor.detach().tolist() and made.requires_grad == tensor.requires_grad
    assert made.is_leaf
    repeats = 0 in tensor.stride()  # a pickle holds the elements
    assert made.stride() == tensor.stride() or not tensor.numel() or (repeats and make is pickled)


def test_a_copy_shares_memory_and_a_deep_one_does_not():
    x = torch.zeros(3)
    shallow, deep, loaded = copy.copy(x), copy.deepcopy(x), pickled(x)
    x.add_(1)
    assert shallow.tolist() == [1, 1, 1] and deep.tolist() == loaded.tolist() == [0, 0, 0]
    assert shallow._version == x._version
    deep.add_(2), loaded.add_(2)
    assert x.tolist() == [1, 1, 1]


def test_a_deep_copy_keeps_shared_storages_shared():
    base = torch.arange(12.0).reshape(3, 4)
    part, turned = base[1:, ::2].detach(), base.t().detach()
    again, other, flipped = copy.deepcopy([base, part, turned])
    again.zero_()
    assert other.sum() == 0 and flipped.sum() == 0 and other._version == again._version == 1
    assert other.stride() == (4, 2) and other.storage_offset() == 4 and flipped.stride() == (1, 4)
    assert base.sum() == 66
    other.fill_(5)
    assert flipped.tolist()[0] == [0, 5, 5]


def test_a_compiled_function_writes_to_a_deep_copy():
    base = torch.arange(12.0).reshape(3, 4)
    made, part = copy.deepcopy([base, base[1:].detach()])

    @torch.compile
    def step(x):
        return x.mul_(2).sum()

    assert step(part) == 2 * (66 - 6)
    assert made.tolist()[1] == [8, 10, 12, 14] and base.tolist()[1] == [4, 5, 6, 7]


def test_gradients_go_with_a_deep_copy_of_a_tensor():
    x = torch.ones(2, requires_grad=True)
    (x * 3).sum().backward()
    assert copy.deepcopy(x).grad.tolist() == [3, 3] and copy.deepcopy(x).grad is not x.grad
    assert copy.copy(x).grad is None and pickled(x).grad is None
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(x * 2)


@pytest.mark.parametrize("make", [copy.copy, *COPIES])
def test_parameters_and_buffers(make):
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3).t(), requires_grad=False)
    made = make(parameter)
    assert type(made) is nn.Parameter and not made.requires_grad and torch.equal(made, parameter)
    assert make(nn.Parameter(torch.ones(2))).requires_grad
    buffer = nn.Buffer(torch.ones(2), persistent=False)
    assert type(make(buffer)) is nn.Buffer and make(buffer).persistent is False


class Tagged(torch.Tensor):
    pass


@pytest.mark.parametrize("make", [copy.copy, *COPIES])
def test_subclasses_and_attributes(make):
    tensor = torch.ones(2)._alias(Tagged)
    tensor.tag = ["x"]
    made = make(tensor)
    assert type(made) is Tagged and made.tag == ["x"] and (made.tag is tensor.tag) == (make is copy.copy)


@pytest.mark.parametrize("make", COPIES)
def test_modules(make):
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    net[1].tied = net[0].weight
    calls = []
    made = make(net.eval())
    assert made[1].tied is made[0].weight is not net[0].weight and not made.training
    x = torch.randn(4, 2)
    assert torch.equal(made(x), net(x))
    made[0].register_forward_hook(lambda *_: calls.append(1))
    made(x), net(x)
    assert calls == [1]
    compiled = torch.compile(made)
    before = compiled(x)
    made[2] = nn.Linear(3, 3)
    assert not torch.equal(compiled(x), before)


@pytest.mark.parametrize("make", COPIES)
def test_optimizers_and_schedulers(make):
    def step(net, optimizer, schedule):
        net(torch.ones(4, 2)).pow(2).sum().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()

    net = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    step(net, optimizer, schedule)
    made = make((net, optimizer, schedule))
    assert made[1].param_groups[0]["params"][0] is made[0].weight and made[2].optimizer is made[1]
    assert list(made[1].state) == [made[0].weight, made[0].bias]
    for _ in range(3):
        step(net, optimizer, schedule)
        step(*made)
    assert torch.equal(made[0].weight, net.weight) and made[2].get_last_lr() == schedule.get_last_lr()


def test_a_copy_of_a_compiled_module_compiles_anew() -> None:
    model, x = torch.nn.Linear(7, 5), torch.randn(3, 7)
    compiled = torch.compile(model)
    compiled(x)
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        torch.testing.assert_close(other(x), model(x))
        with torch.no_grad():
            other._orig_mod.weight.zero_()
        torch.testing.assert_close(other(x), model.bias.expand(3, 5))
    average = torch.optim.swa_utils.AveragedModel(compiled)
    average.update_parameters(compiled)
    torch.testing.assert_close(average(x), model(x))
