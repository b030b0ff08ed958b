"""What vitrify's modules have beside PyTorch's: the change counter, module paths, dropout's own stream."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F
from vitrify.nn.modules.module import current_module_path, structure_version, tracked_module_paths


def changes(action):
    before = structure_version()
    action()
    return structure_version() != before


def test_every_change_of_a_module_is_counted():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    net.x = 1
    for action in (
        lambda: setattr(net, "x", 2),
        lambda: setattr(net, "y", [1]),
        lambda: delattr(net, "y"),
        lambda: setattr(net[1], "p", 0.25),
        lambda: net.append(nn.ReLU()),
        lambda: net.insert(0, nn.ReLU()),
        lambda: net.__delitem__(0),
        lambda: net.eval(),
        lambda: setattr(net[0], "weight", nn.Parameter(torch.zeros(2, 2))),
        lambda: setattr(net[0], "bias", None),
        lambda: net.register_buffer("b", torch.zeros(1)),
        lambda: setattr(net, "b", torch.ones(1)),
        lambda: net.requires_grad_(False),
        lambda: net.double(),
        lambda: net._modules.pop("0"),
        lambda: net.register_forward_hook(lambda *_: None).remove(),
        lambda: nn.ParameterDict().update({"a": 1}),
    ):
        assert changes(action)


def test_what_changes_nothing_is_not_counted():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.x, net.table = 1, [1]
    table = net.table
    for action in (
        lambda: net.train(),
        lambda: setattr(net, "x", 1),
        lambda: setattr(net, "table", table),
        lambda: net(torch.zeros(1, 2)),
        lambda: net.zero_grad(),
        lambda: net.state_dict(),
        lambda: list(net.named_parameters()),
        lambda: repr(net),
        lambda: net.load_state_dict(net.state_dict()),
    ):
        assert not changes(action)
    assert changes(lambda: setattr(net, "x", 1.0))
    assert changes(lambda: setattr(net, "x", True))


def test_module_paths():
    seen = []

    class Probe(nn.Module):
        def forward(self, x):
            seen.append(current_module_path())
            return x

    net = nn.Sequential(Probe(), nn.Sequential(Probe()))
    loose = Probe()
    x = torch.zeros(1)
    net(x)
    with tracked_module_paths():
        net(x)
        loose(x)
        net.register_forward_hook(lambda *_: seen.append(current_module_path()))
        net(x)
    net(x)
    assert seen == ["", "", "0", "1.0", "", "0", "1.0", "", "", "", ""]


def test_path_is_left_on_an_error():
    class Failing(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    with tracked_module_paths():
        with pytest.raises(ValueError, match="no"):
            nn.Sequential(Failing())(1)
        assert current_module_path() == ""


def test_dropout_takes_a_new_mask_each_call_and_starts_over_with_the_seed():
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = F.dropout(x, 0.3), F.dropout(x, 0.3)
    torch.manual_seed(3)
    again = F.dropout(x, 0.3)
    assert bool((first == again).all()) and not bool((first == second).all())
    assert 0.6 < float((first != 0).float().mean()) < 0.8
    kept = first[first != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / 0.7))


def test_dropout_edges():
    x = torch.ones(10, requires_grad=True)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x
    gone = F.dropout(x, 1.0)
    gone.sum().backward()
    assert not bool(gone.any()) and not bool(x.grad.any())
    y = torch.ones(100)
    assert F.dropout(y, 0.5, inplace=True) is y and bool((y == 0).any())


def test_dropout_gradient_is_its_mask():
    x = torch.ones(50, requires_grad=True)
    out = F.dropout(x, 0.4)
    out.sum().backward()
    assert bool((x.grad == out).all())


def test_parameters_share_memory_with_their_data():
    data = torch.zeros(3)
    param = nn.Parameter(data)
    with torch.no_grad():
        param.add_(1)
    assert data.tolist() == [1, 1, 1] and param.requires_grad and param.is_leaf
    assert (param * 2).__class__ is not nn.Parameter


def test_parameter_of_a_number_is_refused():
    with pytest.raises(TypeError, match="requires a Tensor"):
        nn.Parameter(3)


def test_deepcopy_keeps_shared_parameters_shared():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    twin = copy.deepcopy(net)
    assert twin[1].weight is twin[0].weight and twin[0].weight is not net[0].weight


def test_cross_entropy_of_nothing_is_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(F.cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).item())


def test_nan_passes_through():
    x = torch.tensor([[float("nan"), 1.0, -1.0]])
    assert np.isnan(F.relu(x).numpy()[0, 0])
    assert np.isnan(F.softmax(x, 1).numpy()).all()
    assert np.isnan(F.max_pool1d(x, 2).numpy()[0, 0])


def test_unsupported_options_say_so():
    for layer in (nn.Embedding(3, 2, sparse=True), nn.EmbeddingBag(3, 2, mode="sum", sparse=True)):
        with pytest.raises(NotImplementedError, match="sparse gradients are not supported"):
            layer(torch.tensor([[0]]))


def test_implicit_softmax_dim_warns():
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmax"):
        assert nn.Softmax()(torch.zeros(2, 4)).tolist() == [[0.25] * 4] * 2
