"""Warnings name the user's line, behind decorators, modules and autograd's walk."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


def hooked() -> None:
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda *given: None)
    layer(torch.ones(1, 2)).sum().backward()


@pytest.mark.parametrize(
    "call",
    [
        lambda: F.l1_loss(torch.ones(3, 1), torch.ones(3)),
        lambda: nn.MSELoss()(torch.ones(3, 1), torch.ones(3)),
        lambda: nn.Softmax()(torch.ones(2, 2)),
        lambda: F.kl_div(torch.zeros(2, 2), torch.ones(2, 2)),
        lambda: torch.cross(torch.ones(2, 3), torch.ones(2, 3)),
        hooked,
    ],
)
def test_the_line_is_the_users(call: Callable[[], object]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert [w.filename for w in caught] == [__file__]


def test_nodes_of_functions_print_where_they_come_from() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    node = Twice.apply(torch.ones(2, requires_grad=True)).grad_fn
    assert repr(node).startswith("<torch.autograd.function.TwiceBackward object at 0x")
