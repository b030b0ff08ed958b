"""The special functions against values that mpmath rounded (`references/make_special_functions.py`), on arrays and in
generated code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_scalar_math import apply

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir.op import op_named
from vitrify.ir.special_functions import FORMULAS

REFERENCES = np.load(Path(__file__).parent / "references" / "special_functions.npz")
NAMES = sorted({key.split(".")[0] for key in REFERENCES.files})


def reference(name: str) -> tuple[list[np.ndarray], np.ndarray]:
    return [REFERENCES[key] for key in (f"{name}.0", f"{name}.1") if key in REFERENCES.files], REFERENCES[
        f"{name}.y"
    ]


def error(got: np.ndarray, want: np.ndarray, scale: float) -> float:
    """The largest error relative to the value, or to `scale` where the value is smaller (next to its zeros)."""
    with np.errstate(invalid="ignore"):
        wrong = np.abs(got - want) / np.maximum(np.abs(want), scale)
    return float(np.where(got == want, 0.0, wrong).max())


# Sizes around the zeros of functions that change sign; the others are good relative to any value.
SCALES = {
    "lgamma": 0.1, "digamma": 0.5, "bessel_j0": 0.3, "bessel_j1": 0.3, "bessel_y0": 0.3, "bessel_y1": 0.3,
    "airy_ai": 0.3, "ndtri": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_values_on_arrays(name: str) -> None:
    arguments, want = reference(name)
    with np.errstate(all="ignore"):
        got = op_named(name).numpy(*arguments)
    # Small arguments of functions that vanish at 0 are exact relative to the value: J1, I1.
    assert error(got, want, SCALES.get(name, 0.0)) < (2e-11 if name == "airy_ai" else 2e-13)


@pytest.mark.parametrize("name", [n for n in NAMES if n in FORMULAS])
def test_values_in_generated_code(name: str) -> None:
    arguments, want = reference(name)
    assert error(apply(name, *arguments), want, SCALES.get(name, 0.0)) < 1e-13
    with np.errstate(over="ignore"):
        single = [a.astype(np.float32) for a in arguments]
    with np.errstate(all="ignore"):
        rounded = op_named(name).numpy(*single)
    np.testing.assert_allclose(apply(name, *single), rounded, rtol=2.5e-7)
