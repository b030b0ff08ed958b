"""torch.special, the special functions of torch, and the window functions."""

from __future__ import annotations

import numpy as np

from .table import Family, given, integers, normal, spread, uniform

_ANYWHERE = [
    "entr",
    "erf",
    "erfc",
    "erfcx",
    "exp2",
    "expit",
    "expm1",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "log_ndtr",
    "ndtr",
    "sinc",
    "round",
]
_POSITIVE = ["digamma", "gammaln", "psi", "log1p"]
_BESSEL = [
    "airy_ai",
    "bessel_j0",
    "bessel_j1",
    "modified_bessel_i0",
    "modified_bessel_i1",
    "spherical_bessel_j0",
]
_SECOND_KIND = [
    "bessel_y0",
    "bessel_y1",
    "modified_bessel_k0",
    "modified_bessel_k1",
    "scaled_modified_bessel_k0",
    "scaled_modified_bessel_k1",
]
_POLYNOMIALS = [
    "chebyshev_polynomial_t",
    "chebyshev_polynomial_u",
    "chebyshev_polynomial_v",
    "chebyshev_polynomial_w",
    "hermite_polynomial_h",
    "hermite_polynomial_he",
    "laguerre_polynomial_l",
    "legendre_polynomial_p",
    "shifted_chebyshev_polynomial_t",
    "shifted_chebyshev_polynomial_u",
    "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w",
]
_ONE = [*_ANYWHERE, *_POSITIVE, *_BESSEL, *_SECOND_KIND, "ndtri", "logit", "erfinv"]
_METHODS = ["digamma", "lgamma", "i0", "sinc"]
_WINDOWS = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
    "general_hamming",
]


def _lines(*groups: list[str]) -> str:
    return "\n".join(line for group in groups for line in group)


def _all(call: str, names: list[str]) -> str:
    """One sample of one call for every name: where there are no gradients to tell apart."""
    return "[" + ", ".join(call.format(n) for n in names) + "]"


FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "l": uniform(3, 4, low=-20.0, high=20.0),
        "p": uniform(3, 4, low=0.2, high=8.0),
        "q": uniform(3, 4, low=0.2, high=20.0),
        "u": uniform(3, 4, low=0.02, high=0.98),
        "s": uniform(3, 4, low=-0.98, high=0.98),
        "t": uniform(4, low=1.1, high=5.0),
        "d": spread(4),
        "i": integers(3, 4, low=1, high=9),
        "e": normal(0, 4),
        "w": given([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.5, 30.0, float("inf"), -float("inf"), float("nan")]),
        "n": given([0, 1, 2, 3], np.int64),
    },
    samples=_lines(
        [f"torch.special.{n}(x)" for n in _ANYWHERE],
        [f"torch.special.{n}(l)" for n in ["log_ndtr", "ndtr", "erfc", "i0e", "i1e", "sinc", *_BESSEL]],
        [f"torch.special.{n}(p)" for n in [*_POSITIVE, *_SECOND_KIND]],
        [f"torch.special.{n}(q)" for n in [*_POSITIVE, *_SECOND_KIND, "erfcx", "entr"]],
        [f"torch.special.{n}(u)" for n in ("ndtri", "logit", "erfinv")],
        [f"torch.special.{n}(s)" for n in ("erfinv", "airy_ai")],
        [_all("torch.special.{}(w)", [n for n in _ONE if n != "airy_ai"])],
        [_all("torch.special.{}(i)", [n for n in _ONE if n != "round"])],
        [_all("torch.special.{}(e)", _ONE)],
        [_all("torch.special.{}(p.detach(), out=torch.empty(0))", _ONE)],
        [f"torch.special.{n}(l, n.reshape(4))" for n in _POLYNOMIALS[4:6]],
        [_all("torch.special.{}(x, n)", _POLYNOMIALS)],
        [f"torch.special.{n}(s, 3)" for n in _POLYNOMIALS],
        [_all("torch.special.{}(0.5, n)", _POLYNOMIALS)],
        [_all("torch.special.{}(w[:8], 5.0)", _POLYNOMIALS)],
        [f"torch.{n}(p)" for n in _METHODS],
        [f"p.{n}()" for n in _METHODS],
        [f"a = p.clone(); a.{n}_(); a" for n in _METHODS],
        [f"torch.{n}(i)" for n in _METHODS],
        [f"torch.signal.windows.{w}({m}, sym={sym})" for w in _WINDOWS for m, sym in ((7, True), (8, False))],
        [_all("torch.signal.windows.{}(0)", _WINDOWS), _all("torch.signal.windows.{}(1)", _WINDOWS)],
        [
            f"torch.{w}_window({arguments})"
            for w in ("bartlett", "blackman", "hamming", "hann", "kaiser")
            for arguments in ("7", "8, periodic=False", "1", "0", "6, dtype=torch.float64")
        ],
    )
    + """
    a = x.clone(); torch.i0_(a); a
    a = x.clone(); torch.sinc_(a); a
    torch.sinc(torch.cat([x.flatten(), torch.zeros(2)]))
    torch.lgamma(w)
    torch.lgamma(-p)
    torch.digamma(-p)
    torch.erfinv(s)
    s.erfinv()
    a = s.clone(); a.erfinv_(); a
    torch.logit(u)
    torch.logit(u, 0.3)
    torch.logit(w, eps=0.1)
    u.logit()
    a = u.clone(); a.logit_(); a
    a = u.clone(); torch.logit_(a, 0.2); a
    torch.special.logit(u, eps=1e-2)
    torch.mvlgamma(p + 1, 2)
    (p + 2).mvlgamma(4)
    torch.mvlgamma(i, 1)
    a = p + 2; a.mvlgamma_(3); a
    torch.special.multigammaln(p + 1, 3)
    torch.polygamma(0, p)
    torch.polygamma(1, p)
    torch.polygamma(3, p)
    torch.polygamma(2, -p)
    p.polygamma(2)
    a = p.clone(); a.polygamma_(1); a
    torch.special.polygamma(1, i)
    torch.special.polygamma(4, q)
    # two arguments
    torch.xlogy(p, q)
    torch.xlogy(p, t)
    torch.xlogy(2, q)
    torch.xlogy(p, 3)
    torch.xlogy(i, i)
    torch.xlogy(torch.zeros(11), w)
    p.xlogy(q)
    a = p.clone(); a.xlogy_(q); a
    a = p.clone(); torch.xlogy_(a, 2); a
    torch.special.xlogy(p, q)
    torch.special.xlog1py(p, q)
    torch.special.xlog1py(0.5, q)
    torch.special.xlog1py(p, 2)
    torch.special.xlog1py(torch.zeros(11), w)
    torch.igamma(p.detach(), q)
    torch.igamma(t.detach(), q)
    p.detach().igamma(q)
    a = p.detach().clone(); a.igamma_(q.detach()); a
    torch.igammac(p.detach(), q)
    q.detach().igammac(p)
    a = p.detach().clone(); a.igammac_(q.detach()); a
    torch.special.gammainc(p.detach(), q)
    torch.special.gammaincc(p.detach(), q)
    torch.special.gammainc(w[:8], torch.tensor(2.0))
    torch.special.zeta(t.detach(), p)
    torch.special.zeta(2, p)
    torch.special.zeta(t.detach(), 3.0)
    torch.special.zeta(i, i)
    # reductions under SciPy's names
    torch.special.logsumexp(x, 1)
    torch.special.logsumexp(x, (0, 1), keepdim=True)
    torch.special.softmax(x, 0)
    torch.special.softmax(x, -1, dtype=torch.float64)
    torch.special.log_softmax(x, 1)
    torch.special.log_softmax(x, 0, dtype=torch.float64)
    torch.special.round(x * 10, decimals=1)
    # windows with parameters
    torch.signal.windows.exponential(9, tau=2.5)
    torch.signal.windows.exponential(9, center=2.0, sym=False)
    torch.signal.windows.gaussian(9, std=2.5)
    torch.signal.windows.kaiser(9, beta=5.0)
    torch.signal.windows.kaiser(9, beta=0.0)
    torch.signal.windows.general_hamming(9, alpha=0.6, dtype=torch.float64)
    torch.signal.windows.general_cosine(9, a=[0.4, 0.3, 0.2])
    torch.signal.windows.general_cosine(9, a=[0.46, 0.23, 0.31], sym=False)
    torch.hamming_window(7, True, 0.6, 0.3)
    torch.kaiser_window(7, True, 5.0)
    torch.kaiser_window(7, periodic=False, beta=3.0)
    torch.range(0, 4)
    torch.range(1, 2.5, 0.5)
    torch.range(5, 1, -2)
    torch.range(0, 4, dtype=torch.int64)
    # spaced numbers
    torch.linspace(0, 1, 5)
    torch.linspace(3, -3, 7)
    torch.linspace(0, 10, 4, dtype=torch.int64)
    torch.linspace(2, 3, 1)
    torch.linspace(2, 3, 0)
    torch.linspace(0, 1, 6, dtype=torch.float64)
    torch.logspace(0, 2, 5)
    torch.logspace(-1, 1, 3, base=2)
    torch.logspace(0, 3, 4, base=2, dtype=torch.int64)
    torch.logspace(1, 2, 1)
    torch.logspace(1, 2, 0)
    torch.logspace(1, 2, 3, out=torch.empty(0))
    torch.linspace(1, 2, 3, out=torch.empty(0, dtype=torch.float64))
    torch.linspace(torch.tensor(1.0), 2, 3)
    """,
    variants={
        "float64": _lines(
            [f"torch.special.{n}(x)" for n in _ANYWHERE],
            [f"torch.special.{n}(p)" for n in [*_POSITIVE, *_SECOND_KIND]],
            [f"torch.special.{n}(l)" for n in [*_BESSEL, "log_ndtr", "erfc", "i0e", "i1e"] if n != "airy_ai"],
            [f"torch.special.{n}(u)" for n in ("ndtri", "logit", "erfinv")],
            [f"torch.special.{n}(s, 3)" for n in _POLYNOMIALS],
            ["torch.special.airy_ai(p)", "torch.xlogy(p, q)", "torch.special.xlog1py(p, q)"],
            [
                "torch.igamma(t.detach(), p)",
                "torch.igammac(t.detach(), p)",
                "torch.special.zeta(t.detach(), p)",
            ],
            ["torch.polygamma(1, p)", "torch.polygamma(2, p)", "torch.mvlgamma(p + 1, 2)"],
        ),
        "bfloat16": _lines(
            [f"torch.special.{n}(x)" for n in ["entr", "erfc", "expit", "i0", "i0e", "sinc"]],
            ["torch.special.gammaln(p)", "torch.special.digamma(p)", "torch.xlogy(p, q)", "torch.logit(u)"],
            ["torch.polygamma(1, p)", "torch.erfinv(u)"],
        ),
        "float16": _lines(["torch.special.i0(x)", "torch.special.gammaln(p)", "torch.special.erfinv(u)"]),
    },
    exact={
        "torch.special.log_ndtr(l)": "gradient 8.7, here 0.03",
        "torch.digamma(-p)": "gradient 1.4, here 0.03",
        "torch.special.bessel_y1(p) [float64]": "value 5.2, here 1e-9",
        "torch.special.i0e(x) [bfloat16]": "gradient 1.9, here 0.46",
        "torch.logit(u) [bfloat16]": "value 29, here 0.21",
    },
)
