"""The command line: `vitrify run script.py ...`, `vitrify coverage`, and `python -m vitrify script.py ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .coverage import coverage_text
from .run import run_script

COMMANDS = ("run", "coverage")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="vitrify", description="PyTorch's API, eager over NumPy, compiled through LLVM."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    run = commands.add_parser("run", help="run a script that imports torch, with vitrify in torch's place")
    run.add_argument("script", help="the Python file")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the script's own arguments")
    commands.add_parser("coverage", help="print which of PyTorch's public names there are (docs/coverage.md)")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `vitrify argv...`."""
    options = parser().parse_args(argv)
    if options.command == "coverage":
        print(coverage_text(), end="")
        return 0
    return run_script(options.script, options.arguments)


if __name__ == "__main__":
    words = sys.argv[1:]
    is_script = bool(words) and words[0] not in COMMANDS and not words[0].startswith("-")
    sys.exit(main(["run", *words] if is_script else words))
