"""What distributions share whose parameter is a categorical distribution's."""

from __future__ import annotations

from typing import Any

from ..size import Size
from ..tensor import Tensor
from .categorical import Categorical
from .distribution import Distribution


class OverCategorical(Distribution):
    """Samples are vectors with an element for each category."""

    _categorical: Categorical

    def _event(self) -> tuple[Size, Size]:
        return self._categorical.batch_shape, self._categorical.param_shape[-1:]

    @property
    def _param(self) -> Tensor:
        return self._categorical._param

    @property
    def probs(self) -> Tensor:
        """Probabilities of the classes, along the last dim."""
        found: Tensor = self._categorical.probs
        return found

    @property
    def logits(self) -> Tensor:
        """Log-probabilities of the classes, along the last dim."""
        found: Tensor = self._categorical.logits
        return found

    @property
    def param_shape(self) -> Size:
        """The shape of probs or logits, whichever was given."""
        return self._categorical.param_shape

    def _new(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._categorical._new(*args, **kwargs)
