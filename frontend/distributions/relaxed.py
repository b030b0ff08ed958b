"""What the relaxed (concrete) distributions share. C. Maddison, A. Mnih, Y. Teh, 2017."""

from __future__ import annotations

from ..tensor import Tensor
from .transformed_distribution import Transformed


class Relaxed(Transformed):
    """A transformed distribution whose base has a temperature, and probabilities or their logits."""

    @property
    def temperature(self) -> Tensor:
        """The lower, the nearer samples come to discrete ones."""
        found: Tensor = self.base_dist.temperature
        return found

    @property
    def logits(self) -> Tensor:
        """Of the distribution that is relaxed."""
        found: Tensor = self.base_dist.logits
        return found

    @property
    def probs(self) -> Tensor:
        """Of the distribution that is relaxed."""
        found: Tensor = self.base_dist.probs
        return found
