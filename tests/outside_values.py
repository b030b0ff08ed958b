"""Little programs that read a value from outside, and the check that compiled calls follow when it changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import vitrify as torch

Program = Callable[[], tuple[Callable[[Any], Any], Callable[[], Any]]]


class Object:
    """An object with these attributes."""

    def __init__(self, **attributes: Any):
        self.__dict__.update(attributes)


@dataclasses.dataclass
class Data:
    scale: float = 2.0

    @property
    def doubled(self):
        return self.scale * 2


class Programs:
    """Decorates programs: each gives a function of a tensor, and a function that changes what that one reads."""

    def __init__(self) -> None:
        self.found: dict[str, Program] = {}

    def __call__(self, program: Program) -> Program:
        self.found[program.__name__] = program
        return program


def scaled(config, x):
    return x * config.scale


def scaled_item(options, x):
    return x * options["scale"]


def check_followed(function, change):
    """Compiled calls give what eager ones do, before and after the change, which makes a difference, and once they have
    been compiled anew they need no second look."""
    compiled = torch.compile(function)
    history = getattr(compiled, "_compiled", compiled).history
    x = torch.full((1,), 1.5)
    before = function(x).item()
    assert compiled(x).item() == compiled(x).item() == pytest.approx(before, rel=1e-4)
    change()
    after = function(x).item()
    assert after != pytest.approx(before, rel=1e-2)
    assert compiled(x).item() == pytest.approx(after, rel=1e-4)
    lookups = history.lookups
    assert compiled(x).item() == pytest.approx(after, rel=1e-4)
    assert history.lookups == lookups
