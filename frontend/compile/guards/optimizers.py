"""What a compiled function reads of an optimizer whose `step` is the user's: any of its numbers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from ...optim.optimizer import Optimizer
from .lookup import Get, ItemOf, author
from .values import is_plain


def is_users_optimizer(value: Any) -> bool:
    """Whether it is an optimizer whose `step` is the user's code."""
    return (
        isinstance(value, Optimizer)
        and author(inspect.unwrap(type(value).step).__code__.co_filename) == "user"
    )


def numbers_of(what: str, optimizer: Optimizer) -> Iterator[tuple[str, Get]]:
    """(name, getter) of the numbers in its parameter groups and its state."""
    yield f"{what}: number of changes of its state", optimizer._read_version
    tables = [(f"{what}.param_groups[{i}]", group) for i, group in enumerate(optimizer.param_groups)]
    tables += [(f"{what}.state[{i}]", entries) for i, entries in enumerate(optimizer.state.values())]
    for where, table in tables:
        for key in (k for k, entry in table.items() if is_plain(entry)):
            yield f"{where}[{key!r}]", ItemOf(table, key)
