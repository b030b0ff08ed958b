"""Tensors on the device "meta": shapes and dtypes without elements."""

from __future__ import annotations

import copy

import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F
from vitrify.func import functional_call, stack_module_state, vmap


def test_ops_give_shapes_and_dtypes():
    x = torch.empty(3, 4, device="meta")
    assert x.is_meta and x.device == torch.device("meta") and not x.is_cuda
    assert (x @ x.T).shape == (3, 3) and (x @ x.T).is_meta
    assert (x.half() * 2).dtype is torch.float16
    assert x.view(2, 6).t().stride() == (1, 6) and x.view(2, 6)._base is x
    assert F.conv2d(torch.empty(1, 3, 8, 8, device="meta"), torch.empty(4, 3, 3, 3, device="meta")).shape == (
        1, 4, 6, 6,
    )  # fmt: skip
    assert x.normal_().is_meta and x.fill_(3).is_meta and torch.rand(2, device="meta").shape == (2,)
    assert repr(x) == "tensor(..., device='meta', size=(3, 4))"
    assert torch.zeros_like(x, device="cpu").tolist() == [[0.0] * 4] * 3


def test_gradients_have_shapes():
    x = torch.empty(2, 3, device="meta", requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad.is_meta and x.grad.shape == (2, 3)


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda x: x.cpu(), NotImplementedError, "Cannot copy out of meta tensor; no data!"),
        (lambda x: x[0].item(), RuntimeError, r"Tensor.item\(\) cannot be called on meta tensors"),
        (lambda x: x.nonzero(), NotImplementedError, "attempted to run this operator with Meta tensors"),
        (lambda x: x + torch.ones(3), RuntimeError, "found at least two devices, meta and cpu"),
        (
            lambda x: nn.Linear(3, 3, device="meta").to("cpu"),
            NotImplementedError,
            "use torch.nn.Module.to_empty",
        ),
        (lambda x: torch.compile(lambda y: y + 1)(x), NotImplementedError, "no elements to compile code for"),
    ],
)
def test_elements_are_refused(ask, error, text):
    with pytest.raises(error, match=text):
        ask(torch.empty(3, device="meta"))


def test_a_model_is_made_without_memory_and_filled_later():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1 << 20, 1 << 20), nn.Linear(4, 2))
    assert all(p.is_meta for p in model.parameters()) and model[0].weight.numel() == 1 << 40
    assert torch.ones(1).device.type == "cpu"
    small = nn.Linear(4, 2)
    model[1].load_state_dict(small.state_dict(), assign=True)
    x = torch.ones(1, 4)
    assert torch.equal(model[1](x), small(x))
    empty = nn.Linear(4, 2, device="meta").to_empty(device="cpu")
    empty.load_state_dict(small.state_dict())
    assert torch.equal(empty(x), small(x))


def test_an_ensemble_calls_a_model_without_weights():
    torch.manual_seed(0)
    models = [nn.Linear(4, 3) for _ in range(3)]
    params, buffers = stack_module_state(models)
    base, x = copy.deepcopy(models[0]).to("meta"), torch.randn(2, 4)
    found = vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers)
    torch.testing.assert_close(found, torch.stack([model(x) for model in models]))
