"""When a value is still the same for a traced program."""

from __future__ import annotations

import math
from operator import is_
from typing import Any

import numpy as np

from .lookup import own_attributes

_PLAIN = (int, float, complex, bool, str, bytes, type(None), np.generic)


def is_plain(value: Any) -> bool:
    """Whether a guard compares the value by equality."""
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(map(is_plain, value)))


def same_value(a: Any, b: Any) -> bool:
    """Whether two plain values are the same for a program: 2 is not 2.0, which makes another dtype, and 0.0 is not -0.0;
    one NaN is another."""
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and (all(map(is_, a, b)) or all(map(same_value, a, b)))
    if a != b:
        return bool(a != a and b != b)
    return bool(a) or not isinstance(a, float | np.floating) or math.copysign(1, a) == math.copysign(1, b)


def same_argument(a: Any, b: Any) -> bool:
    """Whether a call with the argument `a`, which is no tensor, may use what was traced with `b`. Other objects than `b`
    must be equal to it, and hold the same: `__eq__` need not look at everything."""
    if a is b:
        return True
    if type(a) is not type(b) or is_plain(b):
        return same_value(a, b)
    try:
        if a != b:
            return False
    except Exception:  # the user's `__eq__`, perhaps on tensors
        return False
    ours, theirs = own_attributes(a) or {}, own_attributes(b) or {}
    return ours.keys() == theirs.keys() and all(same_argument(ours[name], theirs[name]) for name in theirs)
