"""Makes special_functions.npz: arguments and the special functions' values, correctly rounded. Needs mpmath."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mpmath as mp  # type: ignore[import-not-found]
import numpy as np

mp.mp.dps = 40
Array = np.ndarray


def positive(rng: np.random.Generator) -> Array:
    return np.concatenate([10 ** rng.uniform(-6, 2.3, 60), rng.uniform(0, 12, 80), [1e-290, 0.5, 1, 2, 3, 8]])


def both_signs(rng: np.random.Generator) -> Array:
    x = positive(rng)
    return x * rng.choice([-1, 1], x.size)


def gamma_arguments(rng: np.random.Generator) -> Array:
    return np.concatenate([positive(rng), [1e8, 1e200], -rng.uniform(0, 20, 40)])


def probabilities(rng: np.random.Generator) -> Array:
    return np.concatenate(
        [rng.uniform(0, 1, 80), 10 ** rng.uniform(-14, 0, 40), 1 - 10 ** rng.uniform(-14, 0, 20)]
    )


def quantile(p: mp.mpf) -> mp.mpf:
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


FUNCTIONS: dict[str, tuple[Callable[..., mp.mpf], Callable[[np.random.Generator], Array]]] = {
    "lgamma": (lambda x: mp.log(abs(mp.gamma(x))) if x < 0 else mp.re(mp.loggamma(x)), gamma_arguments),
    "digamma": (mp.digamma, gamma_arguments),
    "trigamma": (lambda x: mp.polygamma(1, x), lambda rng: gamma_arguments(rng)[1:]),
    "erfc": (mp.erfc, lambda rng: rng.uniform(-6, 26, 150)),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), lambda rng: rng.uniform(-20, 60, 150)),
    "log_ndtr": (lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2), lambda rng: rng.uniform(-35, 8, 150)),
    "ndtri": (quantile, probabilities),
    "erfinv": (mp.erfinv, lambda rng: probabilities(rng) * rng.choice([-1, 1], 140)),
    "i0": (lambda x: mp.besseli(0, x), both_signs),
    "i0e": (lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), both_signs),
    "i1": (lambda x: mp.besseli(1, x), both_signs),
    "i1e": (lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), both_signs),
    "bessel_j0": (lambda x: mp.besselj(0, x), both_signs),
    "bessel_j1": (lambda x: mp.besselj(1, x), both_signs),
    "bessel_y0": (lambda x: mp.bessely(0, x), positive),
    "bessel_y1": (lambda x: mp.bessely(1, x), positive),
    "modified_bessel_k0": (lambda x: mp.besselk(0, x), positive),
    "modified_bessel_k1": (lambda x: mp.besselk(1, x), positive),
    "scaled_modified_bessel_k0": (lambda x: mp.exp(x) * mp.besselk(0, x), positive),
    "scaled_modified_bessel_k1": (lambda x: mp.exp(x) * mp.besselk(1, x), positive),
}


def incomplete(upper: bool) -> Callable[[mp.mpf, mp.mpf], mp.mpf]:
    return lambda a, x: (
        mp.gammainc(a, x, mp.inf, regularized=True) if upper else mp.gammainc(a, 0, x, regularized=True)
    )


def main() -> None:
    rng = np.random.default_rng(0)
    out: dict[str, Array] = {}
    for name, (function, arguments) in FUNCTIONS.items():
        x = arguments(rng)
        out[f"{name}.0"] = x
        out[f"{name}.y"] = np.array([float(function(mp.mpf(float(v)))) for v in x])
    a = 10 ** rng.uniform(-2, 2.5, 120)
    x = a * 10 ** rng.uniform(-1, 0.7, 120)
    for name, upper in (("igamma", False), ("igammac", True)):
        values = [float(incomplete(upper)(mp.mpf(float(p)), mp.mpf(float(q)))) for p, q in zip(a, x)]
        out[f"{name}.0"], out[f"{name}.1"], out[f"{name}.y"] = a, x, np.array(values)
    s, q = rng.uniform(1.05, 20, 120), 10 ** rng.uniform(-1, 2, 120)
    out["zeta.0"], out["zeta.1"] = s, q
    out["zeta.y"] = np.array([float(mp.zeta(mp.mpf(float(u)), mp.mpf(float(v)))) for u, v in zip(s, q)])
    x = rng.uniform(-30, 12, 150)
    out["airy_ai.0"], out["airy_ai.y"] = x, np.array([float(mp.airyai(mp.mpf(float(v)))) for v in x])
    np.savez_compressed(Path(__file__).parent / "special_functions.npz", **out)


if __name__ == "__main__":
    main()
