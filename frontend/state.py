"""Per-thread state of the front end: which backend computes, and whether the tape records."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dispatch import Backend


class _Local(threading.local):
    """`default_backend` is set once, when the eager backend is loaded; each thread starts with it."""

    default_backend: Any = None

    def __init__(self) -> None:
        self.backend: Backend = self.default_backend
        self.grad_enabled = True
        self.inference = False
        # The GPU on which tensors are made that no argument places; None: the CPU.
        self.device: Any = None
        # While an in-place function computes its new value: the tensor it is going to overwrite, and the
        # records the tape saved of it meanwhile (they need a copy, see `tape.OverwriteScope`).
        self.overwriting: Any = None
        self.detect_anomaly = False
        # Eager code draws from the stream of compiled functions (`random.counter_based`).
        self.counter_based = False
        # What is traced or run is to give the same bits eagerly and compiled (`strict_numerics.py`).
        self.strict = False
        # Settings of mixed precision, None before anyone asked for them (`autocast.py`).
        self.autocast: Any = None
        self.check_nan = True
        # Called with a tensor before it is written to.
        self.write_checks: tuple[Any, ...] = ()
        # (pack, unpack) for what the tape saves, the innermost last (`autograd/graph.py`).
        self.saved_hooks: tuple[Any, ...] = ()
        # Why there may be none, if somebody has said so.
        self.saved_hooks_refused: str | None = None
        # Whether classes of arguments are asked, and the modes that are, the innermost last (`torch_function.py`).
        self.asks_classes = True
        # What `asks_classes` is for the program, where library code that is to ask nobody runs.
        self.asks_outside = False
        self.function_modes: tuple[Any, ...] = ()
        # The walks of `backward` that are going on, the innermost last (`autograd/engine.py`).
        self.walks: list[Any] = []


local = _Local()


def set_default_backend(backend: Backend) -> None:
    """Name the backend that threads start with, and switch this thread to it."""
    _Local.default_backend = backend
    local.backend = backend


@contextmanager
def having(**values: Any) -> Iterator[None]:
    """Have these attributes of `local` be so inside the block."""
    before = {name: getattr(local, name) for name in values}
    vars(local).update(values)
    try:
        yield
    finally:
        vars(local).update(before)


def strictly(strict: bool) -> AbstractContextManager[None]:
    """Have `local.strict` be so inside the block."""
    return having(strict=strict)
