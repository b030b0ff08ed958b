"""`onnx.load` and the Module it gives."""

from __future__ import annotations

import functools
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..nn.modules.module import Module
from ..nn.parameter import Parameter
from ..tensor import Tensor
from . import (  # noqa: F401  (fill the table)
    contractions,
    control_flow,
    convolutions,
    elementwise,
    indexing,
    normalizations,
    optimizers,
    quantization,
    recurrent,
    reductions,
    regions,
    resizing,
    shapes,
    signals,
)
from .hoisting import SMALL, hoist
from .interpreter import Interpreter, fold, names_inside
from .narrow import is_narrow, only_dequantized, widened
from .optimizing import Optimizing, optimized
from .reading import GraphPlan, Reader, read_model
from .table import DTYPES, ONNXError, Value, as_array, as_tensor, tensor_of


class Scope(Module):
    """Holds the parameters whose names in the file begin with its own."""

    def extra_repr(self) -> str:
        return ", ".join(_tensor_lines(self))


class GraphModule(Module):
    """The graph of an ONNX file.

    `forward` takes the inputs in the file's order or by name, and gives its one output or a tuple of them.

    Float initializers are parameters, running statistics and integer ones buffers, under their names in the file,
    where a dot leads into a submodule and other characters that a name cannot have are underscores
    (`original_names`). Constant inputs of an op that have to be known beforehand (the bounds of Clip) are not
    trained. `metadata` holds the texts that the file has beside its graph.
    """

    def __init__(self, plan: GraphPlan, reader: Reader, metadata: Mapping[str, str] | None = None):
        super().__init__()
        self.metadata = dict(metadata or {})
        self.graph_name = plan.name
        self.input_names = plan.inputs
        self.output_names = plan.outputs
        self.input_types = {name: plan.types[name] for name in plan.inputs}
        self.output_types = {name: plan.types[name] for name in plan.outputs}
        self.opset_version = reader.opsets.get("", 0)
        self.original_names: dict[str, str] = {}
        self._operators = Counter(node.op_type for node in plan.nodes)
        plan, constants = fold(hoist(plan))
        self._places: dict[str, tuple[Module, str]] = {}
        self._arrays: dict[str, Value] = {}
        static, state, floats = _uses(plan)
        weights = only_dequantized(plan)
        used = {name for node in plan.nodes for name in node.inputs} | names_inside(plan) | set(plan.outputs)
        for name, array in plan.constants.items():
            if name not in used:
                continue
            if is_narrow(array):
                if name not in weights:
                    self._arrays[name] = array
                    continue
                array, state = widened(array), state | {name}
            self._enter(name, array, name in static, name in state or name not in floats)
        for name, value in constants.items():
            if name in used:
                self._enter_constant(name, value)
        self._interpreter = Interpreter(replace(plan, constants={}), reader)

    def _enter(self, name: str, array: np.ndarray[Any, Any], static: bool, state: bool) -> None:
        if array.dtype.name not in DTYPES:
            raise ONNXError(f"initializer {name!r}: element type {array.dtype} is not supported")
        tensor = tensor_of(array)
        owner, attribute = self._place(name)
        if tensor.is_floating_point() and not static and not state:
            owner.register_parameter(attribute, Parameter(tensor))
            self._places[name] = owner, attribute
            return
        owner.register_buffer(attribute, tensor)
        if static or (not tensor.is_floating_point() and array.size <= SMALL):
            self._arrays[name] = array  # the buffer's memory
        else:
            self._places[name] = owner, attribute

    def _enter_constant(self, name: str, value: Value) -> None:
        """A value that the nodes gave at load; large ones are buffers that checkpoints do not hold."""
        if isinstance(value, np.ndarray) and value.size > SMALL and value.dtype.name in DTYPES:
            owner, attribute = self._place(name)
            owner.register_buffer(
                attribute, tensor_of(np.require(value, requirements=["C", "W"])), persistent=False
            )
            self._places[name] = owner, attribute
        else:
            self._arrays[name] = value

    def _place(self, name: str) -> tuple[Module, str]:
        """Where a constant of the file belongs: the submodule, and the name in it."""
        *scopes, last = [re.sub(r"\W+", "_", part).strip("_") or "_" for part in name.split(".")]
        owner: Module = self
        for scope in scopes:
            found = owner._modules.get(scope)
            if found is None:
                if hasattr(owner, scope):
                    scope = _free(owner, scope)
                found = Scope()
                owner.add_module(scope, found)
            owner = found
        last = _free(owner, last)
        self.original_names[".".join([*scopes, last])] = name
        return owner, last

    @property
    def forward(self) -> Callable[..., Any]:  # type: ignore[override]
        """Called as a function of the graph's inputs, so `torch.compile(..., dynamic_shapes=)` knows them by name."""
        call = functools.partial(self._forward)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(_identifier(name), kind) for name in self.input_names]
        )
        return call

    def _forward(self, *inputs: Any, **named: Any) -> Any:
        names = self.input_names
        if len(inputs) > len(names):
            raise TypeError(
                f"the graph takes {len(names)} inputs ({', '.join(names)}) but {len(inputs)} were given"
            )
        values: dict[str, Value] = dict(zip(names, inputs))
        identifiers = {_identifier(name): name for name in names}
        for key, value in named.items():
            name = key if key in names else identifiers.get(key, "")
            if not name or name in values:
                raise TypeError(f"unexpected input {key!r}; the graph's inputs are {', '.join(names)}")
            values[name] = value
        missing = [
            name for name in names if name not in values and not self.input_types[name].startswith("optional")
        ]
        if missing:
            raise TypeError(f"missing inputs: {', '.join(missing)}")
        environment = {name: _given(values.get(name)) for name in names}
        environment.update(self._arrays)
        environment.update((name, getattr(owner, key)) for name, (owner, key) in self._places.items())
        results = [_result(v) for v in self._interpreter.run(environment)]
        return results[0] if len(results) == 1 else tuple(results)

    def optimized_for_inference(self, precision: str, dynamic: bool = False) -> tuple[Module, Optimizing]:
        """A Module without batch norms behind known weights, with short weights if the precision is one, products of
        integers if `dynamic`; and what was done. `optimize_for_inference` calls it."""
        constants = {n: v for n, v in self._arrays.items() if isinstance(v, np.ndarray)}
        constants.update((n, as_array(getattr(owner, key))) for n, (owner, key) in self._places.items())
        plan, done = optimized(replace(self._interpreter.plan, constants=constants), precision, dynamic)
        assert self._interpreter.reader is not None
        found = GraphModule(plan, self._interpreter.reader, self.metadata)
        lists = {n: v for n, v in self._arrays.items() if not isinstance(v, np.ndarray)}
        found._arrays.update(lists)
        return found.eval(), done

    @contextmanager
    def observed(self, observe: Callable[[str, Value], None]) -> Iterator[None]:
        """While this lasts `observe(name, value)` is told every value that a call computes."""
        before, self._interpreter.observe = self._interpreter.observe, observe
        try:
            yield
        finally:
            self._interpreter.observe = before

    def extra_repr(self) -> str:
        ops = ", ".join(f"{count} {name}" for name, count in self._operators.most_common())
        inputs = ", ".join(f"{name}: {self.input_types[name]}" for name in self.input_names)
        outputs = ", ".join(f"{name}: {self.output_types[name]}" for name in self.output_names)
        lines = [
            f"inputs: {inputs}",
            f"outputs: {outputs}",
            f"nodes: {ops} (operator set {self.opset_version})",
        ]
        return "\n".join(lines + _tensor_lines(self))


