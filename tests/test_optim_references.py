"""Optimizers and schedules follow PyTorch's."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

import vitrify as torch

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))
from nn_cases import OPTIMIZERS, train_lenet, train_mlp  # noqa: E402
from schedule_cases import SCHEDULES, rates  # noqa: E402

EXPECTED = np.load(REFERENCES / "nn.npz")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_pytorch(name):
    curve, net = train_mlp(torch, name)
    np.testing.assert_allclose(curve, EXPECTED[f"train_{name}"], rtol=1e-5)
    for i, param in enumerate(net.parameters()):
        np.testing.assert_allclose(
            param.detach().numpy(), EXPECTED[f"trained_{name}.{i}"], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["sgd_momentum", "adam", "adamw"])
def test_lenet_follows_pytorch(name):
    np.testing.assert_allclose(train_lenet(torch, name)[0], EXPECTED[f"train_lenet_{name}"], rtol=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates(name):
    np.testing.assert_allclose(rates(torch, name), EXPECTED[f"rates_{name}"], rtol=1e-13)
