"""The scalar protocol (`codegen/scalar.py`) on whole NumPy arrays: formulas written over it computed at once.

Only what formulas of float64 need; a `fma` is rounded twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class ArrayScalars:
    """Each operation on arrays and Python numbers, broadcasting."""

    add = staticmethod(np.add)
    sub = staticmethod(np.subtract)
    mul = staticmethod(np.multiply)
    div = staticmethod(np.divide)
    neg = staticmethod(np.negative)
    abs = staticmethod(np.abs)
    max = staticmethod(np.maximum)
    min = staticmethod(np.minimum)
    sqrt = staticmethod(np.sqrt)
    floor = staticmethod(np.floor)
    trunc = staticmethod(np.trunc)
    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    log1p = staticmethod(np.log1p)
    sin = staticmethod(np.sin)
    cos = staticmethod(np.cos)
    tan = staticmethod(np.tan)
    lt = staticmethod(np.less)
    le = staticmethod(np.less_equal)
    gt = staticmethod(np.greater)
    ge = staticmethod(np.greater_equal)
    eq = staticmethod(np.equal)
    ne = staticmethod(np.not_equal)
    and_ = staticmethod(np.logical_and)
    or_ = staticmethod(np.logical_or)
    not_ = staticmethod(np.logical_not)
    select = staticmethod(np.where)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return a * b + c


ARRAY_SCALARS = ArrayScalars()
