"""Models as the command line names them, and arguments for them.

`script.py:net` is a Module or function that a script defines, `net.onnx` an ONNX file, `net.so` what `vitrify
compile` wrote. `@eager` after the first two has them not compiled; `@fp32`, `@bf16` and `@int8` have them optimized
for inference.
"""

from __future__ import annotations

import argparse
import inspect
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .alias import as_torch
from .autograd.grad_mode import enable_grad
from .compile.entry import compile
from .creation import from_numpy, zeros
from .exported import ExportedModel, load_exported
from .inference import PRECISIONS, optimize_for_inference
from .ir import dtypes
from .ir.dims import Dim, Expr, bounds
from .nn.modules.module import Module
from .onnx import GraphModule
from .onnx import load as load_onnx
from .run import report
from .tensor import Tensor

TensorShape = tuple[dtypes.DType, Sequence[int | Expr]]

_TYPE = re.compile(r"(\w+)\[(.*)\]")
_DIM = re.compile(r"(?P<size>\d+)|(?P<name>[A-Za-z_]\w*)(=(?P<low>\d+):(?P<high>\d+))?")
_DTYPES = {
    d.name: d
    for d in (
        dtypes.bool_,
        *(dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64),
        *(dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64),
        *(dtypes.f16, dtypes.bf16, dtypes.f32, dtypes.f64),
    )
}
_LONG_NAMES = {d.numpy.name: d for d in _DTYPES.values()}


class ScriptFailed(Exception):
    """A script raised an error, which has been printed."""


@dataclass(frozen=True)
class NamedModel:
    """`model`: a Module, function or ExportedModel as it was found; `variant`: what came after @."""

    text: str
    model: Callable[..., Any]
    variant: str

    @property
    def parameters(self) -> list[str]:
        """The names of its arguments."""
        if isinstance(self.model, ExportedModel):
            return [info.name for info in self.model.inputs]
        called = self.model.forward if isinstance(self.model, Module) else self.model
        return list(inspect.signature(called).parameters)

    def types(self, dims: Mapping[str, int], open_dims: dict[str, Expr] | None = None) -> list[TensorShape]:
        """The arguments' types, where the model says them; ValueError naming a dim that `dims` does not, unless it
        may go into `open_dims`."""
        if isinstance(self.model, ExportedModel):
            return [(info.dtype, [_size(d, dims) for d in info.shape]) for info in self.model.inputs]
        if isinstance(self.model, GraphModule):
            return [_onnx_type(name, text, dims, open_dims) for name, text in self.model.input_types.items()]
        raise ValueError(f"{self.text} does not say what its arguments are: give their types, f32[8, 784]")

    def runnable(self, args: Sequence[Any], tune: bool = False) -> Callable[..., Any]:
        """The model as its variant says: compiled, unless it is eager or a library. tune: with choices by
        measurement."""
        if isinstance(self.model, ExportedModel) or self.variant == "eager":
            return self.model
        return compile(self.optimized(args) if self.variant else self.model, options={"tune": tune})

    def optimized(self, args: Sequence[Any]) -> Module:
        """The Module as its variant says."""
        if not isinstance(self.model, Module):
            raise TypeError(f"{self.text}: only a Module can be optimized for inference")
        return optimize_for_inference(self.model, tuple(args), precision=self.variant)

    def module(self, args: Sequence[Any]) -> Module | None:
        """The Module that runs, not compiled; None if it is no Module."""
        if not isinstance(self.model, Module):
            return None
        return self.optimized(args) if self.variant in PRECISIONS else self.model


def find_model(text: str, fixed: Sequence[str] = ()) -> NamedModel:
    """The model of that name; `fixed`: NAME=VALUE for inputs that never change, if it is an ONNX file. ScriptFailed
    where a script raises an error, ValueError, TypeError and OSError for others."""
    name, at, variant = text.rpartition("@")
    if not at or not variant.isalnum():  # folders may have an @ in their names
        name, variant = text, ""
    if variant and variant not in ("eager", *PRECISIONS):
        raise ValueError(f"{text!r}: after @ comes eager, {', '.join(PRECISIONS)}")
    path = Path(name)
    if path.suffix == ".onnx":
        return NamedModel(text, load_onnx(path, dict(map(_fixed, fixed))), variant)
    if path.suffix == ".so":
        if variant:
            raise ValueError(f"{text!r}: a library is what it was compiled to; it has no @{variant}")
        return NamedModel(text, load_exported(path), variant)
    script, colon, attribute = name.rpartition(":")
    if not colon or not attribute.isidentifier():
        raise ValueError(f"{name!r} is not SCRIPT:NAME, nor a .onnx or .so file")
    if not Path(script).is_file():
        raise FileNotFoundError(f"can't open file {script!r}")
    as_torch()
    try:
        with enable_grad():  # the script may train what it defines
            space = runpy.run_path(script, run_name=Path(script).stem)
    except Exception as error:
        report(error)
        raise ScriptFailed(script) from error
    if attribute not in space:
        raise ValueError(f"{script} defines no {attribute!r}")
    model = space[attribute]
    if isinstance(model, Module):
        model.eval()
    elif not callable(model):
        raise TypeError(f"{name} is neither a Module nor a function, but {type(model).__name__}")
    return NamedModel(text, model, variant)


