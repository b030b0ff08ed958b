"""Rules of ai.onnx.preview.training: a step of an optimizer as a node.

The inputs are the learning rate, the number of the update, then all variables, their gradients and the states. Beside
the variables come their new states.
"""

from __future__ import annotations

from collections.abc import Sequence

import vitrify as torch

from ..tensor import Tensor
from .table import Call, ONNXError, rule

_DOMAIN = "ai.onnx.preview.training"


def _grouped(call: Call, kinds: int) -> list[list[Tensor]]:
    """For each variable the variable, its gradient and its states."""
    rest = [call.tensor(i) for i in range(2, len(call.inputs))]
    if len(rest) % kinds:
        raise ONNXError(f"{len(rest)} tensors are no groups of {kinds}")
    count = len(rest) // kinds
    return [rest[i::count] for i in range(count)]


def _turned(updated: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """All variables, then all states of a kind, and so on."""
    return tuple(value for kind in zip(*updated) for value in kind)


@rule("Adagrad", domain=_DOMAIN)
def adagrad(call: Call) -> tuple[Tensor, ...]:
    rate = call.tensor(0) / (1 + call.tensor(1) * call.attr("decay_factor", 0.0))
    found = []
    for x, g, squares in _grouped(call, 3):
        g = call.attr("norm_coefficient", 0.0) * x + g
        squares = squares + g * g
        found.append((x - rate * g / (torch.sqrt(squares) + call.attr("epsilon", 1e-6)), squares))
    return _turned(found)


@rule("Adam", domain=_DOMAIN)
def adam(call: Call) -> tuple[Tensor, ...]:
    alpha, beta = call.attr("alpha", 0.9), call.attr("beta", 0.999)
    rate, count = call.tensor(0), call.tensor(1)
    first = torch.sqrt(1 - beta**count) / (1 - alpha**count)
    rate = torch.where(count > 0, rate * first, rate)
    found = []
    for x, g, mean, squares in _grouped(call, 4):
        g = call.attr("norm_coefficient", 0.0) * x + g
        mean = alpha * mean + (1 - alpha) * g
        squares = beta * squares + (1 - beta) * g * g
        x = x - rate * mean / (torch.sqrt(squares) + call.attr("epsilon", 1e-6))
        found.append(((1 - call.attr("norm_coefficient_post", 0.0)) * x, mean, squares))
    return _turned(found)


@rule("Momentum", domain=_DOMAIN)
def momentum(call: Call) -> tuple[Tensor, ...]:
    alpha, rate = call.attr("alpha", 0.0), call.tensor(0)
    nesterov = call.attr("mode", "standard") == "nesterov"
    beta = torch.where(call.tensor(1) > 0, call.attr("beta", 0.0), 1.0)
    found = []
    for x, g, speed in _grouped(call, 3):
        g = call.attr("norm_coefficient", 0.0) * x + g
        speed = (alpha * speed + beta * g).to(x.dtype)
        found.append(((x - rate * (g + alpha * speed if nesterov else speed)).to(x.dtype), speed))
    return _turned(found)
