"""The options of `torch.compile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..codegen.target import Target
from ..passes.pipeline import PipelineOptions
from ..runtime.compiled_graph import TUNE_SECONDS, CompileOptions

NAMES = ("check_finite", "memory_budget", "numerics", "prepare", "progress", "tune", "tune_seconds")
# Of the option `check_finite`: True looks for NaN and for infinite numbers, "nan" for the former.
CHECKS = {True: "finite", "nan": "nan", False: ""}


def compile_options(given: CompileOptions | Mapping[str, Any] | None) -> CompileOptions:
    """The options as they are, or from a dict of those that have a name."""
    if given is None or isinstance(given, CompileOptions):
        return given or CompileOptions()
    unknown = [name for name in given if name not in NAMES]
    if unknown:
        raise RuntimeError(
            f"torch.compile: unexpected option {unknown[0]!r}; there are {', '.join(NAMES[:-1])} and {NAMES[-1]}"
        )
    numerics = given.get("numerics", "fast")
    if numerics not in ("fast", "strict"):
        raise RuntimeError(f"torch.compile: the option numerics is 'fast' or 'strict', not {numerics!r}")
    check = given.get("check_finite", False)
    if check not in CHECKS:
        raise RuntimeError(f"torch.compile: the option check_finite is True, False or 'nan', not {check!r}")
    tune, seconds = bool(given.get("tune", False)), given.get("tune_seconds", TUNE_SECONDS)
    if tune and numerics == "strict":
        raise RuntimeError(
            "torch.compile: the option tune is not for numerics='strict', whose results are to the bit those of eager "
            "code: what is measured to be fastest may add up in another order. Leave out one of the two"
        )
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise RuntimeError(f"torch.compile: the option tune_seconds is a number from 0 on, not {seconds!r}")
    pipeline = PipelineOptions(
        strict=numerics == "strict", memory_budget=_memory_budget(given.get("memory_budget"))
    )
    options = CompileOptions(
        pipeline,
        progress=given.get("progress"),
        prepare=bool(given.get("prepare", True)),
        tune=tune,
        tune_seconds=float(seconds),
    )
    return with_checks(options, CHECKS[check])


def _memory_budget(given: Any) -> float | int | None:
    """A share from 0.0 to 1.0 as a float, bytes as an int. Not so 0 and 1: who writes them means the share."""
    if given is None or (isinstance(given, float) and 0 <= given <= 1):
        return given
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given if given > 1 else float(given)
    raise RuntimeError(
        "torch.compile: the option memory_budget is a float from 0.0 to 1.0, a number of bytes or None, not "
        f"{given!r}"
    )


BACKENDS = (None, "inductor")
# Modes that ask for choices by measurement.
TUNED_MODES = ("max-autotune-no-cudagraphs", "max-autotune")
MODES = ("default", "lite", "reduce-overhead", *TUNED_MODES)


def check_hints(backend: Any, mode: str | None, options: Any) -> None:
    """Raise where a script asks PyTorch's compiler for what would come out otherwise here."""
    if backend not in BACKENDS:
        raise RuntimeError(f"Invalid backend: {backend!r}: vitrify compiles by itself; leave backend out")
    if mode is not None and options is not None:
        raise RuntimeError(
            "Either mode or options can be specified, but both can't be specified at the same time."
        )
    if mode is not None and mode not in MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(MODES)}")


def of_mode(
    mode: str | None, options: CompileOptions | Mapping[str, Any] | None
) -> CompileOptions | Mapping[str, Any] | None:
    """The options of a mode, where one is given in their place."""
    return {"tune": True} if mode in TUNED_MODES else options


def with_checks(options: CompileOptions, check: Any) -> CompileOptions:
    """The options, with the results of kernels tested."""
    return replace(options, lower=replace(options.lower, check_finite=check))


def with_matmul_precision(options: CompileOptions, precision: str) -> CompileOptions:
    """The options, where "medium" is asked for and the machine multiplies bfloat16 faster than float32."""
    target = options.target or Target.host()
    if precision != "medium" or not target.has("avx512bf16"):
        return options
    return replace(options, pipeline=replace(options.pipeline, bf16_products=True))
