"""The optimizers with a formula per parameter follow PyTorch's, eagerly and in a compiled step."""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
import pytest

import vitrify as torch

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))
from optimizer_cases import LBFGS, OPTIMIZERS, STEPS, minimise, setup, texts  # noqa: E402

EXPECTED = np.load(REFERENCES / "optimizers.npz")


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_follows_pytorch(name, compiled):
    net, _, step, args = setup(torch, name)
    step = torch.compile(step) if compiled else step
    losses = [step(*args).item() for _ in range(STEPS)]
    half = name.startswith("muon")  # works in bfloat16, rounded after each op here
    np.testing.assert_allclose(losses, EXPECTED[f"{name}.losses"], rtol=5e-3 if half else 1e-5)
    for index, param in enumerate(net.parameters()):
        tolerance = {"rtol": 2e-2, "atol": 2e-2} if half else {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(param.detach().numpy(), EXPECTED[f"{name}.{index}"], **tolerance)
    if compiled:
        # Muon has the matrices only: the gradients of the others are never cleared, and add up from the second step on.
        assert len(step.report().compiles) == (2 if half else 1)


@pytest.mark.parametrize("name", LBFGS)
def test_lbfgs_follows_pytorch(name):
    np.testing.assert_allclose(minimise(torch, name), EXPECTED[f"lbfgs.{name}"], rtol=1e-5, atol=1e-9)


def test_lbfgs_refuses_what_it_cannot_do():
    params = [torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))]
    with pytest.raises(ValueError, match="per-parameter options"):
        torch.optim.LBFGS([{"params": params[:1]}, {"params": params[1:]}])
    optimizer = torch.optim.LBFGS(params, line_search_fn="newton")
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        optimizer.step(lambda: params[0].sum())
    with pytest.raises(TypeError, match="closure"):
        optimizer.step()


def test_texts_and_state():
    expected = json.loads((REFERENCES / "optimizers.json").read_text())
    for name, (text, state) in texts(torch).items():
        assert text == expected[name][0], name
        assert [[key, list(shape)] for key, shape in state] == expected[name][1], name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_goes_on_where_it_stopped(name):
    net, optimizer, step, args = setup(torch, name)
    step(*args)
    other, again, other_step, _ = setup(torch, name)
    other.load_state_dict(net.state_dict())
    again.load_state_dict(optimizer.state_dict())
    assert step(*args).item() == other_step(*args).item()
    assert step(*args).item() == other_step(*args).item()


def test_a_compiled_step_follows_a_changed_rate():
    _, optimizer, step, args = setup(torch, "radam")
    _, eager_optimizer, eager_step, _ = setup(torch, "radam")
    compiled = torch.compile(step)
    for rate in (0.01, 0.1, 0.001):
        for chosen in (optimizer, eager_optimizer):
            chosen.param_groups[0]["lr"] = rate
        np.testing.assert_allclose(compiled(*args).item(), eager_step(*args).item(), rtol=1e-5)
    assert len(compiled.report().compiles) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.RMSprop(p, lr=-1), "Invalid learning rate: -1"),
        (lambda p: torch.optim.RMSprop(p, alpha=-1), "Invalid alpha value: -1"),
        (lambda p: torch.optim.Adagrad(p, lr_decay=-1), "Invalid lr_decay value: -1"),
        (lambda p: torch.optim.Adadelta(p, rho=2), "Invalid rho value: 2"),
        (lambda p: torch.optim.Adamax(p, betas=(0.9, 1.0)), "Invalid beta parameter at index 1: 1.0"),
        (lambda p: torch.optim.NAdam(p, momentum_decay=-1), "Invalid momentum_decay value: -1"),
        (lambda p: torch.optim.Rprop(p, etas=(2, 3)), "Invalid eta values: 2, 3"),
    ],
)
def test_impossible_hyper_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make([torch.nn.Parameter(torch.ones(1))])