def add_input_options(command: Any) -> None:
    """Declare where a command's arguments for models come from."""
    command.add_argument(
        "types",
        metavar="TYPE",
        nargs="*",
        help="of each argument: f32[8, 784], i64[1, 10], f32[]; .onnx and .so say them",
    )
    command.add_argument(
        "--inputs",
        metavar="x.npz",
        help="the arguments, by name or as arr_0, arr_1, ... (default: random numbers)",
    )
    command.add_argument(
        "--dim",
        metavar="NAME=SIZE",
        action="append",
        default=[],
        help="the size of a dim that a .onnx or .so leaves open",
    )
    add_fixed_option(command)
    command.add_argument(
        "--high", type=int, default=10, help="random integers are below this (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0)


def add_fixed_option(command: Any) -> None:
    """Declare what `find_model` fixes."""
    command.add_argument(
        "--fixed",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an input of a .onnx that never changes, as a whole number, true or false",
    )


def models_of(texts: Sequence[str], fixed: Sequence[str]) -> list[NamedModel]:
    """`find_model` for each; ValueError where something is fixed and none of them is an ONNX file."""
    found = [find_model(text, fixed) for text in texts]
    if fixed and not any(isinstance(model.model, GraphModule) for model in found):
        raise ValueError(f"--fixed {fixed[0]} is for ONNX files; {', '.join(texts)} is none")
    return found


def arguments(model: NamedModel, options: argparse.Namespace) -> list[Tensor]:
    """What to call the model with: from a file, or random numbers of its types."""
    names = model.parameters
    if options.inputs:
        with np.load(options.inputs) as file:
            found = {key: file[key] for key in file.files}
        places = [name if name in found else f"arr_{i}" for i, name in enumerate(names)]
        given = [found[place] for place in places if place in found]
        if len(given) != len(found):
            unused = sorted(set(found) - set(places))
            raise ValueError(f"{options.inputs}: {unused[0]!r} is no argument; they are {', '.join(names)}")
        return [from_numpy(np.array(array)) for array in given]
    dims = dict(_named_size(text) for text in options.dim)
    known: dict[str, Expr] = {}
    types = [parsed_type(text, known) for text in options.types] or model.types(dims)
    rng = np.random.default_rng(options.seed)
    return [_random(rng, dtype, shape, options.high, dims) for dtype, shape in types]


def parsed_type(text: str, known: dict[str, Expr]) -> TensorShape:
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


def example(dtype: dtypes.DType, shape: Sequence[int | Expr]) -> Tensor:
    """Zeros of the type, dims as small as they may be, but 2 where that is allowed: nothing follows from it."""
    return zeros([_size(size, {}) for size in shape], dtype=dtype)


def random_examples(types: Sequence[TensorShape]) -> list[Tensor]:
    """Random numbers of the types, sizes as in `example`."""
    rng = np.random.default_rng(0)
    return [_random(rng, dtype, shape, 2, {}) for dtype, shape in types]


def _size(size: Any, dims: Mapping[str, int]) -> int:
    if isinstance(size, Expr):
        if str(size) in dims:
            return dims[str(size)]
        low, high = bounds(size)
        return min(max(low, 2), high)
    if isinstance(size, str):
        if size not in dims:
            raise ValueError(f"the dim {size} is open: give its size with --dim {size}=1")
        return dims[size]
    return int(size)


def _fixed(text: str) -> tuple[str, int | bool]:
    name, _, value = text.rpartition("=")
    if name and value in ("true", "false"):
        return name, value == "true"
    if not name or not re.fullmatch(r"-?\d+", value):
        raise ValueError(f"--fixed {text!r} is not NAME=VALUE, a whole number, true or false")
    return name, int(value)


def _named_size(text: str) -> tuple[str, int]:
    name, _, size = text.rpartition("=")
    if not name or not size.isdigit():
        raise ValueError(f"--dim {text!r} is not NAME=SIZE")
    return name, int(size)


def _onnx_type(
    name: str, text: str, dims: Mapping[str, int], open_dims: dict[str, Expr] | None
) -> TensorShape:
    match = _TYPE.fullmatch(text)
    dtype = _LONG_NAMES.get(match[1]) if match else None
    sizes = [p.strip() for p in match[2].split(",")] if match and match[2].strip() else []
    if dtype is None or any(s in ("?", "...") or s.startswith("-") for s in sizes):
        raise ValueError(f"the file says of {name} only {text}: give the types of all arguments, f32[8, 784]")
    shape: list[int | Expr] = []
    for size in sizes:
        if size.isdigit():
            shape.append(int(size))
        elif open_dims is None:
            shape.append(_size(size, dims))
        else:
            shape.append(open_dims.setdefault(size, Dim(re.sub(r"\W", "_", size))))
    return dtype, shape


def _random(
    rng: np.random.Generator,
    dtype: dtypes.DType,
    shape: Sequence[int | Expr],
    high: int,
    dims: Mapping[str, int],
) -> Tensor:
    sizes = [_size(size, dims) for size in shape]
    if dtype.is_floating_point:
        return from_numpy(rng.normal(size=sizes).astype(np.float32)).to(dtype)
    return from_numpy(rng.integers(0, 2 if dtype is dtypes.bool_ else high, sizes)).to(dtype)


def told(error: BaseException) -> int:
    """Say what is wrong; the exit status."""
    if not isinstance(error, ScriptFailed):
        print("\n  ".join([f"vitrify: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
    return 1
