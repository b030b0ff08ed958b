"""Generators of random numbers outside vitrify: a trace that draws from one is good for no other call."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np


class RandomStates:
    """The states of Python's and NumPy's own generators and of those added, before a trace."""

    def __init__(self) -> None:
        self._before: list[tuple[str, Callable[[], Any], Any]] = []
        self._add("Python's random module", random.getstate)
        self._add("NumPy's random module", _state_of_numpy)

    def _add(self, what: str, state: Callable[[], Any]) -> None:
        self._before.append((what, state, state()))

    def add(self, what: str, value: Any) -> bool:
        """Whether it is a generator, whose state is noted."""
        if isinstance(value, random.Random):
            if type(value) is not random.SystemRandom:
                self._add(what, value.getstate)
        elif isinstance(value, np.random.Generator):
            self._add(what, lambda: _comparable(value.bit_generator.state))
        elif isinstance(value, np.random.RandomState):
            self._add(what, lambda: _comparable(value.get_state(legacy=False)))
        else:
            return False
        return True

    def drawn(self) -> list[str]:
        """Those from which numbers were drawn since."""
        return [what for what, state, before in self._before if state() != before]


def _state_of_numpy() -> Any:
    return _comparable(np.random.get_state(legacy=False))


def _comparable(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _comparable(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state
