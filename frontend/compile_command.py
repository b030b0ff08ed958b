"""`vitrify compile script.py:name TYPE ... -o model.so`: export a model from the command line (docs/export.md)."""

from __future__ import annotations

import argparse
import inspect
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .alias import as_torch
from .creation import zeros
from .ir import dtypes
from .ir.dims import Dim, Expr, bounds
from .native_export import ExportError, export
from .nn.modules.module import Module
from .run import report
from .tensor import Tensor

_TYPE = re.compile(r"(\w+)\[(.*)\]")
_DIM = re.compile(r"(?P<size>\d+)|(?P<name>[A-Za-z_]\w*)(=(?P<low>\d+):(?P<high>\d+))?")


def add_compile_command(commands: Any) -> None:
    """Declare `compile` among an argparse parser's subcommands."""
    command = commands.add_parser(
        "compile",
        help="write a model as a shared library for C programs",
        epilog="example: vitrify compile lenet.py:net 'f32[batch=1:64, 1, 32, 32]' -o lenet.so",
    )
    command.add_argument(
        "model", metavar="SCRIPT:NAME", help="a Python file, and the name of a Module or function in it"
    )
    command.add_argument(
        "types", metavar="TYPE", nargs="*", help="of each argument: f32[8, 784], i64[batch=1:64, 10], f32[]"
    )
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


def compile_model(options: argparse.Namespace) -> int:
    """Export what the options say; the exit status."""
    try:
        return _compile(options)
    except (ExportError, ValueError, TypeError, OSError) as error:
        print(f"vitrify: {error}", file=sys.stderr)
        return 1


def _compile(options: argparse.Namespace) -> int:
    script, colon, name = options.model.rpartition(":")
    if not colon or not name.isidentifier():
        raise ValueError(f"{options.model!r} is not SCRIPT:NAME")
    if not Path(script).is_file():
        raise FileNotFoundError(f"can't open file {script!r}")
    dims: dict[str, Expr] = {}
    shapes = [_parsed(text, dims) for text in options.types]
    as_torch()
    try:
        space = runpy.run_path(script, run_name=Path(script).stem)
    except Exception as error:
        report(error)
        return 1
    if name not in space:
        raise ValueError(f"{script} defines no {name!r}")
    model = space[name]
    if isinstance(model, Module):
        model.eval()
    elif not callable(model):
        raise TypeError(f"{options.model} is neither a Module nor a function, but {type(model).__name__}")
    parameters = list(inspect.signature(model.forward if isinstance(model, Module) else model).parameters)
    if len(parameters) < len(shapes):
        raise TypeError(f"{options.model} takes {len(parameters)} arguments, got {len(shapes)} types")
    dynamic = {
        parameter: {axis: d for axis, d in enumerate(shape) if isinstance(d, Expr)}
        for parameter, (_, shape) in zip(parameters, shapes)
    }
    exported = export(
        model,
        [_example(dtype, shape) for dtype, shape in shapes],
        options.output,
        dynamic_shapes={p: axes for p, axes in dynamic.items() if axes},
        name=options.name,
        weights=options.weights,
        target=options.target,
    )
    print(*exported.files, sep="\n")
    return 0


def _parsed(text: str, known: dict[str, Expr]) -> tuple[dtypes.DType, Sequence[int | Expr]]:
    """A tensor type as the command line writes it; dims that have a name are noted in `known`."""
    match = _TYPE.fullmatch(text.strip())
    dtype = _DTYPES.get(match[1]) if match else None
    if match is None or dtype is None:
        raise ValueError(f"{text!r} is not a type: write f32[8, 784]; dtypes are {', '.join(_DTYPES)}")
    shape: list[int | Expr] = []
    for part in [p.strip() for p in match[2].split(",")] if match[2].strip() else []:
        dim = _DIM.fullmatch(part)
        if dim is None:
            raise ValueError(f"{part!r} in {text!r} is not a size: write 784, batch or batch=1:64")
        if dim["size"]:
            shape.append(int(dim["size"]))
            continue
        name = dim["name"]
        if dim["low"]:
            found = Dim(name, int(dim["low"]), int(dim["high"]))
            if known.setdefault(name, found) != found:
                raise ValueError(f"{name} has other bounds in {text!r} than before")
        shape.append(known.setdefault(name, Dim(name)))
    return dtype, shape


def _example(dtype: dtypes.DType, shape: Sequence[int | Expr]) -> Tensor:
    """A tensor of the type, dims as small as they may be, but 2 where that is allowed: nothing follows from it."""
    sizes = []
    for size in shape:
        if isinstance(size, Expr):
            low, high = bounds(size)
            sizes.append(min(max(low, 2), high))
        else:
            sizes.append(size)
    return zeros(sizes, dtype=dtype)


_DTYPES = {
    d.name: d
    for d in (
        dtypes.bool_,
        *(dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64),
        *(dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64),
        *(dtypes.f16, dtypes.bf16, dtypes.f32, dtypes.f64),
    )
}
