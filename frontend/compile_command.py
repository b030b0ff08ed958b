"""`vitrify compile MODEL TYPE ... -o model.so`: export a model from the command line (docs/export.md)."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .exported import ExportedModel
from .ir.dims import Expr
from .named_models import (
    ScriptFailed,
    add_fixed_option,
    example,
    models_of,
    parsed_type,
    random_examples,
    told,
)
from .native_export import ExportError, export
from .onnx import GraphModule
from .runtime.compiled_graph import CompileOptions


def add_compile_command(commands: Any) -> None:
    """Declare `compile` among an argparse parser's subcommands."""
    command = commands.add_parser(
        "compile",
        help="write a model as a shared library for C programs",
        epilog="example: vitrify compile lenet.py:net 'f32[batch=1:64, 1, 32, 32]' -o lenet.so",
    )
    command.add_argument(
        "model",
        metavar="MODEL",
        help="net.onnx, or script.py:name, a Python file and the name of a Module or function in it; @fp32, @bf16 or "
        "@int8 may follow",
    )
    command.add_argument(
        "types",
        metavar="TYPE",
        nargs="*",
        help="of each argument: f32[8, 784], i64[batch=1:64, 10], f32[]; .onnx says them, if its dims have names",
    )
    add_fixed_option(command)
    command.add_argument("-o", "--output", required=True, help="the library; the header is written beside it")
    command.add_argument("--name", help="what its functions begin with (default: the name of the file)")
    command.add_argument(
        "--weights", metavar="FILE", help="write the weights to this file, not into the library"
    )
    command.add_argument(
        "--target",
        action="append",
        help="host, portable or the name of a target; more than one, the best first",
    )
    command.add_argument(
        "--tune",
        action="store_true",
        help="choose among ways to compute a kernel by measurement, on this machine, with as many threads as it has",
    )


def compile_model(options: argparse.Namespace) -> int:
    """Export what the options say; the exit status."""
    try:
        return _compile(options)
    except (
        ScriptFailed,
        ImportError,
        ExportError,
        ValueError,
        TypeError,
        OSError,
        RuntimeError,
        IndexError,
    ) as error:
        return told(error)  # of the model too, as it is called with tensors of these types


def _compile(options: argparse.Namespace) -> int:
    dims: dict[str, Expr] = {}
    shapes = [parsed_type(text, dims) for text in options.types]
    (found,) = models_of([options.model], options.fixed)
    if isinstance(found.model, ExportedModel):
        raise TypeError(f"{options.model} is compiled already")
    if not shapes and isinstance(found.model, GraphModule):
        shapes = found.types({}, dims)
    parameters = found.parameters
    if len(parameters) < len(shapes):
        raise TypeError(f"{options.model} takes {len(parameters)} arguments, got {len(shapes)} types")
    dynamic = {
        parameter: {axis: d for axis, d in enumerate(shape) if isinstance(d, Expr)}
        for parameter, (_, shape) in zip(parameters, shapes)
    }
    args = [example(dtype, shape) for dtype, shape in shapes]
    model = found.model
    if found.variant == "eager":
        raise ValueError(f"{options.model}: a library is compiled, so it has no @eager")
    if found.variant:
        model = found.optimized(random_examples(shapes))
        print(model.optimization, file=sys.stderr)
    exported = export(
        model,
        args,
        options.output,
        dynamic_shapes={p: axes for p, axes in dynamic.items() if axes},
        name=options.name,
        weights=options.weights,
        target=options.target,
        options=CompileOptions(tune=options.tune),
    )
    print(*exported.files, sep="\n")
    return 0
