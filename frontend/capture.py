"""What library code tells the tracer about the Python values it uses.

Code that runs eagerly and inside compiled functions (optimizers, dropout) reads some things that are not tensors: a
learning rate, whether momentum is zero, the random generator's state. Eagerly each function here just gives the value.
While a function is compiled the active tracer answers instead, so that nothing is baked into the graph by accident.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .state import local

if TYPE_CHECKING:
    from .tape import Node
    from .tensor import Tensor

T = TypeVar("T")


class Capture(Protocol):
    """The tracer's side. `gpu`: where the compiled function will run, None: on the CPU."""

    gpu: Any

    def hyperparameter(self, get: Callable[[], float], name: str) -> Tensor: ...
    def guard_value(self, get: Callable[[], Any], name: str) -> None: ...
    def create_state(self, make: Callable[[], Any]) -> Any: ...
    def random_state(self) -> tuple[Tensor, int]: ...
    def branch(self, tensor: Tensor) -> bool: ...
    def moves_between_devices(self, to: Any) -> Exception: ...

    @property
    def location(self) -> Any:
        """Where in the user's program the latest op was called."""

    def differentiating(self, node: Node | None) -> None:
        """The ops that follow belong to the gradient of this node of the tape; None: to the user's code again."""


class TraceAgain(Exception):
    """Raised by library code that found something to do once, and did it: the trace starts anew. Modules among its
    arguments stay as they are now."""


def active() -> Capture | None:
    """The tracer, while a function is being compiled in this thread."""
    return local.backend.capture


def counter_based() -> bool:
    """Whether random numbers come from the counter-based stream: while compiling, or where someone asked for it."""
    return local.counter_based or local.backend.capture is not None


def vmap() -> Any:
    """The vmap that is running in this thread."""
    return local.backend.vmap


def hyperparameter(get: Callable[[], float], name: str) -> float | Tensor:
    """A number that may change between calls: the number itself, or a 0-d float64 tensor that stands for it."""
    capture = local.backend.capture
    return get() if capture is None else capture.hyperparameter(get, name)


def guard_value(get: Callable[[], T], name: str) -> T:
    """A value that decides which code runs; a compiled function is only used while it stays the same."""
    capture = local.backend.capture
    if capture is not None:
        capture.guard_value(get, name)
    return get()


def create_state(make: Callable[[], T]) -> T:
    """State that outlives the call (a momentum buffer of zeros), made for real even while compiling."""
    capture = local.backend.capture
    return make() if capture is None else capture.create_state(make)
