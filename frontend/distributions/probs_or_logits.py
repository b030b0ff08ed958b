"""Distributions with one parameter that is given as probabilities or as log-odds."""

from __future__ import annotations

from typing import Any

from ..size import Size
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, is_number, lazy_property, logits_to_probs, probs_to_logits


def check_one_given(probs: Any, logits: Any) -> None:
    """ValueError unless exactly one of the two is given."""
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


class ProbsOrLogits(Distribution):
    """Keeps the one that was given; the other is computed when it is first asked for."""

    _given: str

    def _set_parameter(self, probs: Any, logits: Any) -> Size:
        """Take whichever is not None; its shape, which is empty for a number."""
        check_one_given(probs, logits)
        self._given, value = ("probs", probs) if logits is None else ("logits", logits)
        (self.__dict__[self._given],) = broadcast_all(value)
        return Size() if is_number(value) else self._param.shape

    def _expanded(self, cls: type, batch_shape: Any, _instance: Any, *names: str) -> Any:
        new = super()._expanded(cls, batch_shape, _instance, "probs", "logits", *names)
        new._given = self._given
        return new

    @property
    def _param(self) -> Tensor:
        """The parameter as it was given."""
        found: Tensor = self.__dict__[self._given]
        return found

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits, is_binary=True)

    @property
    def param_shape(self) -> Size:
        """The shape of probs or logits, whichever was given."""
        return self._param.size()

    def _new(self, *args: Any, **kwargs: Any) -> Tensor:
        made: Tensor = self._param.new(*args, **kwargs)
        return made
