"""`assert_close`: that two values, tensors or numbers or containers of them, agree up to a tolerance.

The rules and the wording of the report are PyTorch's (https://docs.pytorch.org/docs/stable/testing.html)."""

from __future__ import annotations

import cmath
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..creation import as_tensor
from ..functional_elements import isclose
from ..functional_pointwise import abs as absolute
from ..ir import dtypes
from ..ir.dtypes import DType, promote
from ..promotion import convert
from ..tensor import Tensor

Message = str | Callable[[str], str] | None

# (rtol, atol); every other dtype must agree exactly.
_TOLERANCES = {
    dtypes.f16: (1e-3, 1e-5),
    dtypes.bf16: (1.6e-2, 1e-5),
    dtypes.f32: (1.3e-6, 1e-5),
    dtypes.f64: (1e-7, 1e-7),
    dtypes.c64: (1.3e-6, 1e-5),
    dtypes.c128: (1e-7, 1e-7),
}
_NUMBERS: dict[type, DType] = {int: dtypes.i64, float: dtypes.f64, complex: dtypes.c128}


@dataclass(frozen=True)
class _Options:
    allow_subclasses: bool
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_layout: bool
    check_stride: bool

    def tolerances(self, *kinds: DType) -> tuple[float, float]:
        if (self.rtol is None) != (self.atol is None):
            missing = "rtol" if self.rtol is None else "atol"
            raise ValueError(
                f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {missing}."
            )
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        found = [_TOLERANCES.get(kind, (0.0, 0.0)) for kind in kinds]
        return max(rtol for rtol, _ in found), max(atol for _, atol in found)


class _Failure(Exception):
    """What is to be raised, once it is known where: the type of the error and its text."""

    def __init__(self, kind: type[Exception], text: str, place: tuple[Any, ...] = ()):
        self.kind = kind
        self.text = text
        self.place = place

    def error(self, msg: Message) -> Exception:
        text = self.text
        if self.place:
            text += f"\n\nThe failure occurred for item {''.join(str([item]) for item in self.place)}"
        return self.kind(msg if isinstance(msg, str) else msg(text) if msg is not None else text)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Message = None,
) -> None:
    """AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere, in tensors and numbers, and in
    sequences and mappings of them. `msg`: the error's text, or a function of the text it would have."""
    __tracebackhide__ = True
    given = locals()
    options = _Options(**{field.name: given[field.name] for field in fields(_Options)})
    failures: list[_Failure] = []
    try:
        comparisons = list(_pairs(actual, expected, options, ()))
    except _Failure as failure:
        raise failure.error(None) from None
    for compare, place in comparisons:
        try:
            compare()
        except _Failure as failure:
            failure.place = place
            failures.append(failure)
    if failures:
        raise failures[0].error(msg)


def assert_allclose(
    actual: Any, expected: Any, rtol: float | None = None, atol: float | None = None, equal_nan: bool = True,
    msg: str = "",
) -> None:  # fmt: skip
    """`assert_close` under its old name, without the checks of dtype and device."""
    assert_close(
        as_tensor(actual), as_tensor(expected), rtol=rtol, atol=atol, equal_nan=equal_nan, check_device=True,
        check_dtype=False, check_stride=False, msg=msg or None,
    )  # fmt: skip


Comparison = tuple[Callable[[], None], tuple[Any, ...]]


def _pairs(actual: Any, expected: Any, options: _Options, place: tuple[Any, ...]) -> list[Comparison]:
    """The comparisons that two values come to, one for each pair of tensors or numbers in them."""
    if _is(Sequence, actual, expected) and not isinstance(actual, str) and not isinstance(expected, str):
        if len(actual) != len(expected):
            text = f"The length of the sequences mismatch: {len(actual)} != {len(expected)}"
            raise _Failure(AssertionError, text, place)
        items = enumerate(zip(actual, expected))
        return [pair for i, (a, b) in items for pair in _pairs(a, b, options, (*place, i))]
    if _is(Mapping, actual, expected):
        missing, additional = set(expected) - set(actual), set(actual) - set(expected)
        if missing or additional:
            raise _Failure(
                AssertionError,
                "The keys of the mappings do not match:\n"
                f"Missing keys in the actual mapping: {sorted(missing)}\n"
                f"Additional keys in the actual mapping: {sorted(additional)}",
                place,
            )
        keys: Collection[Any] = set(actual)
        with contextlib.suppress(Exception):
            keys = sorted(keys)
        return [pair for key in keys for pair in _pairs(actual[key], expected[key], options, (*place, key))]
    try:
        return [(_comparison(actual, expected, options), place)]
    except ValueError as error:
        raise _Failure(ValueError, str(error), place) from None