def load(
    source: Any, fixed: Mapping[str, Any] | None = None, outputs: Sequence[str] | None = None
) -> GraphModule:
    """The Module for an ONNX model: a path, bytes, an open binary file, or an `onnx.ModelProto`. It is in eval
    mode, though the mode changes nothing: the file says what is training.

    fixed: values for inputs that never change (a sampling rate), whole numbers or bools. They are no arguments of
    the Module then, and what branches on them is decided.
    outputs: names of those that are wanted, any values of the graph that nodes give; what they do not need goes, with
    its weights and inputs. The file's outputs by default.

    ONNXError: the file is damaged, or has ops without a rule; all of them are listed.
    """
    model, folder = read_model(source)
    reader = Reader(model, folder)
    plan = reader.graph(model.graph)
    reader.refuse()
    if fixed:
        plan = _with_fixed(plan, fixed)
    if outputs is not None:
        plan = _with_outputs(plan, outputs)
    module = GraphModule(plan, reader, {p.key: p.value for p in model.metadata_props})
    return module.eval()


def _with_fixed(plan: GraphPlan, fixed: Mapping[str, Any]) -> GraphPlan:
    constants = dict(plan.constants)
    for name, value in fixed.items():
        if name not in plan.inputs:
            raise ValueError(f"fixed: {name!r} is no input of the graph; they are {', '.join(plan.inputs)}")
        dtype = plan.types[name].partition("[")[0]
        if dtype not in DTYPES or np.dtype(dtype).kind not in "iub":
            raise ValueError(f"fixed: {name} is {plan.types[name]}; whole numbers and bools can be fixed")
        array = np.asarray(value.tolist() if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "iub":
            raise TypeError(f"fixed: {name} is {plan.types[name]}, not {array.dtype}")
        constants[name] = array.astype(dtype)
    return replace(plan, inputs=tuple(n for n in plan.inputs if n not in fixed), constants=constants)


def _with_outputs(plan: GraphPlan, outputs: Sequence[str]) -> GraphPlan:
    made = {name for node in plan.nodes for name in node.outputs if name}
    unknown = [name for name in outputs if name not in made]
    if unknown or not outputs:
        raise ValueError(
            f"outputs: {unknown[0]!r} is given by no node" if unknown else "outputs: none is named"
        )
    needed = set(outputs)
    nodes = []
    for node in reversed(plan.nodes):
        if needed & set(node.outputs):
            nodes.append(node)
            needed |= {*node.inputs, *names_inside(replace(plan, nodes=(node,)))}
    types = {name: plan.types.get(name, "unknown") for name in (*plan.inputs, *outputs)}
    inputs = tuple(name for name in plan.inputs if name in needed)
    return replace(plan, inputs=inputs, outputs=tuple(outputs), nodes=tuple(nodes[::-1]), types=types)


def _tensor_lines(module: Module) -> list[str]:
    tensors = [*module._parameters.items(), *module._buffers.items()]
    return [f"{name}: {t.dtype.torch_name}{list(t.shape)}" for name, t in tensors if t is not None]


def _uses(plan: GraphPlan) -> tuple[set[str], set[str], set[str]]:
    """Names of values that are read where they must be known; as statistics; and elsewhere."""
    static: set[str] = set()
    state: set[str] = set()
    other: set[str] = set(plan.outputs)
    for node in plan.nodes:
        for position, name in enumerate(node.inputs):
            if node.rule is not None and position in node.rule.static:
                static.add(name)
            elif node.rule is not None and position in node.rule.state:
                state.add(name)
            else:
                other.add(name)
        for inner in [node.body, *node.attrs.values()]:
            if isinstance(inner, GraphPlan):
                for found, more in zip((static, state, other), _uses(inner)):
                    found |= more
        if node.body is not None:
            static.update(
                outer for outer, name in zip(node.inputs, node.body.inputs) if name in _uses(node.body)[0]
            )
    return static, state - static, other


def _free(owner: Module, name: str) -> str:
    """The name, or one like it that the module has no attribute of."""
    if name[0].isdigit():
        name = f"_{name}" if isinstance(owner, GraphModule) else name
    candidate, number = name, 1
    while hasattr(owner, candidate):
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _identifier(name: str) -> str:
    found = re.sub(r"\W", "_", name)
    return f"_{found}" if not found or found[0].isdigit() else found


def _given(value: Any) -> Value:
    if isinstance(value, list | tuple):
        return [_given(v) for v in value]
    if value is None or isinstance(value, Tensor) or is_narrow(value):
        return value
    return tensor_of(np.array(value))


def _result(value: Value) -> Any:
    if isinstance(value, list):
        return [_result(v) for v in value]
    return value if value is None or is_narrow(value) else as_tensor(value)
