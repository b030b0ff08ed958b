"""The options of `torch.compile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..passes.pipeline import PipelineOptions
from ..runtime.compiled_graph import CompileOptions

# Of the option `check_finite`: True looks for NaN and for infinite numbers, "nan" for the former.
CHECKS = {True: "finite", "nan": "nan", False: ""}


def compile_options(given: CompileOptions | Mapping[str, Any] | None) -> CompileOptions:
    """The options as they are, or from a dict of those that have a name: `check_finite`, `numerics`, `progress`."""
    if given is None or isinstance(given, CompileOptions):
        return given or CompileOptions()
    unknown = [name for name in given if name not in ("check_finite", "numerics", "progress")]
    if unknown:
        raise RuntimeError(
            f"torch.compile: unexpected option {unknown[0]!r}; there are check_finite, numerics and progress"
        )
    numerics = given.get("numerics", "fast")
    if numerics not in ("fast", "strict"):
        raise RuntimeError(f"torch.compile: the option numerics is 'fast' or 'strict', not {numerics!r}")
    check = given.get("check_finite", False)
    if check not in CHECKS:
        raise RuntimeError(f"torch.compile: the option check_finite is True, False or 'nan', not {check!r}")
    pipeline = PipelineOptions(strict=numerics == "strict")
    return with_checks(CompileOptions(pipeline, progress=given.get("progress")), CHECKS[check])


def with_checks(options: CompileOptions, check: Any) -> CompileOptions:
    """The options, with the results of kernels tested."""
    return replace(options, lower=replace(options.lower, check_finite=check))
