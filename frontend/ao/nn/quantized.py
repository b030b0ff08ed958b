"""`torch.ao.nn.quantized`: arithmetic as a module, so that a quantization workflow could watch its results.

https://docs.pytorch.org/docs/stable/generated/torch.ao.nn.quantized.FloatFunctional.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from ...functional_joining import cat
from ...functional_matmul import matmul
from ...nn import Identity, Module
from ...tensor import Tensor


class FloatFunctional(Module):
    """Operations on float tensors. Each result goes through `activation_post_process`, at first the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.activation_post_process = Identity()

    def forward(self, x: Any) -> NoReturn:
        raise RuntimeError(
            "FloatFunctional is not intended to use the 'forward'. Please use the underlying operation"
        )

    def _seen(self, result: Tensor) -> Tensor:
        seen: Tensor = self.activation_post_process(result)
        return seen

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return self._seen(x + y)

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        """x + y, without a look at it: it is as far apart as x."""
        return x + y

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        return self._seen(x * y)

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        """x · y, without a look at it."""
        return x * y

    def cat(self, x: Sequence[Tensor], dim: int = 0) -> Tensor:
        return self._seen(cat(x, dim=dim))

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        return self._seen((x + y).relu())

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return self._seen(matmul(x, y))


__all__ = ["FloatFunctional"]
