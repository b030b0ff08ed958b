"""`vitrify report` and `vitrify dump`: run a script, then show what it compiled. docs/inspection.md is the walk."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compile.compiled import measuring
from .compile.report import save_reports
from .compile.report_data import stage_data
from .compile.report_page import page
from .compile.watch import compiled_functions
from .run import run_script

if TYPE_CHECKING:
    from .compile.compiled import CompiledFunction
    from .runtime.compiled_graph import CompiledGraph

CODE_STAGES = ("loops", "llvm", "assembly")
# Lines shown around a difference.
CONTEXT = 3
RED, GREEN, CYAN, DIM, BOLD, PLAIN = (f"\x1b[{code}m" for code in (31, 32, 36, 2, 1, 0))


def add_commands(commands: Any) -> None:
    """Declare `report` and `dump` among an argparse parser's subcommands."""
    script = argparse.ArgumentParser(add_help=False)
    script.add_argument("script", help="the Python file; its own arguments come last, after --")
    report = commands.add_parser(
        "report", parents=[script], help="run a script and save a page about what it compiled"
    )
    report.add_argument("-o", "--output", default="report.html", help="the page (default: %(default)s)")
    report.add_argument(
        "--json", metavar="FILE", help="where the same facts go as JSON (default: beside the page)"
    )
    report.add_argument(
        "--no-measure", action="store_true", help="do not time the kernels while the script runs"
    )
    dump = commands.add_parser(
        "dump", parents=[script], help="run a script and print a stage of what it compiled"
    )
    dump.add_argument(
        "--stage", default="fused", help="traced, a pass by name, fused, loops, llvm or assembly"
    )
    dump.add_argument("--diff", nargs=2, metavar=("A", "B"), help="what changed from stage A to stage B")
    dump.add_argument("--json", action="store_true", help="as data: a list with an object for each graph")
    dump.add_argument("--function", metavar="NAME", help="only the function of this name")
    dump.add_argument(
        "--graph", metavar="NAME", help="only the graph of this name, such as forward or backward"
    )
    dump.add_argument("--color", choices=("auto", "always", "never"), default="auto")


