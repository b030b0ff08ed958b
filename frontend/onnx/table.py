"""The table of operators: what a node of an op type does with its inputs.

A value on its way through the graph is a Tensor, or a NumPy array where it is known without running anything: a constant
of the file, a shape, and what is computed from these alone. Shapes stay plain numbers in that way, eagerly and while
a function is compiled; an array whose elements are symbolic dims has dtype object. A sequence is a list, an absent
optional value None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..creation import full
from ..ir import dtypes
from ..ir.dtypes import DType
from ..tensor import Tensor, wrap

Value = Any  # Tensor | np.ndarray | list[Value] | None

DTYPES: Mapping[str, DType] = {
    d.numpy.name: d
    for d in (
        dtypes.bool_, dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64, dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64,
        dtypes.f16, dtypes.bf16, dtypes.f32, dtypes.f64, dtypes.c64, dtypes.c128,
    )
}  # fmt: skip

# TensorProto.DataType by its number, for `Cast` and its like.
ELEMENT_TYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip


class ONNXError(ValueError):
    """The file is damaged, or holds what is not supported. The message names the node."""


def dtype_of(element_type: int) -> DType:
    """The dtype for a number of TensorProto.DataType; ONNXError for one that tensors here do not have."""
    name = ELEMENT_TYPES.get(element_type, f"number {element_type}")
    if name not in DTYPES:
        raise ONNXError(f"element type {name} is not supported")
    return DTYPES[name]


def tensor_of(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over the memory of an array that nobody else writes to."""
    return wrap(array)


def as_tensor(value: Value) -> Tensor:
    """The value as a tensor. A constant of one element becomes a constant of the graph, not an input."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.name not in DTYPES:
            kind = "sizes that are not known yet" if array.dtype == object else f"dtype {array.dtype}"
            raise ONNXError(f"values of {kind} cannot be computed with here")
        if array.size == 1:
            return full(array.shape, array.item(), dtype=DTYPES[array.dtype.name])
        return tensor_of(np.require(array, requirements=["C", "W"]))
    raise ONNXError(f"a tensor is needed, not {type(value).__name__}")


def as_array(value: Value) -> np.ndarray[Any, Any]:
    """A computed value as an array; `as_tensor` backwards."""
    if not isinstance(value, Tensor):
        return np.asarray(value)
    if value.dtype is dtypes.bf16:
        bits: np.ndarray[Any, Any] = value.detach().view(dtypes.i16).numpy()
        return bits.view(dtypes.bf16.numpy)
    found: np.ndarray[Any, Any] = value.detach().numpy()
    return found


class Call:
    """One node about to run: its attributes and input values, with the conversions that rules ask for."""

    __slots__ = ("attrs", "inputs", "outputs", "run_graph", "version")

    def __init__(
        self,
        attrs: Mapping[str, Any],
        inputs: Sequence[Value],
        version: int,
        outputs: int = 1,
        run_graph: Callable[..., list[Value]] | None = None,
    ):
        """`version`: of the operator set; `outputs`: how many the node names; `run_graph(plan, values)` runs a
        subgraph."""
        self.attrs = attrs
        self.inputs = inputs
        self.version = version
        self.outputs = outputs
        self.run_graph = run_graph

    def has(self, position: int) -> bool:
        """Whether the input is there: given, and not left out by an empty name."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def value(self, position: int) -> Value:
        """The input as it came: a tensor, or a constant or shape as numbers; ONNXError where it is missing."""
        if not self.has(position):
            raise ONNXError(f"input {position} is missing")
        return self.inputs[position]

    def tensor(self, position: int) -> Tensor:
        """The input as a tensor; ONNXError where it is missing."""
        return as_tensor(self.value(position))

    def optional(self, position: int) -> Tensor | None:
        """The input as a tensor, or None."""
        return self.tensor(position) if self.has(position) else None

    def tensors(self) -> list[Tensor]:
        """All inputs that are there, as tensors."""
        return [as_tensor(v) for v in self.inputs if v is not None]

    def array(self, position: int) -> np.ndarray[Any, Any]:
        """An input that must be known: a constant, or of a tensor its elements, which compiled code cannot read."""
        value = self.value(position)
        return value if isinstance(value, np.ndarray) else np.asarray(value.tolist())

    def ints(self, position: int) -> list[Any]:
        """A one-dimensional input of sizes or positions, as Python numbers or symbolic dims."""
        return np.atleast_1d(self.array(position)).reshape(-1).tolist()

    def number(self, position: int, default: Any = None) -> Any:
        """A scalar input as a Python number."""
        if not self.has(position):
            return default
        array = self.array(position)
        if array.size != 1:
            raise ONNXError(f"input {position} must be a scalar, not of shape {list(array.shape)}")
        return array.reshape(-1).tolist()[0]

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute, or `default`."""
        found = self.attrs.get(name)
        return default if found is None else found

    def required(self, name: str) -> Any:
        """The attribute; ONNXError where it is missing."""
        if name not in self.attrs:
            raise ONNXError(f"attribute {name} is missing")
        return self.attrs[name]

    def axes(self, position: int) -> list[int] | None:
        """`axes`: an attribute in older operator sets, an input in newer ones."""
        if "axes" in self.attrs:
            return list(self.attrs["axes"])
        return self.ints(position) if self.has(position) else None


@dataclass(frozen=True)
class Rule:
    """`run` gives the node's result or a tuple of them.

    `static`: inputs that must be known when the graph is read or traced. `state`: inputs that are statistics, not
    trained. `folds`: constant inputs give a constant result.
    """

    run: Callable[[Call], Any]
    static: frozenset[int] = frozenset()
    state: frozenset[int] = frozenset()
    folds: bool = True


RULES: dict[tuple[str, str], Rule] = {}


def rule(
    *names: str, static: Sequence[int] = (), state: Sequence[int] = (), folds: bool = True, domain: str = ""
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Enter a function under the names of op types."""

    def enter(run: Callable[[Call], Any]) -> Callable[[Call], Any]:
        for name in names:
            if (domain, name) in RULES:
                raise ValueError(f"{name} has two rules")
            RULES[domain, name] = Rule(run, frozenset(static), frozenset(state), folds)
        return run

    return enter


def supported_ops() -> list[str]:
    """The op types that have a rule, with their domain where it is not the default one."""
    return sorted(f"{domain}::{name}" if domain else name for domain, name in RULES)
