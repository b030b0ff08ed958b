"""Makes scalar_math.npz: float64 arguments over every exponent, and the functions' values to 30 digits. Needs
mpmath."""

from __future__ import annotations

from pathlib import Path

import mpmath as mp  # type: ignore[import-not-found]
import numpy as np

mp.mp.dps = 40
mp.mp.prec = max(mp.mp.prec, 160)
INVERSE = ("asin", "acos", "atan", "asinh", "acosh", "atanh")
UNARY = ("exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "erf", *INVERSE)


def arguments(op: str, rng: np.random.Generator) -> np.ndarray:
    exponents = rng.integers(0, 2047, 900, dtype=np.uint64) << np.uint64(52)
    bits = exponents | rng.integers(0, 1 << 52, exponents.size, dtype=np.uint64)
    wide = bits.view(np.float64) * rng.choice([-1, 1], exponents.size)
    dense = [rng.uniform(-a, a, 200) for a in (1e-3, 1.5, 6, 40, 800)] + [1 + rng.uniform(-1e-3, 1e-3, 200)]
    x = np.concatenate([wide, *dense])
    if op == "log":
        x = np.abs(x)
    if op == "log1p":
        x = np.where(x > -1, x, -x)
    if op in ("asin", "acos", "atanh"):
        x = x[np.abs(x) < 1]
    if op == "acosh":
        x = np.abs(x[np.abs(x) >= 1])
    if op in ("exp", "expm1"):
        x = x[np.abs(x) < 750]
    return x


def split(value: mp.mpf) -> tuple[float, float]:
    high = float(value)
    return high, float(value - mp.mpf(high)) if np.isfinite(high) else 0.0


def main() -> None:
    rng = np.random.default_rng(0)
    out: dict[str, np.ndarray] = {}
    for op in UNARY:
        x = arguments(op, rng)
        mp.mp.prec = 1300 if op in ("sin", "cos", "tan") else 160
        values = [split(getattr(mp, op)(mp.mpf(float(v)))) for v in x]
        out[f"{op}.0"] = x
        out[f"{op}.high"], out[f"{op}.low"] = np.array(values).T
    mp.mp.prec = 200
    exponents = rng.integers(900, 1150, 2000, dtype=np.uint64) << np.uint64(52)
    bits = exponents | rng.integers(0, 1 << 52, exponents.size, dtype=np.uint64)
    y, x = (bits.view(np.float64) * rng.choice([-1, 1], exponents.size)).reshape(2, -1)
    y[:500], x[:500] = rng.uniform(-1, 1, 500), rng.uniform(-1, 1, 500)
    values = [split(mp.atan2(mp.mpf(float(a)), mp.mpf(float(b)))) for a, b in zip(y, x)]
    out["atan2.0"], out["atan2.1"] = y, x
    out["atan2.high"], out["atan2.low"] = np.array(values).T
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 700)), 1 + rng.uniform(-0.5, 1, 700)])
    y = np.concatenate(
        [rng.uniform(-1, 1, 700) * 745 / np.abs(np.log(x[:700])), rng.uniform(-1, 1, 700) * 3000]
    )
    values = [split(mp.mpf(float(a)) ** mp.mpf(float(b))) for a, b in zip(x, y)]
    out["pow.0"], out["pow.1"] = x, y
    out["pow.high"], out["pow.low"] = np.array(values).T
    np.savez_compressed(Path(__file__).parent / "scalar_math.npz", **out)


if __name__ == "__main__":
    main()
