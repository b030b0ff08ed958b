"""Anomaly mode: the tape remembers where each node was made, and `backward` says so where a gradient goes wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from .. import dispatch
from ..dispatch import op_named
from ..state import local
from ..tape import Node
from ..tensor import Tensor, data_changed

_ISNAN, _ANY = map(op_named, ("isnan", "any"))


def _set(mode: bool, check_nan: bool) -> tuple[bool, bool]:
    """Set the mode; what it was. Compiled functions ask for it when they look at everything again."""
    before = local.detect_anomaly, local.check_nan
    local.detect_anomaly, local.check_nan = mode, check_nan
    data_changed()
    return before


class set_detect_anomaly:
    """Switch anomaly mode, from the call on; as a context manager, until its end.

    `check_nan`: have `backward` raise RuntimeError where a node gives NaN."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self._before = _set(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        _set(*self._before)


class detect_anomaly:
    """`set_detect_anomaly(True)` for a `with` block. Functions that are compiled are compiled with tests for NaN
    (docs/inspection.md)."""

    def __init__(self, check_nan: bool = True):
        self.check_nan = check_nan
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for "
            "debugging.",
            stacklevel=2,
        )

    def __enter__(self) -> None:
        self._before = _set(True, self.check_nan)

    def __exit__(self, *_: Any) -> None:
        _set(*self._before)


def is_anomaly_enabled() -> bool:
    """Whether anomaly mode is on in this thread."""
    return local.detect_anomaly


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """Switch anomaly mode in this thread."""
    _set(mode, check_nan)


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode looks for NaN."""
    return local.check_nan


def warn_of_origin(node: Node) -> None:
    """UserWarning with the calls that made a node whose gradient went wrong, and those that led to these."""
    calls = node.metadata.get("traceback_")
    if calls is None:
        warnings.warn(
            f"Error detected in {node.name()}. No forward pass information available. Enable detect anomaly during "
            "forward pass for more information.",
            stacklevel=2,
        )
        return
    warnings.warn(
        f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n{''.join(calls)}",
        stacklevel=2,
    )
    parent = node.metadata.get("parent_")
    while parent is not None:
        calls = parent.metadata.get("traceback_")
        if calls is None:
            warnings.warn(
                f"\n\nPrevious calculation was induced by {parent.name()}. No forward pass information available. "
                "Enable detect anomaly during forward pass for more information.",
                stacklevel=2,
            )
            return
        warnings.warn(
            f"\n\nPrevious calculation was induced by {parent.name()}. Traceback of forward call that induced the "
            f"previous calculation:\n{''.join(calls)}",
            stacklevel=2,
        )
        parent = parent.metadata.get("parent_")


def check_nan(node: Node, found: Sequence[Tensor | None]) -> None:
    """RuntimeError if a gradient that the node gave has NaN."""
    for number, grad in enumerate(found):
        if grad is not None and grad.dtype.kind == "float":
            dims = tuple(range(grad.ndim))
            if local.backend.scalar(dispatch.apply(_ANY, (dispatch.apply(_ISNAN, (grad,)),), {"dims": dims})):
                raise RuntimeError(f"Function '{node.name()}' returned nan values in its {number}th output.")
