"""`vitrify ir`: graphs as text files, verified, transformed and run without the program they came from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from .codegen.loops.nodes import Program
from .codegen.lower import lower_graph
from .codegen.lower.plan_text import plan_text
from .codegen.target import Target
from .ir import interpreter
from .ir import ops as _ops  # noqa: F401  (fills the registry)
from .ir.graph import Graph, IRError, Value
from .ir.parser import parse
from .ir.printer import to_text
from .passes.pipeline import default_pipeline, run_pipeline
from .passes.text import MEMORY_PLAN, PASSES, PassSyntaxError, parse_pipeline
from .runtime.execute import CheckError, run_program

Array = np.ndarray[Any, Any]
# What the rules of ops raise for values that they do not take.
_OF_OPS = (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError, MemoryError)


def add_command(commands: Any) -> None:
    """Declare `ir` among an argparse parser's subcommands."""
    ir = commands.add_parser("ir", help="verify, transform or run a graph in a text file")
    actions = ir.add_subparsers(dest="action", required=True, metavar="action")
    verify = actions.add_parser("verify", help="check files against the rules of the IR")
    verify.add_argument("files", nargs="+", metavar="file.ir")
    opt = actions.add_parser("opt", help="run passes on a graph and print what they make of it")
    opt.add_argument("file", metavar="file.ir")
    opt.add_argument(
        "-p",
        "--passes",
        help=f"such as 'simplify, fusion{{enabled=false}}' (default: all); {', '.join(PASSES)}; "
        f"{MEMORY_PLAN} at the end prints that too",
    )
    opt.add_argument("-o", "--output", metavar="FILE", help="where the graph goes (default: stdout)")
    run = actions.add_parser("run", help="run a graph on arrays")
    run.add_argument("file", metavar="file.ir")
    run.add_argument(
        "--inputs", metavar="x.npz", help="the inputs, by name, or by position as arr_0, arr_1, ..."
    )
    run.add_argument(
        "--native", action="store_true", help="by compiled code instead of the reference interpreter"
    )
    run.add_argument(
        "-o", "--output", metavar="out.npz", help="save the outputs by name (default: print them)"
    )


