"""`vitrify.export`: a model as a shared library that a C program calls, without Python. docs/export.md is the walk.

Not `torch.export`, which is PyTorch's name for a package of its own: under `import torch` the function is found as
`torch.compiler.export` only.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .autograd import no_grad
from .compile import pytree
from .compile.compiled import CompiledFunction, DynamicShapes
from .compile.sharing import first_positions
from .compile.sources import ArgumentSource, NumberSource, RandomSource, TensorSource
from .compile.trace import Fixed, Trace
from .ir.graph import Graph
from .nn.modules.module import Module
from .runtime import progress
from .runtime.compiled_graph import CompileOptions
from .runtime.export import Exported, ExportError, export_graph, named_targets
from .tensor import Tensor

Array = np.ndarray[Any, Any]


def export(
    model: Callable[..., Any],
    args: Sequence[Any] | Tensor,
    path: str | os.PathLike[str],
    *,
    dynamic_shapes: DynamicShapes | None = None,
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    target: str | Sequence[str] | None = None,
    options: CompileOptions | None = None,
) -> Exported:
    """Write a Module in eval mode, or a function, as a shared library with a C interface, and its header beside it.

    args: arguments of a call, from which it is traced: tensors become the library's inputs (nested ones too), all else
    is fixed. Parameters, buffers and other tensors that the model reads become constants of the library. Results are the
    tensors it returns, flattened; None is left out.
    path: "model.so"; "model.o", and any path on a machine without a linker, gives an object file.
    dynamic_shapes: as for `torch.compile`: `{"input": {0: Dim("batch", 1, 64)}}`.
    name: what the library's functions begin with; the file's name by default.
    weights: a file for the constants, to be mapped into memory; inside the library by default.
    target: "host" (this processor's level: x86-64-v4, v3 or the first), "portable" (all three, chosen at the first
    call), or names of `Target`s, the best first.
    options: `CompileOptions(tune=True)` chooses by measurement for each target, which this machine must be able to run.

    The result says which files were written. Raises ExportError where the model cannot do without Python, with the
    ops or the state that stand in the way and their lines; whatever tracing raises passes through.
    """
    path = Path(path)
    name = name if name is not None else re.sub(r"\W", "_", path.stem)
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"name={name!r}: the library's functions begin with it, so it must be a name in C")
    file = Path(weights) if weights is not None else None
    if file is not None and file.resolve() == path.resolve():
        raise ValueError(f"weights={os.fspath(file)!r}: that is the library itself")
    targets = named_targets(target)
    options = options or CompileOptions()
    with progress.watched(name, options.progress) as compiling:
        compiling.step("trace")
        found = captured(model, args, dynamic_shapes, name)
        return export_graph(
            found.graph, found.inputs, found.constants, found.outputs, path, name, file, targets, options
        )


@dataclass(frozen=True)
class Captured:
    """A model as a graph that needs no Python: names of the graph's inputs, the values of those that are constants, and
    the names of its outputs."""

    graph: Graph
    inputs: list[str]
    constants: dict[int, Array]
    outputs: list[str]


def captured(
    model: Callable[..., Any],
    args: Sequence[Any] | Tensor,
    dynamic_shapes: DynamicShapes | None,
    name: str,
    named: Mapping[str, Any] | None = None,
) -> Captured:
    """The graph of one call of a Module in eval mode, or of a function; ExportError where it needs Python."""
    if isinstance(model, Module):
        training = [n or type(model).__name__ for n, m in model.named_modules() if m.training]
        if training:
            raise ExportError(
                f"{name}: {training[0]} is in training mode; call eval() on the model before exporting it"
            )
    elif not callable(model):
        raise TypeError(f"export takes a Module or a function, got {type(model).__name__}")
    arguments = (args,) if isinstance(args, Tensor) else tuple(args)
    with no_grad():
        arguments, named = _apart((arguments, dict(named or {})))
        trace = CompiledFunction(_Copied(model), dynamic_shapes, name=name).trace(*arguments, **named)
    outputs = _output_names(trace, name)
    return Captured(trace.graph, *_inputs(trace, name), outputs)


def _apart(tree: Any) -> Any:
    """Arguments of which no two are one tensor: what is exported takes each by itself."""
    leaves, structure = pytree.flatten(tree)
    first = first_positions(leaves)
    return pytree.unflatten(
        structure, [leaf.clone() if first.get(i, i) != i else leaf for i, leaf in enumerate(leaves)]
    )


class _Copied:
    """Calls a model and copies its results, so that an argument or a constant that is handed back is an output like any
    other; under the signature of the model."""

    def __init__(self, model: Callable[..., Any]):
        self.module = model  # the name by which tracing finds whose tensors they are
        called = model.forward if isinstance(model, Module) else model
        self.__signature__ = inspect.signature(called)

    def __call__(self, *args: Any, **named: Any) -> Any:
        leaves, structure = pytree.flatten(self.module(*args, **named))
        return pytree.unflatten(structure, [t.clone() if isinstance(t, Tensor) else t for t in leaves])


def _output_names(trace: Trace, name: str) -> list[str]:
    """The names of the graph's outputs; ExportError where something else than tensors comes out of the model."""
    if trace.conditions:
        places = "\n".join(f"  at {c.place}" for c in trace.conditions.values())
        raise ExportError(
            f"{name} cannot be exported: which way it goes depends on data\n{places}\nUse torch.where"
        )
    if trace.writes or trace.grads or trace.changes:
        changed = [trace.sources[slot].path for slot in trace.writes.values()]
        changed += ["an object"] * bool(trace.changes) + ["a gradient"] * bool(trace.grads)
        raise ExportError(
            f"{name} cannot be exported: it changes {', '.join(changed)}, and an exported model keeps nothing from call "
            "to call. Pass that as an argument and return the new value"
        )
    found = []
    for leaf, where in zip(trace.leaves, pytree.paths(trace.result, "output"), strict=True):
        if isinstance(leaf, Fixed):
            if leaf.value is not None:
                raise ExportError(
                    f"{name} returns {leaf.value!r} ({where}); an exported model returns tensors"
                )
            continue
        found.append(where)
    if not found:
        raise ExportError(f"{name} returns no tensor")
    return found


def _inputs(trace: Trace, name: str) -> tuple[list[str], dict[int, Array]]:
    """The names of the graph's inputs, and the values of those that are constants."""
    names: list[str] = []
    constants: dict[int, Array] = {}
    if trace.sharing.members():
        raise ExportError(f"{name} cannot be exported: it writes to memory that arguments share")
    if trace.grad_owners:
        raise ExportError(
            f"{name} cannot be exported: it reads gradients, which an exported model has none of"
        )
    for number, source in enumerate(trace.sources):
        names.append(source.path)
        if isinstance(source, RandomSource):
            raise ExportError(
                f"{name} cannot be exported: it draws random numbers{_places(trace, number)}, and an exported model "
                "has no generator"
            )
        if isinstance(source, NumberSource):
            constants[number] = np.asarray(source.get(), np.float64)
        elif isinstance(source, TensorSource):
            base = source.tensor._storage.base_array
            assert base is not None
            constants[number] = base
        else:
            assert isinstance(source, ArgumentSource)
    return names, constants


def _places(trace: Trace, number: int) -> str:
    """The user's lines that read an input of the graph."""
    value = trace.graph.inputs[number]
    places = {str(n.location): None for n in trace.graph.nodes if value in n.inputs and n.location}
    return f" (at {', '.join(places)})" if places else ""


__all__ = ["ExportError", "Exported", "export"]
