"""Compiled layers, losses and training steps give PyTorch 2.13's stored numbers: forward, gradients, losses."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_references import EXPECTED, close

import vitrify as torch

from nn_cases import OPTIMIZERS, layers, losses, make_lenet, make_mlp  # isort: skip  # on the path by the line above


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", layers())
def test_layers(name):
    make, draw = layers()[name]
    torch.manual_seed(1)
    module, inputs = make(torch), draw(torch)
    output = torch.compile(module)(*inputs)
    output.backward(torch.randn(output.shape))
    close([output, *(x.grad for x in inputs), *(p.grad for p in module.parameters())], f"layer_{name}")


@pytest.mark.sweep(4)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", losses())
def test_losses(name, reduction):
    make, draw = losses()[name]
    torch.manual_seed(2)
    x, target = draw(torch)
    criterion = make(torch, reduction)
    output = torch.compile(lambda x, target: criterion(x, target))(x, target)
    output.backward(torch.randn(output.shape))
    close([output, x.grad], f"loss_{name}_{reduction}")


def test_lenet_has_pytorchs_gradients():
    torch.manual_seed(0)
    net = make_lenet(torch)
    x, y = torch.randn(4, 1, 32, 32), torch.randint(10, (4,))

    @torch.compile
    def gradients(x, y):
        output = net(x)
        torch.nn.functional.cross_entropy(output, y).backward()
        return output

    close([gradients(x, y)], "lenet_output")
    close([p.grad.reshape(-1)[:600] for p in net.parameters()], "lenet_grads")
    close([p.grad.norm() for p in net.parameters()], "lenet_grad_norms")


@pytest.mark.parametrize("network", ["mlp", "lenet"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_pytorchs_losses(network, name):
    expected = f"train_{network}_{name}"
    if expected not in EXPECTED:
        pytest.skip("PyTorch's losses are not stored for this pair")
    torch.manual_seed(0)
    net = {"mlp": make_mlp, "lenet": make_lenet}[network](torch)
    optimizer = OPTIMIZERS[name](torch, net.parameters())
    x = torch.randn(32, 8) if network == "mlp" else torch.randn(16, 1, 32, 32)
    y = torch.randint(3 if network == "mlp" else 10, (len(x),))

    @torch.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    found = [step(x, y).item() for _ in EXPECTED[expected]]
    np.testing.assert_allclose(found, EXPECTED[expected], rtol=1e-4)
