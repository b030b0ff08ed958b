"""The eager core's expressions (`tests/references/eager_cases.py` compares their histories too)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "references"))
from eager_cases import EXPRESSIONS

from .table import Family, booleans, integers, normal, uniform

FAMILY = Family(
    inputs={
        "x": uniform(3, 4, low=0.5, high=1.5),
        "y": normal(3, 4),
        "m": normal(4, 5),
        "v": normal(4),
        "b": normal(2, 3, 4),
        "i": integers(3, 4),
        "c": booleans(3, 4),
    },
    samples="\n".join(EXPRESSIONS),
)
