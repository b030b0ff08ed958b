"""What a sample cannot say of element-wise functions: errors, warnings, `out=`, histories."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vitrify as torch

X, I, B, C = (
    torch.tensor([1.5, -0.5]),
    torch.tensor([3, 4]),
    torch.tensor([True, False]),
    torch.tensor([1 + 1j]),
)

REFUSALS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: torch.abs(3), TypeError, r"abs\(\): argument 'input' \(position 1\) must be Tensor, not int"),
    (lambda: torch.abs(X, out=3), TypeError, r"abs\(\): argument 'out' must be Tensor, not int"),
    (
        lambda: torch.atan2(X, 2),
        TypeError,
        r"atan2\(\): argument 'other' \(position 2\) must be Tensor, not int",
    ),
    (lambda: torch.frac(I), NotImplementedError, "\"frac_cpu\" not implemented for 'Long'"),
    (lambda: torch.frexp(I), RuntimeError, r"torch.frexp\(\) only supports floating-point dtypes"),
    (lambda: torch.nextafter(I, I), NotImplementedError, "\"nextafter_cpu\" not implemented for 'Long'"),
    (lambda: torch.hypot(I, I), NotImplementedError, "\"hypot_cpu\" not implemented for 'Long'"),
    (lambda: torch.logaddexp2(I, I), NotImplementedError, "\"logaddexp2_cpu\" not implemented for 'Long'"),
    (lambda: torch.igamma(I, I), NotImplementedError, "\"igamma_cpu\" not implemented for 'Long'"),
    (lambda: torch.gcd(X, X), NotImplementedError, "\"gcd_cpu\" not implemented for 'Float'"),
    (lambda: torch.lcm(B, B), NotImplementedError, "\"lcm_cpu\" not implemented for 'Bool'"),
    (lambda: X << 1, NotImplementedError, "\"lshift_cpu\" not implemented for 'Float'"),
    (
        lambda: torch.bitwise_right_shift(B, B),
        NotImplementedError,
        "\"rshift_cpu\" not implemented for 'Bool'",
    ),
    (
        lambda: torch.special.erfcx(X.bfloat16()),
        NotImplementedError,
        "\"erfcx_cpu\" not implemented for 'BFloat16'",
    ),
    (
        lambda: torch.special.bessel_j0(X.half()),
        NotImplementedError,
        "\"bessel_j0_cpu\" not implemented for 'Half'",
    ),
    (
        lambda: torch.heaviside(I, X),
        RuntimeError,
        "heaviside is not yet implemented for tensors with different dtypes",
    ),
    (lambda: torch.isposinf(C), RuntimeError, "isposinf does not support complex inputs."),
    (lambda: torch.signbit(C), NotImplementedError, "signbit is not implemented for complex tensors."),
    (lambda: torch.fmax(C, C), RuntimeError, "fmax not implemented for complex tensors."),
    (lambda: torch.polygamma(-1, X), RuntimeError, r"polygamma\(n, x\) does not support negative n."),
    (lambda: torch.mvlgamma(X, 0), RuntimeError, "p has to be greater than or equal to 1"),
    (lambda: torch.positive(B), RuntimeError, r"The `\+` operator, on a bool tensor is not supported."),
    (
        lambda: I.clone().lgamma_(),
        RuntimeError,
        "result type Float can't be cast to the desired output type Long",
    ),
    (
        lambda: X.clone().float_power_(2),
        RuntimeError,
        "the base given to float_power_ has dtype Float but the op",
    ),
    (
        lambda: torch.fill(X, X),
        RuntimeError,
        "fill only supports 0-dimension value tensor but got tensor with 1 dim",
    ),
    (lambda: torch.finfo(torch.int8), TypeError, r"torch.finfo\(\) requires a floating point input type"),
    (lambda: torch.iinfo(torch.float32), TypeError, r"torch.iinfo\(\) requires an integer input type"),
    (lambda: torch.iinfo(torch.bool), TypeError, "torch.bool is not supported by torch.iinfo"),
    (
        lambda: torch.hann_window(-1),
        RuntimeError,
        "hann_window requires non-negative window_length, got window_le",
    ),
    (
        lambda: torch.hann_window(3, dtype=torch.int64),
        RuntimeError,
        "hann_window expects floating point dtypes, got",
    ),
    (lambda: torch.signal.windows.hann(-2), ValueError, "requires non-negative window length, got M=-2"),
    (
        lambda: torch.signal.windows.gaussian(3, std=0),
        ValueError,
        "Standard deviation must be positive, got: 0 inst",
    ),
    (
        lambda: torch.signal.windows.exponential(3, tau=-1),
        ValueError,
        "Tau must be positive, got: -1 instead",
    ),
    (
        lambda: torch.signal.windows.exponential(3, center=1),
        ValueError,
        "Center must be None for symmetric windows",
    ),
    (
        lambda: torch.signal.windows.kaiser(3, beta=-1),
        ValueError,
        "beta must be non-negative, got: -1 instead",
    ),
    (lambda: torch.signal.windows.general_cosine(3, a=[]), ValueError, "Coefficients cannot be empty"),
    (
        lambda: torch.signal.windows.hann(3, dtype=torch.float16),
        ValueError,
        "expects float32 or float64 dtypes, got",
    ),
    (
        lambda: torch.abs(X, out=torch.zeros(1).expand(2)),
        RuntimeError,
        "more than one element of the written-to tens",
    ),
    (
        lambda: torch.exp(X, out=torch.zeros(2, dtype=torch.int64)),
        RuntimeError,
        "result type Float can't be cast to",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS, ids=[r[2][:40] for r in REFUSALS])
def test_refusals_are_pytorchs(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_out_is_resized_with_a_warning_unless_it_is_empty() -> None:
    filled, empty = torch.zeros(3), torch.zeros(0)
    with pytest.warns(
        UserWarning, match=r"shape \[3\], which does not match the required output shape \[2\]"
    ):
        torch.abs(X, out=filled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.abs(X, out=empty) is empty
    assert filled.tolist() == empty.tolist() == [1.5, 0.5]


def test_out_takes_no_part_in_autograd() -> None:
    with pytest.raises(
        RuntimeError, match=r"add\(\): functions with out=... arguments don't support automatic diff"
    ):
        torch.add(X.clone().requires_grad_(), 1, out=torch.zeros(2))


def test_out_may_be_of_a_higher_kind_and_a_view() -> None:
    whole = torch.zeros(2, 2, dtype=torch.float64)
    torch.add(I, 1, out=whole[:, 1])
    assert whole.tolist() == [[0.0, 4.0], [0.0, 5.0]]


def test_derivatives_that_pytorch_lacks_raise_when_asked_for() -> None:
    a, x = torch.tensor([2.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match="the derivative for 'igamma: input' is not implemented"):
        torch.igamma(a, x).backward()
    with pytest.raises(NotImplementedError, match="the derivative for 'zeta' is not implemented"):
        torch.special.zeta(a, x).backward()
    with pytest.raises(RuntimeError, match="derivative for aten::heaviside is not implemented"):
        torch.heaviside(a, x).backward()
    with torch.no_grad():
        assert not torch.heaviside(a, x).requires_grad and not torch.geqrf(a.reshape(-1, 1))[0].requires_grad
    assert not torch.special.bessel_j0(x).requires_grad and not torch.special.airy_ai(x).requires_grad


HISTORIES = {
    "AsinBackward0": lambda x: torch.asin(x),
    "Atan2Backward0": lambda x: torch.atan2(x, x),
    "LgammaBackward0": lambda x: torch.special.gammaln(x),
    "PolygammaBackward0": lambda x: torch.polygamma(1, x),
    "SpecialErfcxBackward0": lambda x: torch.special.erfcx(x),
    "SpecialXlog1PyBackward0": lambda x: torch.special.xlog1py(x, x),
    "SpecialI0EBackward0": lambda x: torch.special.i0e(x),
    "SincBackward0": lambda x: torch.sinc(x),
    "FracBackward0": lambda x: torch.frac(x),
    "FrexpBackward0": lambda x: torch.frexp(x).mantissa,
    "FmaxBackward0": lambda x: torch.fmax(x, x),
    "Logaddexp2Backward0": lambda x: torch.logaddexp2(x, x),
    "MvlgammaBackward0": lambda x: torch.mvlgamma(x + 3, 2),
    "LogitBackward0": lambda x: torch.logit(x),
    "CopysignBackward0": lambda x: torch.copysign(x, -1),
    "SgnBackward0": lambda x: torch.sgn(x),
    "LdexpBackward0": lambda x: torch.ldexp(x, torch.tensor(2)),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_nodes_have_pytorchs_names(name: str) -> None:
    node = HISTORIES[name](torch.tensor([0.25, 0.5], requires_grad=True)).grad_fn
    assert node is not None and node.name() == name


def test_fmax_prefers_numbers_and_shares_nothing() -> None:
    a = torch.tensor([1.0, float("nan"), 2.0], requires_grad=True)
    b = torch.tensor([float("nan"), 1.0, 2.0], requires_grad=True)
    torch.fmax(a, b).sum().backward()
    assert a.grad.tolist() == [1, 0, 1] and b.grad.tolist() == [0, 1, 0]


def test_range_warns() -> None:
    with pytest.warns(UserWarning, match="torch.range is deprecated"):
        assert torch.range(1, 3).tolist() == [1.0, 2.0, 3.0]


def test_windows_may_require_grad() -> None:
    assert torch.hann_window(4, requires_grad=True).is_leaf
    assert torch.signal.windows.kaiser(4, requires_grad=True).requires_grad


def test_type_limits_compare_and_print() -> None:
    assert torch.finfo() == torch.finfo(torch.float32) != torch.finfo(torch.float64)
    assert torch.iinfo(torch.int8) == torch.iinfo(torch.int8)
    assert torch.finfo(torch.complex64).dtype == "float32"
    assert repr(torch.iinfo(torch.uint8)) == "iinfo(min=0, max=255, dtype=uint8)"


def test_nextafter_walks_through_zero_in_every_float_type() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        start = torch.tensor([0.0, 1.0, -1.0], dtype=dtype)
        up = torch.nextafter(start, torch.tensor([1.0, 2.0, 0.0], dtype=dtype))
        assert (up > start).all() and (torch.nextafter(up, torch.full_like(up, -9.0)) == start).all()
        there = torch.full_like(start, 9.0)
        compiled = torch.compile(torch.nextafter)(start, there)
        np.testing.assert_array_equal(
            compiled.double().numpy(), torch.nextafter(start, there).double().numpy()
        )
