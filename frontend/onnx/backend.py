"""The `onnx` package's backend interface: NumPy arrays in, NumPy arrays out.

    import vitrify.onnx.backend as backend

    (y,) = backend.run_model(onnx.load("model.onnx"), [x])
    run = backend.prepare(model, compiled=True).run

`onnx.backend.test.BackendTest(backend, __name__)` makes the node tests of that package for it. Other programs have
`vitrify.onnx.load`, which gives a Module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend as _Backend
from onnx.backend.base import BackendRep, namedtupledict

from ..autograd.grad_mode import no_grad
from ..compile.entry import compile
from .model import GraphModule, load
from .narrow import is_narrow
from .table import ONNXError, Value, as_array, tensor_of


class Prepared(BackendRep):
    """A model that is ready to run; `module` is what `load` gave."""

    def __init__(self, module: GraphModule, compiled: bool):
        self.module = module
        self._call = compile(module) if compiled else module
        self._results = namedtupledict("Outputs", module.output_names)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs as arrays, by position or name; `inputs` is a list in the graph's order, a mapping by name, or
        the one array."""
        named: Mapping[str, Any] = inputs if isinstance(inputs, Mapping) else {}
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        given = [] if named else [_given(value) for value in inputs]
        with no_grad():
            found = self._call(*given, **{name: _given(value) for name, value in named.items()})
        found = found if isinstance(found, tuple) else (found,)
        results: tuple[Any, ...] = self._results(*map(_array, found))
        return results


class Backend(_Backend):
    """This package as a backend, on the CPU."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether every op of the model has a rule."""
        if not cls.supports_device(device):
            return False
        try:
            load(model)
        except ONNXError:
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", compiled: bool = False, **kwargs: Any) -> Prepared:
        """The model, a ModelProto, ready to run; `compiled` as by `torch.compile`. Other options are not looked at."""
        if not cls.supports_device(device):
            raise ValueError(f"device {device!r}: this backend runs on the CPU")
        return Prepared(load(model), compiled)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """What one node gives, in the operator set `opset_version` or the current one."""
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        info = onnx.helper.make_tensor_value_info
        names = [name for name in node.input if name]
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                info(name, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), None)
                for name, value in zip(names, given, strict=True)
            ],
            [info(name, onnx.TensorProto.UNDEFINED, None) for name in node.output if name],
        )
        opsets = [onnx.helper.make_opsetid(node.domain, version)]
        return cls.run_model(onnx.helper.make_model(graph, opset_imports=opsets), given, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The CPU, that is."""
        return device == "CPU"


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device


def _given(value: Any) -> Value:
    if isinstance(value, list | tuple):
        return [_given(v) for v in value]
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    if value is None or is_narrow(np.asarray(value)):
        return value
    return tensor_of(np.array(value))


def _array(value: Value) -> Any:
    if isinstance(value, list):
        return [_array(v) for v in value]
    return None if value is None else as_array(value)


__all__: Sequence[str] = [
    "Backend",
    "Prepared",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]
