"""Silence for NumPy's floating point warnings, which tensors do not give.

`np.errstate` is a Python class whose construction, entry and exit take ten times as long as setting the context
variable beneath it (1 us and 0.1 us, NumPy 2.4), and a third of a small op. So that is set here directly, where
NumPy has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

silence: Callable[[], Any]
restore: Callable[[Any], None]

try:
    from numpy._core.umath import _extobj_contextvar, _make_extobj
except ImportError:  # another NumPy

    def silence() -> Any:
        """Switch the warnings off in this thread; returns what `restore` takes."""
        return np.seterr(all="ignore")

    def restore(before: Any) -> None:
        """Switch them back to what they were."""
        np.seterr(**before)

else:
    _SILENT = _make_extobj(all="ignore")
    _set = _extobj_contextvar.set
    restore = _extobj_contextvar.reset

    def silence() -> Any:
        """Switch the warnings off in this thread; returns what `restore` takes."""
        return _set(_SILENT)
