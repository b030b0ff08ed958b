"""`torch.SymInt`: a size that a traced program does not know. Numbers other than sizes are tensors there."""

from __future__ import annotations

from .ir.dims import Expr as SymInt


class SymFloat:
    """PyTorch's class of symbolic floats; nothing here is an instance."""


class SymBool:
    """PyTorch's class of symbolic truth values; nothing here is an instance."""


__all__ = ["SymBool", "SymFloat", "SymInt"]
