"""Inside `vmap` a tensor says where the tensor of all samples is, and what is made like it is made there."""

from __future__ import annotations

import pytest

import vitrify as torch
from vitrify.func import grad, vmap

pytestmark = pytest.mark.usefixtures("cuda")


def batch() -> torch.Tensor:
    return torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], device="cuda")


def test_a_sample_says_where_it_is():
    seen = []
    vmap(lambda v: (seen.append((str(v.device), v.is_cuda, v.get_device())), v)[1])(batch())
    vmap(vmap(lambda v: (seen.append((str(v.device), v.is_cuda, v.get_device())), v)[1]))(batch())
    assert seen == [("cuda:0", True, 0)] * 2


def test_what_is_made_like_a_sample_is_beside_it():
    x = batch()
    for make in (
        lambda v: torch.zeros_like(v).copy_(v),
        lambda v: v + v.new_zeros(2),
        lambda v: v + torch.zeros(2, device=v.device),
        lambda v: v.to(v.device),
    ):
        found = vmap(make)(x)
        assert found.is_cuda and torch.equal(found, x)
    found = vmap(vmap(lambda v: torch.zeros_like(v).add_(v)))(x)
    assert found.is_cuda and torch.equal(found, x)
    assert vmap(lambda v, i: v[i])(x, torch.tensor([[1], [0], [1]])).tolist() == [[2.0], [3.0], [6.0]]
    with pytest.raises(RuntimeError, match="on the same device"):
        vmap(lambda v: v + torch.zeros(2))(x)


def test_random_numbers_are_drawn_where_the_sample_is():
    x = batch()
    for draw in (torch.rand_like, lambda v: torch.empty_like(v).uniform_()):
        found = vmap(draw, randomness="different")(x)
        assert found.is_cuda and len(set(found.reshape(-1).tolist())) == 6
    assert vmap(lambda v: torch.rand(2, device=v.device), randomness="same")(x).is_cuda


def test_samples_move_and_gradients_move_back():
    x = batch()
    assert not vmap(lambda v: v.cpu() * 2)(x).is_cuda
    found = vmap(grad(lambda v: (v.cuda() ** 2).sum()))(x.cpu())
    assert not found.is_cuda and torch.equal(found, x.cpu() * 2)