def ir_command(options: argparse.Namespace) -> int:
    """The exit status: 0, or 1 where a file, passes or inputs are at fault."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {"verify": _verify, "opt": _opt, "run": _run}
    try:
        return actions[options.action](options)
    except (CheckError, IRError, PassSyntaxError, OSError) as error:
        print(f"vitrify: {error}", file=sys.stderr)
        return 1


def _verify(options: argparse.Namespace) -> int:
    status = 0
    for file in options.files:
        try:
            graph = _read(file)
        except IRError as error:
            print(f"vitrify: {error}", file=sys.stderr)
            status = 1
        else:
            print(f"{file}: {graph.name}, {len(graph.nodes)} nodes, sound")
    return status


def _opt(options: argparse.Namespace) -> int:
    passes, planned = (
        (default_pipeline(), False) if options.passes is None else parse_pipeline(options.passes)
    )
    graph = run_pipeline(_read(options.file), passes)[-1]
    text = to_text(graph)
    if planned:
        target = Target.host()
        text = f"{text.rstrip()}\n" + plan_text(_lowered(graph, target), target.name)
    if options.output:
        Path(options.output).write_text(text, encoding="utf-8")
    else:
        print(text, end="" if text.endswith("\n") else "\n")
    return 0


def _lowered(graph: Graph, target: Target) -> Program:
    """IRError where kernels can only be made after other passes."""
    if graph.nodes and not any(node.op.name == "fused" for node in graph.nodes):
        raise IRError(
            f"{graph.name} is not fused: {MEMORY_PLAN} plans the kernels of groups; put fusion before it"
        )
    try:
        return lower_graph(graph, target)
    except IRError as error:
        raise IRError(
            f"{error}\n(ops that are made of others have no kernels: decompose comes before fusion)"
        ) from None


def _run(options: argparse.Namespace) -> int:
    graph = _read(options.file)
    stored: Mapping[str, Array] = {}
    if options.inputs:
        try:
            with np.load(options.inputs) as archive:
                # What bisection saves says beside the inputs which stage they are for.
                stored = {name: archive[name] for name in archive if archive[name].dtype.kind != "U"}
        except (ValueError, EOFError, BadZipFile) as error:  # not an archive, or one of Python objects
            raise IRError(f"{options.inputs} cannot be read as arrays: {error}") from None
    inputs = chosen_inputs(graph, stored)
    try:
        found = run_native(graph, inputs) if options.native else interpreter.run(graph, inputs)
    except (CheckError, IRError):
        raise
    except _OF_OPS as error:
        where = "" if options.native else f", in {_first_to_fail(graph, inputs)}"
        raise IRError(f"{options.file}: {error or type(error).__name__}{where}") from None
    if options.output:
        arrays: dict[str, Any] = {v.name: array for v, array in zip(graph.outputs, found)}
        np.savez(options.output, **arrays)
        return 0
    for value, array in zip(graph.outputs, found):
        print(f"%{value.name}: {value.type} =\n{array}")
    return 0


def _first_to_fail(graph: Graph, inputs: Sequence[Array]) -> str:
    """The node that raises, as text."""
    bound = dict(interpreter.bind_symbols(graph, inputs))
    env = dict(zip(graph.inputs, inputs))
    for node in graph.nodes:
        try:
            results = interpreter.evaluate_node(node, [env[v] for v in node.inputs], bound)
        except _OF_OPS:
            return repr(node)
        bound.update(interpreter.told_sizes(node, results))
        env.update(zip(node.outputs, results))
    return graph.name


def chosen_inputs(graph: Graph, stored: Mapping[str, Array]) -> list[Array]:
    """The graph's inputs in order, found by name, or by position where all are named as `numpy.savez` names what has no
    name; IRError says which are missing or too many."""
    names = [v.name for v in graph.inputs]
    if stored and all(name == f"arr_{i}" for i, name in enumerate(stored)) and not set(stored) & set(names):
        if len(stored) != len(names):
            raise IRError(
                f"{graph.name} takes {len(names)} inputs ({', '.join(names)}), the file has {len(stored)}"
            )
        return [_as_declared(v, a) for v, a in zip(graph.inputs, stored.values())]
    missing = [name for name in names if name not in stored]
    unknown = [name for name in stored if name not in names]
    if missing or unknown:
        what = [f"{', '.join(missing)} missing"] if missing else []
        what += [f"{', '.join(unknown)} unknown"] if unknown else []
        raise IRError(f"{graph.name} takes the inputs {', '.join(names) or '(none)'}: {'; '.join(what)}")
    return [_as_declared(v, stored[v.name]) for v in graph.inputs]


def _as_declared(value: Value, array: Array) -> Array:
    """Elements of a type that is not NumPy's own (bfloat16), which its files hold as bytes or as unsigned integers."""
    wanted = value.type.dtype.numpy
    own = wanted.kind == "V"
    return (
        array.view(wanted)
        if own and array.dtype.kind in "Vu" and array.itemsize == wanted.itemsize
        else array
    )


def run_native(graph: Graph, inputs: list[Array]) -> list[Array]:
    """The outputs by machine code. A graph that is fused is lowered as it is, another goes through all passes."""
    bindings = interpreter.bind_symbols(graph, inputs)
    if not any(node.op.name == "fused" for node in graph.nodes):
        graph = run_pipeline(graph, default_pipeline())[-1]
    program = lower_graph(graph, Target.host())
    return run_program(program, inputs, bindings)


def _read(file: str) -> Graph:
    try:
        return parse(Path(file).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise IRError(f"{file}: not UTF-8 text: {error}") from None
    except IRError as error:
        raise IRError(f"{file}: {error}") from None
