"""The command line: `vitrify run script.py ...` and the other `COMMANDS`; `python -m vitrify FILE` is `run`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .bisection import add_command, bisect_script
from .compile_command import add_compile_command, compile_model
from .coverage import coverage_text
from .inspection import add_commands, dump_script, report_script
from .ir_commands import add_command as add_ir_command
from .ir_commands import ir_command
from .model_commands import add_model_commands, model_command
from .run import run_script
from .version import __version__

COMMANDS = (
    "run",
    "coverage",
    "report",
    "dump",
    "bisect",
    "ir",
    "compile",
    "run-model",
    "compare",
    "bench-model",
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="vitrify", description="PyTorch's API, eager over NumPy, compiled through LLVM."
    )
    top.add_argument("--version", action="version", version=f"vitrify {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    run = commands.add_parser("run", help="run a script that imports torch, with vitrify in torch's place")
    run.add_argument("script", help="the Python file")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's own arguments")
    commands.add_parser("coverage", help="print which of PyTorch's public names there are (docs/coverage.md)")
    add_commands(commands)
    add_command(commands)
    add_compile_command(commands)
    add_model_commands(commands)
    add_ir_command(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `vitrify argv...`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["run"]:
        options = parser().parse_args(words)
        return run_script(options.script, options.arguments)
    try:
        status = _command(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # `vitrify dump script.py | head`: who reads has enough; what is still buffered goes nowhere, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _command(words: list[str]) -> int:
    if words[:1] in (["report"], ["dump"], ["bisect"]):
        # argparse would not let the script's arguments and ours stand in any order; `--` tells them apart.
        end = words.index("--") if "--" in words else len(words)
        options = parser().parse_args(words[:end])
        show = {"report": report_script, "dump": dump_script, "bisect": bisect_script}[options.command]
        return show(options, words[end + 1 :])
    options = parser().parse_args(words)
    if options.command == "coverage":
        print(coverage_text(), end="")
        return 0
    if options.command == "ir":
        return ir_command(options)
    if options.command == "compile":
        return compile_model(options)
    return model_command(options)


def _names_no_file(word: str) -> bool:
    return word.isidentifier() and not os.path.exists(word)


if __name__ == "__main__":
    words = sys.argv[1:]
    is_script = bool(words) and words[0] not in COMMANDS and not words[0].startswith("-")
    if is_script and _names_no_file(words[0]):
        print(
            f"vitrify: {words[0]!r} is no file and no command; commands are {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(main(["run", *words] if is_script else words))
