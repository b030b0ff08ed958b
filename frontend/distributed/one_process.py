"""What PyTorch's classes for several processes say here: there is one."""

from __future__ import annotations

from typing import Any


class NeedsProcesses:
    """RuntimeError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError("Requires distributed package to be available")


class ProcessGroup(NeedsProcesses):
    """Processes that talk to each other."""