def report_script(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run the script, save the report; the script's exit status, or 1 where there is nothing to report or no place for
    it."""
    for file in (options.output, options.json):
        if file and not Path(file).absolute().parent.is_dir():  # rather than after the script's hour
            print(f"vitrify: no folder {Path(file).absolute().parent} to save {file} in", file=sys.stderr)
            return 1
    with nullcontext() if options.no_measure else measuring(log=False) as session:
        status, found = _run(options.script, arguments)
    if not found:
        return status or _nothing(options.script)
    reports = [function.report(session).to_json() for function in found]
    if options.json:
        Path(options.output).write_text(page(reports), encoding="utf-8")
        Path(options.json).write_text(json.dumps(reports, allow_nan=False, indent=1), encoding="utf-8")
    else:
        save_reports(reports, options.output)
    names = ", ".join(report["function"] for report in reports)
    print(f"vitrify: report of {names} in {options.output}", file=sys.stderr)
    return status


def dump_script(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run the script with its output on stderr, print the stage on stdout; the exit status as for `report_script`."""
    status, found = _run(options.script, arguments, quiet=True)
    if not found:
        return status or _nothing(options.script)
    if options.function:
        names = sorted({function.name for function in found})
        found = [function for function in found if function.name == options.function]
        if not found:
            print(
                f"vitrify: no compiled function {options.function!r}; there are {', '.join(names)}",
                file=sys.stderr,
            )
            return 2
    colors = options.color == "always" or (options.color == "auto" and sys.stdout.isatty())
    data = []
    names = [graph.traced.name for function in found for graph in function.graphs()]
    if options.graph and not any(_is_called(name, options.graph) for name in names):
        print(f"vitrify: no graph {options.graph!r}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    for function in found:
        graphs = function.graphs()
        for graph in graphs:
            if options.graph and not _is_called(graph.traced.name, options.graph):
                continue
            title = function.name if len(graphs) == 1 else f"{function.name}, {graph.traced.name}"
            try:
                if options.json:
                    data.append(
                        {"function": function.name, "graph": graph.traced.name, **_data(graph, options)}
                    )
                    continue
                lines = list(_shown(graph, options))
            except KeyError as error:
                print(f"vitrify: {title}: {error.args[0]}", file=sys.stderr)
                return 2
            heading = f"# {title}: " + (" to ".join(options.diff) if options.diff else options.stage)
            for line in [heading, *lines]:
                print(_colored(line, bool(options.diff)) if colors else line)
    if options.json:
        print(json.dumps(data, allow_nan=False, indent=1))
    return status


def _is_called(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _run(script: str, arguments: Sequence[str], quiet: bool = False) -> tuple[int, list[CompiledFunction]]:
    with compiled_functions() as found, redirect_stdout(sys.stderr) if quiet else nullcontext():
        try:
            status = run_script(script, arguments)
        except SystemExit as leaving:
            status = exit_status(leaving.code)
    return status, found


def exit_status(code: Any) -> int:
    """What Python makes of `sys.exit(code)`."""
    if code is None or isinstance(code, int):
        return int(code or 0)
    print(code, file=sys.stderr)
    return 1


def _nothing(script: str) -> int:
    print(
        f"vitrify: {script} called no function compiled with torch.compile: nothing to show. Wrap the function or model "
        "in question, as in `step = torch.compile(step)`, and have the script call it.",
        file=sys.stderr,
    )
    return 1


# -- text -------------------------------------------------------------------------------------------------------------


def _shown(graph: CompiledGraph, options: argparse.Namespace) -> Iterator[str]:
    if options.diff:
        before, after = (stage_text(graph, stage).splitlines() for stage in options.diff)
        yield from difference(before, after)
    else:
        yield from stage_text(graph, options.stage).splitlines()


def _data(graph: CompiledGraph, options: argparse.Namespace) -> dict[str, Any]:
    """What `dump` prints, as data: a stage as in a report, the text of code, or the lines of a difference."""
    if options.diff:
        before, after = options.diff
        return {"from": before, "to": after, "lines": list(_shown(graph, options))}
    if options.stage in CODE_STAGES:
        return {"stage": options.stage, "text": stage_text(graph, options.stage)}
    stage_text(graph, options.stage)  # a KeyError lists the stages
    return {"stage": options.stage, **stage_data(options.stage, graph.stage(options.stage))}


def stage_text(graph: CompiledGraph, stage: str) -> str:
    """A stage as text; KeyError lists the stages."""
    if stage in CODE_STAGES:
        return {"loops": graph.loops_text, "llvm": graph.llvm_text, "assembly": graph.assembly_text}[stage]()
    try:
        return str(graph.stage(stage))
    except KeyError as error:
        raise KeyError(f"{error.args[0]}, loops, llvm, assembly") from None


def difference(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The lines that differ, after `-` and `+`, with a few around them. Indentation, which fusion changes, and
    locations do not count."""
    a, b = ([_code(line) for line in lines] for lines in (before, after))
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for number, group in enumerate(matcher.get_grouped_opcodes(CONTEXT)):
        if number:
            yield "  ⋮"
        for kind, a1, a2, b1, b2 in group:
            if kind == "equal":
                yield from (f"  {line}" for line in after[b1:b2])
            else:
                yield from (f"- {line}" for line in before[a1:a2])
                yield from (f"+ {line}" for line in after[b1:b2])


def _code(line: str) -> str:
    return line.split("   # ", 1)[0].strip()


def _colored(line: str, diff: bool) -> str:
    if diff and line[:2] in ("- ", "+ "):
        return f"{RED if line[0] == '-' else GREEN}{line}{PLAIN}"
    if line.startswith("# "):
        return f"{BOLD}{line}{PLAIN}"
    code, mark, comment = line.partition("   # ")
    code = re.sub(r"( = )(\w+)(?=\()", rf"\1{CYAN}\2{PLAIN}", code, count=1)
    return code + (f"{DIM}{mark}{comment}{PLAIN}" if mark else "")
