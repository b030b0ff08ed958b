"""Layers, losses and initialisers give PyTorch's numbers; texts read as PyTorch's."""

from __future__ import annotations

import json
import pathlib
import sys
import warnings

import numpy as np
import pytest

import vitrify as torch
import vitrify.utils.data

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))
from nn_behaviour import behaviours  # noqa: E402
from nn_cases import initialisers, layers, loader_orders, losses, make_lenet  # noqa: E402
from nn_texts import errors, printed, raised  # noqa: E402

EXPECTED = np.load(REFERENCES / "nn.npz")
TEXTS = json.loads((REFERENCES / "nn_texts.json").read_text())


def close(found, name, rtol=1e-5, atol=2e-6):
    for i, tensor in enumerate(found):
        expected = EXPECTED[f"{name}.{i}"]
        if tensor is None:
            assert expected.size == 0
            continue
        got = tensor.detach().numpy()
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=f"{name}.{i}")


@pytest.mark.parametrize("name", layers())
def test_layers(name):
    make, draw = layers()[name]
    torch.manual_seed(1)
    module, inputs = make(torch), draw(torch)
    output = module(*inputs)
    output.backward(torch.randn(output.shape))
    close([output, *(x.grad for x in inputs), *(p.grad for p in module.parameters())], f"layer_{name}")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", losses())
def test_losses(name, reduction):
    make, draw = losses()[name]
    torch.manual_seed(2)
    x, target = draw(torch)
    output = make(torch, reduction)(x, target)
    output.backward(torch.randn(output.shape))
    close([output, x.grad], f"loss_{name}_{reduction}")


@pytest.mark.parametrize("name", initialisers())
def test_initialisers(name):
    torch.manual_seed(3)
    exact = not name.startswith("orthogonal")
    close(
        [initialisers()[name](torch), torch.rand(1)],
        f"init_{name}",
        0 if exact else 1e-5,
        0 if exact else 2e-6,
    )


def test_lenet_starts_as_pytorchs_and_has_its_gradients():
    torch.manual_seed(0)
    net = make_lenet(torch)
    for name, param in net.named_parameters():
        bits = param.detach().numpy().view(np.uint32).reshape(-1).astype(np.uint64)
        np.testing.assert_array_equal([bits.sum(), *bits[:8]], EXPECTED[f"lenet_{name}"])
    x, y = torch.randn(4, 1, 32, 32), torch.randint(10, (4,))
    output = net(x)
    torch.nn.functional.cross_entropy(output, y).backward()
    close([output], "lenet_output")
    close([p.grad.reshape(-1)[:600] for p in net.parameters()], "lenet_grads")
    close([p.grad.norm() for p in net.parameters()], "lenet_grad_norms")


@pytest.mark.parametrize("name", printed())
def test_texts(name):
    torch.manual_seed(0)
    assert printed()[name](torch) == TEXTS["printed"][name]


@pytest.mark.parametrize("name", errors())
def test_errors(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind, text = raised(errors()[name], torch)
    assert [kind, text.replace("vitrify.", "torch.")] == TEXTS["errors"][name]


@pytest.mark.parametrize("name", loader_orders())
def test_loader_orders(name):
    torch.manual_seed(4)
    assert loader_orders()[name](torch) == TEXTS["orders"][name]


@pytest.mark.parametrize("name", behaviours())
def test_behaviours(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = json.loads(json.dumps(behaviours()[name](torch)).replace("vitrify.", "torch."))
    assert found == TEXTS["behaviours"][name]
