"""The error for what cannot be captured."""

from __future__ import annotations


class TraceError(RuntimeError):
    """The function cannot be captured as one graph; the message names the user's line and what to write instead."""
