"""`torch.jit.annotations`: the names of types that programs written for TorchScript import from here."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union  # noqa: UP035  (the names themselves are wanted)

__all__ = ["Any", "Dict", "List", "Optional", "Tuple", "Union"]
