"""`vitrify bisect script.py`: run a script, and check every call that it compiles for (`compile/check.py`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .compile.check import CheckReport
from .compile.watch import before_compiling
from .inspection import exit_status
from .ir.graph import IRError
from .run import run_script
from .runtime.bisect import replay

if TYPE_CHECKING:
    from .compile.compiled import CompiledFunction


def add_command(commands: Any) -> None:
    """Declare `bisect` among an argparse parser's subcommands."""
    bisect = commands.add_parser(
        "bisect", help="run a script and find where what it compiled parts from what it means"
    )
    bisect.add_argument("script", nargs="?", help="the Python file; its own arguments come last, after --")
    bisect.add_argument(
        "-o",
        "--output",
        default=".",
        help="folder for the graphs that show what was found (default: %(default)s)",
    )
    bisect.add_argument("--replay", metavar="FILE.ir", help="run a graph again that was found, with its .npz")


def bisect_script(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Check every call that needs a compile. The exit status: 1 where results part, 2 where nothing was compiled, else
    the script's."""
    if options.replay:
        try:
            stage, apart = replay(options.replay)
        except (OSError, IRError, KeyError, ValueError) as error:
            print(f"vitrify bisect: {options.replay}: {error}", file=sys.stderr)
            return 2
        print(f"{stage}: " + ("results agree" if apart is None else f"results differ by {apart:.3g}"))
        return int(apart is not None)
    if not options.script:
        print("vitrify bisect: a script or --replay is needed", file=sys.stderr)
        return 2
    reports: list[CheckReport] = []
    left_out: list[str] = []

    def look(function: CompiledFunction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        try:
            report = function.check(*args, **kwargs)
        except NotImplementedError as error:
            left_out.append(str(error))
            print(f"vitrify bisect: left out: {error}", file=sys.stderr)
            return
        reports.append(report)
        print(report, file=sys.stderr)
        for path in report.save(options.output):
            print(f"  {path}", file=sys.stderr)

    with before_compiling(look):
        try:
            status = run_script(options.script, arguments)
        except SystemExit as leaving:
            status = exit_status(leaving.code)
    if not reports and not left_out and not status:
        print(
            f"vitrify bisect: nothing to check: {options.script} called no function compiled with torch.compile. Wrap "
            "the function or model in question, as in `step = torch.compile(step)`, and have the script call it.",
            file=sys.stderr,
        )
        return 2
    bad = sum(not report.ok for report in reports)
    calls = "1 call" if len(reports) == 1 else f"{len(reports)} calls"
    print(f"vitrify bisect: {calls} checked, {bad} where results part", file=sys.stderr)
    if bad:
        return 1
    return status or (0 if reports else 2)