def _is(kind: Any, *values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


def _comparison(actual: Any, expected: Any, options: _Options) -> Callable[[], None]:
    if actual is None or expected is None:
        return lambda: _compare_none(actual, expected)
    if _is(bool | np.bool_, actual, expected):
        return lambda: _compare_bools(bool(actual), bool(expected))
    if _is(int | float | complex | np.number, actual, expected):
        a, b = (x.item() if isinstance(x, np.number) else x for x in (actual, expected))
        rtol, atol = options.tolerances(*(_NUMBERS.get(type(x), dtypes.i64) for x in (a, b)))
        return lambda: _compare_numbers(a, b, rtol, atol, options)
    tensors = _as_tensors(actual, expected, options)
    if tensors is None:
        raise _Failure(
            TypeError,
            f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.",
        )
    rtol, atol = options.tolerances(*(t.dtype for t in tensors))
    return lambda: _compare_tensors(*tensors, rtol, atol, options)


def _as_tensors(actual: Any, expected: Any, options: _Options) -> tuple[Tensor, Tensor] | None:
    related = isinstance(actual, type(expected)) or isinstance(expected, type(actual))
    if not related or (not options.allow_subclasses and type(actual) is not type(expected)):
        return None
    try:
        first, second = (x if isinstance(x, Tensor) else as_tensor(x) for x in (actual, expected))
    except Exception:
        return None
    return first.detach(), second.detach()


def _compare_none(actual: Any, expected: Any) -> None:
    if actual is not expected:
        raise _Failure(AssertionError, f"None mismatch: {actual} is not {expected}")


def _compare_bools(actual: bool, expected: bool) -> None:
    if actual is not expected:
        raise _Failure(AssertionError, f"Booleans mismatch: {actual} is not {expected}")


def _compare_numbers(actual: Any, expected: Any, rtol: float, atol: float, options: _Options) -> None:
    # Of numbers the types need not agree: PyTorch's `check_dtype` means tensors unless it is asked for numbers.
    if actual == expected:
        return
    if options.equal_nan and cmath.isnan(actual) and cmath.isnan(expected):
        return
    difference = abs(actual - expected)
    if not (cmath.isfinite(difference) and difference <= atol + rtol * abs(expected)):
        raise _Failure(AssertionError, _number_text(actual, expected, rtol, atol))


def _compare_tensors(actual: Tensor, expected: Tensor, rtol: float, atol: float, options: _Options) -> None:
    def check(attribute: str, a: Any, b: Any) -> None:
        if a != b:
            text = f"The values for attribute '{attribute}' do not match: {a} != {b}."
            raise _Failure(AssertionError, text)

    check("shape", actual.shape, expected.shape)
    if options.check_stride:
        check("stride()", actual.stride(), expected.stride())
    if options.check_device:
        check("device", actual.device, expected.device)
    if options.check_dtype:
        check("dtype", actual.dtype, expected.dtype)
    kind = promote(actual.dtype, expected.dtype)
    actual, expected = convert(actual, kind), convert(expected, kind)
    matches = isclose(actual, expected, rtol, atol, options.equal_nan)
    if bool(matches.all()):
        return
    if not actual.ndim:
        raise _Failure(AssertionError, _number_text(actual.item(), expected.item(), rtol, atol))
    raise _Failure(AssertionError, _tensor_text(actual, expected, matches, rtol, atol))


# The report


def _number_text(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    difference = abs(actual - expected)
    relative = float("inf") if expected == 0 else difference / abs(expected)
    lines = (
        f"Expected {expected} but got {actual}.",
        f"Absolute difference: {difference}{_allowed(atol, rtol, atol)}",
        f"Relative difference: {relative}{_allowed(rtol, rtol, atol)}",
    )
    return _report("Scalars", rtol, atol, lines)


def _tensor_text(actual: Tensor, expected: Tensor, matches: Tensor, rtol: float, atol: float) -> str:
    count = actual._type.numel
    wrong = count - int(matches.sum())
    if actual.dtype.kind not in ("float", "complex"):
        actual, expected = convert(actual, dtypes.i64), convert(expected, dtypes.i64)
    difference = absolute(actual - expected).masked_fill(matches, 0)
    relative = (difference / absolute(expected)).masked_fill(matches, 0)
    lines = [f"Mismatched elements: {wrong} / {count} ({wrong / count:.1%})"]  # type: ignore[operator]
    for kind, values, allowed in (("absolute", difference, atol), ("relative", relative, rtol)):
        flat = values.flatten()
        at = int(flat.argmax())
        place = tuple(int(i) for i in np.unravel_index(at, tuple(matches.shape)))
        value = flat[at].item()
        lines.append(f"Greatest {kind} difference: {value} at index {place}{_allowed(allowed, rtol, atol)}")
    return _report("Tensor-likes", rtol, atol, lines)


def _allowed(tolerance: float, rtol: float, atol: float) -> str:
    return "" if rtol == 0 and atol == 0 else f" (up to {tolerance} allowed)"


def _report(what: str, rtol: float, atol: float, lines: Sequence[str]) -> str:
    title = f"{what} are not {'equal' if rtol == 0 and atol == 0 else 'close'}!"
    return "\n".join([title, "", *lines])
