"""Muon."""

from __future__ import annotations

import math
from typing import Any

from ..creation import zeros_like
from ..ir import dtypes
from ..tensor import Tensor
from .optimizer import Group
from .per_parameter import Numbers, PerParameter


class Muon(PerParameter):
    """Momentum whose matrix is replaced by the nearest orthogonal one; for matrices only. K. Jordan, "Muon: an optimizer
    for hidden layers in neural networks", 2024, https://kellerjordan.github.io/posts/muon/.

    `adjust_lr_fn`: "original" scales by sqrt(max(1, rows / columns)), "match_rms_adamw" by 0.2 sqrt(max(rows, columns)):
    J. Liu et al., "Muon is scalable for LLM training", 2025.
    """

    own_decay = True
    flags = ("nesterov",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not momentum >= 0.0:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not weight_decay >= 0.0:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        })  # fmt: skip
        for param in (p for group in self.param_groups for p in group["params"]):
            if param.ndim != 2:
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {param.size()}"
                )

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {"momentum_buffer": zeros_like(param)}

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        momentum, lr = numbers("momentum"), numbers("lr")
        coefficients, steps, eps, adjust = numbers.constants(
            "ns_coefficients", "ns_steps", "eps", "adjust_lr_fn"
        )
        buffer = state["momentum_buffer"]
        buffer.add_((grad - buffer) * (1.0 - momentum))
        update = grad + (buffer - grad) * momentum if flags["nesterov"] else buffer
        direction = _orthogonalised(update, coefficients, steps, eps)
        if flags["weight_decay"]:
            param.mul_(1.0 - lr * numbers("weight_decay"))
        param.sub_(direction * (lr * _factor(adjust, tuple(param.shape))))


def _factor(adjust: str | None, shape: tuple[int, ...]) -> float:
    rows, columns = shape
    if adjust == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))


def _orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """U V^T of the singular value decomposition, nearly: a Newton-Schulz iteration of a quintic, in bfloat16."""
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.to(dtypes.bf16)
    found = found.T if tall else found
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = (gram * b + (gram @ gram) * c) @ found + found * a
    return (found.T if tall else found).to(matrix.dtype)
