"""Running statistics of batch norm: PyTorch's numbers, and in a compiled training step buffers written in place."""

from __future__ import annotations

import numpy as np
import pytest
from test_nn_references import EXPECTED

import vitrify as torch

from nn_norm_cases import BATCH_NORMS, train_batch_norm  # isort: skip  # on the path by the line above


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", BATCH_NORMS)
def test_training_moves_them_as_pytorch_does(name, mode):
    found = train_batch_norm(torch, name, torch.compile if mode == "compiled" else lambda step: step)
    for key, value in found.items():
        np.testing.assert_allclose(
            value, EXPECTED[f"running_{name}_{key}"], rtol=2e-4, atol=2e-6, err_msg=key
        )


def test_one_compilation_serves_many_steps_and_evaluation_uses_what_they_left():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    buffer = net[1].running_mean

    @torch.compile
    def step(x):
        return net(x).square().sum()

    for count in range(1, 6):
        step(torch.randn(8, 4))
        assert net[1].num_batches_tracked.item() == count
    assert net[1].running_mean is buffer and buffer.abs().sum().item() > 0
    assert len(step.report().compiles) == 1
    net.eval()
    x = torch.randn(2, 4)
    np.testing.assert_allclose(
        torch.compile(net)(x).detach().numpy(), net(x).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert net[1].num_batches_tracked.item() == 5
