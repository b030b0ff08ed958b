"""`onnx.export`: a model as an ONNX file."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..compile.compiled import DynamicShapes
from ..ir.dims import Dim
from ..ir.graph import Graph, Value
from ..native_export import ExportError, captured
from ..passes.cse import CommonSubexpressions
from ..passes.dce import DeadCodeElimination
from ..passes.pipeline import run_pipeline
from ..passes.simplify import Simplify
from ..tensor import Tensor
from . import (  # noqa: F401  (fill the table)
    emitting_complex,
    emitting_elementwise,
    emitting_layers,
    emitting_loops,
    emitting_search,
    emitting_shapes,
)
from .emitting import Writer, value_info
from .reading import import_onnx
from .table import ONNXError

LOWEST_OPSET, HIGHEST_OPSET = 18, 23
_LARGEST = 2**31 - 2**20  # bytes; a protobuf message has less than 2 GiB


def export(
    model: Callable[..., Any],
    args: Sequence[Any] | Tensor = (),
    f: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    dynamic_shapes: DynamicShapes | None = None,
    external_data: bool = False,
    dynamic_axes: Mapping[str, Mapping[int, str] | Sequence[int]] | None = None,
    verbose: bool | None = None,
    dynamo: bool = True,
    optimize: bool = True,
    export_params: bool = True,
    do_constant_folding: bool = True,
) -> Any:
    """A Module in eval mode, or a function, as an ONNX model, written to `f` if that is given; the `onnx.ModelProto`.

    args, kwargs: arguments of a call, from which it is traced: tensors become the graph's inputs, all else is fixed.
    Parameters and buffers become initializers under their names.
    dynamic_shapes: as for `torch.compile`: `{"input": {0: Dim("batch", 1, 64)}}`; other sizes are fixed.
    dynamic_axes: the older form of that, `{"x": {0: "batch"}}` or `{"x": [0]}` by the names of inputs; outputs follow.
    opset_version: 18 (the default) to 23; a lower one gives 18 and a warning, as in PyTorch.
    external_data: weights go into a file `f` + ".data" beside the model; without that a model has less than 2 GB.
    verbose, dynamo, optimize, do_constant_folding: accepted for PyTorch's sake; they change nothing.

    The model is checked by `onnx.checker`. ONNXError lists every op that ONNX has nothing for, with its line;
    ExportError says what else stands in the way (random numbers, branches on data, changes of parameters).
    """
    onnx = import_onnx()
    opset = LOWEST_OPSET if opset_version is None else opset_version
    if opset > HIGHEST_OPSET:
        raise ValueError(f"opset_version={opset}: {LOWEST_OPSET} to {HIGHEST_OPSET} can be written")
    if opset < LOWEST_OPSET:
        warnings.warn(
            f"operator set {LOWEST_OPSET} is written: {opset} is too old for some ops", stacklevel=2
        )
        opset = LOWEST_OPSET
    if not export_params:
        raise NotImplementedError(
            "onnx.export(export_params=False): models are written with their parameters"
        )
    if dynamic_axes and dynamic_shapes is None:
        dynamic_shapes = _dynamic(model, input_names, dynamic_axes)
    if external_data and f is None:
        raise ValueError("external_data=True needs a path to write to")
    name = re.sub(r"\W", "_", getattr(model, "__name__", type(model).__name__))
    found = captured(model, args, dynamic_shapes, name, kwargs)
    steps = (DeadCodeElimination(), Simplify(), CommonSubexpressions(), DeadCodeElimination())
    graph = run_pipeline(found.graph, steps, verify=False)[-1]
    inputs = [i for i in range(len(graph.inputs)) if i not in found.constants]
    given = _names("input_names", input_names, [found.inputs[i] for i in inputs])
    outputs = _names("output_names", output_names, found.outputs)
    for title, value in zip([*given, *outputs], [*(graph.inputs[i] for i in inputs), *graph.outputs]):
        if value.type.dtype.is_complex:
            raise ONNXError(
                f"{name}: {title} is complex, which ONNX's ops are not: take torch.view_as_real or view_as_complex"
            )
    writer = Writer(opset)
    for output in outputs:
        writer.fresh(output)
    read = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
    for number, value in enumerate(graph.inputs):
        if number in found.constants:
            if value in read:
                stored = writer.input(found.inputs[number], value)
                writer.initializers[stored] = _stored(found.constants[number], value)
        else:
            writer.input(given[inputs.index(number)], value)
    writer.graph(graph)
    if writer.unsupported:
        lines = "".join(f"\n  {what} {place}" for what, place in sorted(writer.unsupported.items()))
        raise ONNXError(f"{name}: ONNX has nothing for{lines}")
    nodes, used = _needed(_renamed(writer, graph, outputs), outputs)
    proto = onnx.helper.make_graph(
        nodes,
        name,
        [value_info(writer.name(graph.inputs[i]), graph.inputs[i]) for i in inputs],
        [value_info(output, value) for output, value in zip(outputs, graph.outputs)],
        [_tensor(key, array) for key, array in writer.initializers.items() if key in used],
    )
    model_proto = onnx.helper.make_model(
        proto, producer_name="vitrify", opset_imports=[onnx.helper.make_opsetid("", opset)]
    )
    model_proto.ir_version = onnx.helper.find_min_ir_version_for(model_proto.opset_import)
    return _written(model_proto, f, external_data)


def _stored(array: np.ndarray[Any, Any], value: Value) -> np.ndarray[Any, Any]:
    """An initializer; complex numbers are pairs."""
    array = np.ascontiguousarray(array)
    if value.type.dtype.is_complex:
        return array.reshape(-1).view(array.real.dtype).reshape(*value.type.sizes, 2)
    return array.reshape(value.type.sizes)


def _dynamic(
    model: Callable[..., Any],
    names: Sequence[str] | None,
    axes: Mapping[str, Mapping[int, str] | Sequence[int]],
) -> DynamicShapes:
    """`dynamic_shapes` for `dynamic_axes`: inputs by position, the same dim for the same name."""
    parameters = list(inspect.signature(getattr(model, "forward", model)).parameters)
    inputs = dict(zip(names or parameters, parameters))
    found = {}
    for name, parameter in inputs.items():
        given = axes.get(name, {})
        named = given if isinstance(given, Mapping) else {axis: f"{name}_{axis}" for axis in given}
        dims = {axis: Dim(re.sub(r"\W", "_", text)) for axis, text in named.items()}
        if dims:
            found[parameter] = dims
    return found


def _written(model: Any, f: str | os.PathLike[str] | None, external: bool) -> Any:
    onnx = import_onnx()
    if f is None:
        onnx.checker.check_model(model, full_check=True)
        return model
    path = os.fspath(f)
    size = sum(len(t.raw_data) for t in model.graph.initializer)
    if size > _LARGEST and not external:
        raise ExportError(f"{size:,} bytes of weights do not fit into one file: use external_data=True")
    if external:
        beside = f"{os.path.basename(path)}.data"
        if os.path.exists(target := os.path.join(os.path.dirname(path), beside)):
            os.remove(target)  # onnx appends to it
        onnx.save_model(model, path, save_as_external_data=True, location=beside, size_threshold=1024)
        onnx.checker.check_model(path, full_check=size <= _LARGEST)
    else:
        onnx.checker.check_model(model, full_check=True)
        onnx.save_model(model, path)
    return model


def _names(what: str, given: Sequence[str] | None, found: Sequence[str]) -> list[str]:
    if given is None:
        return list(found)
    if len(given) != len(found) or len(set(given)) != len(given):
        raise ValueError(
            f"{what} has {len(given)} names, {len(found)} different ones are needed: {list(found)}"
        )
    return list(given)


def _renamed(writer: Writer, graph: Graph, outputs: Sequence[str]) -> list[Any]:
    """The nodes, in which the values that come out have the outputs' names."""
    helper = import_onnx().helper
    made = {name for node in writer.nodes for name in node.output}
    new: dict[str, str] = {}
    extra = []
    for output, value in zip(outputs, graph.outputs):
        name = writer.name(value)
        if name in made and name not in new:
            new[name] = output
        else:
            extra.append(
                helper.make_node("Identity", [new.get(name, name)], [output], name=writer.fresh("/Identity"))
            )
    _rename(writer.nodes, new)
    return [*writer.nodes, *extra]


def _rename(nodes: Iterable[Any], new: Mapping[str, str]) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [new.get(n, n) for n in names]
        for body in _bodies(node):
            _rename(body.node, new)


def _bodies(node: Any) -> list[Any]:
    return [a.g for a in node.attribute if a.HasField("g")]


def _read(node: Any) -> set[str]:
    """What the node reads, its bodies too."""
    return {*node.input, *(name for body in _bodies(node) for inner in body.node for name in _read(inner))}


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> tuple[list[Any], set[str]]:
    """The nodes that something comes out of (a `Gemm` turns its weight itself), and all names that are read."""
    used = set(outputs)
    kept = []
    for node in reversed(nodes):
        if used & set(node.output):
            kept.append(node)
            used |= _read(node)
    return kept[::-1], used


def _tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    return import_onnx().numpy_helper.from_array(array, name)


__all__ = ["export"]
