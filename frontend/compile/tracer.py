"""The tracer: the second backend of the eager front end, which appends graph nodes instead of computing.

While a tracer is active, every op call passes through it (`dispatch.apply`), and everything above the backend
(autograd's tape, hooks, modules, optimizers) runs unchanged. So `loss.backward()` under a trace runs the same tape, and
what it appends are the same gradient rules' nodes.

What it knows lies in four parts: what storages hold (`storages.py`), what code asked of values (`conditions.py`), where
gradients flow (`gradient_flow.py`), what was done to real tensors (`effects.py`). Real tensors that the code meets
(parameters, optimizer state, closed-over tensors) become inputs of the graph when they are first read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..argument_numbers import ArgumentNumbers, Number
from ..capture import Capture
from ..dispatch import use_backend
from ..eager import ALIASING, EAGER
from ..generator import default_generator, device_generator
from ..ir import dims, dtypes
from ..ir.builder import GraphBuilder
from ..ir.dtypes import DType
from ..ir.graph import Location, Value
from ..ir.op import Op, op_named
from ..ir.ops.common import size_value
from ..ir.types import TensorType
from ..passes.autodiff import backward_location
from ..placement import gpu_under, on_gpu
from ..runtime.gpu.arrays import DeviceArray, Gpu
from ..tape import Node
from ..tensor import Tensor, new_storage_epoch, wrap
from ..views import ViewStep
from .conditions import Conditions, ValuesOfCall
from .effects import Effects
from .gradient_flow import GradientFlow
from .guards.guard import Guard
from .histories import GivenHistory
from .locations import user_location
from .sources import (
    ArgumentSource,
    ComputedSource,
    NumberSource,
    RandomSource,
    Source,
    TensorSource,
    array_of,
)
from .storages import TracedStorage, TracedStorages
from .trace_error import TraceError


class Tracer:
    """Builds one graph from one run of a function. Use through `trace.trace_call`."""

    on_requires_grad_set = None

    def __init__(self, name: str, describe: Callable[[Tensor], str], arguments: Sequence[Any] = ()):
        self.builder = GraphBuilder(name)
        self.arguments = list(arguments)  # as `Trace.given` has them
        self.gpu = _gpu_of(arguments)  # where the graph runs; None: on the CPU
        self.bindings: dict[str, int] = {}
        self._epoch = new_storage_epoch()
        # Inputs that the function makes itself, of numbers: the same in every call.
        self._constants: dict[Value, np.ndarray[Any, Any]] = {}
        self._values = ValuesOfCall(self.builder, self.bindings, self._input_array)
        self.conditions = Conditions(self.builder, self.bindings, self._values)
        self.told = self.conditions.told
        self.flow = GradientFlow(self.builder)
        self.storages = TracedStorages(self.builder, self.flow, self._lift)
        self.read = self.storages.read
        self.wrap = self.storages.wrap
        self.effects = Effects()
        self.given_histories: dict[int, GivenHistory] = {}  # of the arguments that were computed
        self.sources: list[Source] = []
        self.guards: list[Guard] = []
        self.random_calls = 0
        self.describe = describe
        # Whose `.grad` the graph reads: each call gives what that is then.
        self.grad_owners: list[Tensor] = []
        self._owner_of: dict[Tensor, Tensor] = {}
        self.capture: Capture = self
        self.vmap = None
        self.argument_numbers = ArgumentNumbers()
        self._numbers: dict[tuple[str, Any], Tensor] = {}
        self._random_state: Tensor | None = None
        self._guarded: set[Any] = set()
        self._node: Node | None = None

    # -- the backend protocol --------------------------------------------------------------------------------

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Append a node; its results as traced tensors. The result of a view shares its operand's storage."""
        values = [self.read(t) for t in operands]
        self.builder.location = self._place()
        if any(type(v) is Number for v in attrs.values()):
            if op.name == "full":
                number = self.read(self.constant(attrs["value"], attrs["dtype"]))
                return (self.wrap(self.builder.expand(number, shape=attrs["shape"])),)
            attrs = {name: v.pin() if type(v) is Number else v for name, v in attrs.items()}
        if op.sizes:
            return tuple(map(self.wrap, self.conditions.sized(op, values, attrs)))
        try:
            result = self.builder.apply(op, values, attrs)
        except RuntimeError as error:
            told = {s.name for v in values for s in v.type.symbols if s.name in self.told}
            if not told:
                raise
            where = "; ".join(f"{name} is known only when {self.told[name]} has run" for name in sorted(told))
            raise TraceError(
                f"{user_location()}: {error} ({where}). In a compiled function a size that depends on data fits only "
                "itself; compare the sizes first (`if a.shape[0] == n:`), or write it with torch.where"
            ) from error
        results: tuple[Value, ...] = result if isinstance(result, tuple) else (result,)
        self.flow.mark(op, operands, values, results)
        if op.name in ALIASING:
            return (self.storages.view(operands[0], ViewStep(op, attrs), results[0]),)
        return tuple(map(self.wrap, results))

    def write(self, target: Tensor, new: Tensor) -> None:
        """The storage's content becomes what it was with the target's elements replaced by those of `new`."""
        value = self.read(new)
        self.builder.location = self._place()
        self.storages.write(target, value)

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        if type(value) is Number:
            if value.is_exact():
                return self._computed(value, dtype)
            value = value.pin()
        if isinstance(value, dims.Expr):  # a size to compute with
            return self.wrap(size_value(self.builder, value, dtype))
        return self.wrap(self.builder.constant(value, dtype))

    def scalar(self, tensor: Tensor) -> float | int | bool:
        """The number, where it is the same in every call; another traced tensor has none: TraceError at the user's
        line."""
        constant = self._values.constant(self.read(tensor), self._constants)
        if constant is not None:
            return EAGER.scalar(wrap(constant))
        raise TraceError(
            f"{user_location()}: the code asks for the value of a tensor ({tensor._type}) while it is being compiled "
            "(.item(), .tolist(), int(), float()). Keep computing with the tensor, or take this part out of the "
            "compiled function."
        )

    def branch(self, tensor: Tensor) -> bool:
        """Code that goes one way or another by a tensor's truth: follow this call's way, and note that the trace is good
        for calls in which the condition comes out the same."""
        value = self.read(tensor)
        self.builder.location = self._place()
        if value.type.dtype is not dtypes.bool_:
            value = self.builder.apply(
                op_named("ne"), (value, self.builder.constant(0, value.type.dtype)), {}
            )
        return self.conditions.outcome(value)

    def size_condition(self, how: str, a: dims.DimLike, b: dims.DimLike) -> bool:
        """How a question about a dim that a run tells comes out in this call; the trace is good for those in which it
        comes out the same."""
        self.builder.location = self._place()
        return self.conditions.of_size(how, a, b)

    def size_now(self, size: dims.Expr) -> int:
        """The dim in this call."""
        self.conditions.sized_numbers.update(s.name for s in dims.symbols(size))
        return self._values.size(size)

    def answerable(self, name: str) -> bool:
        """Whether questions about the dim of this name are answered by the call."""
        return name in self.told or name in self.conditions.automatic

    # -- what library code tells and asks (`frontend/capture.py`) --------------------------------------------

    def moves_between_devices(self, to: Gpu | None) -> TraceError:
        """The error for a move of a traced tensor to another device."""
        here, there = (str(g or "cpu") for g in (self.gpu, to))
        return TraceError(
            f"{user_location()}: a compiled function runs on one device; this moves a tensor from {here} to {there}. "
            "Move tensors outside of it"
        )

    def hyperparameter(self, get: Callable[[], float], name: str) -> Tensor:
        """A number read again at each call: a 0-d float64 input, one for equal getters (two optimizers have the same
        names)."""
        key = (name, get)
        if key not in self._numbers:
            self._numbers[key] = self._input(NumberSource(get, name), TensorType((), dtypes.f64), name)
        return self._numbers[key]

    def _computed(self, number: Number, dtype: DType) -> Tensor:
        """A number that calls give, or that is computed of such."""
        key = (number.text, None)
        if key not in self._numbers:
            source = ComputedSource(number.compute, number.text)
            self._numbers[key] = self._input(source, TensorType((), dtypes.f64), number.text)
        found = self._numbers[key]
        return found if dtype is dtypes.f64 else self.apply(_CONVERT, (found,), {"dtype": dtype})[0]

    def guard_value(self, get: Callable[[], Any], name: str) -> None:
        """The trace holds only while `get()` stays what it is now."""
        self.guard(get, name, (name, get))

    def guard(self, get: Callable[[], Any], name: str, key: Any = None) -> Guard | None:
        """Guard on `get()`, once per key (by default the name)."""
        key = name if key is None else key
        if key in self._guarded:
            return None
        self._guarded.add(key)
        self.guards.append(Guard(name, get, get()))
        return self.guards[-1]

    def create_state(self, make: Callable[[], Tensor]) -> Tensor:
        """State that outlives the call (a momentum buffer) is made for real, once, outside the graph."""
        with use_backend(EAGER), on_gpu(self.gpu):
            return make()

    def random_state(self) -> tuple[Tensor, int]:
        """The generator's state as an input, and which random call of this run it is for."""
        if self._random_state is None:
            self._random_state = self._input(RandomSource(), TensorType((2,), dtypes.i64), "rng")
        self.random_calls += 1
        return self._random_state, self.random_calls - 1

    def on_grad_set(self, tensor: Tensor, old: Tensor | None) -> None:
        if tensor._array is not None:
            self.effects.grads_before.setdefault(tensor, old)

    def on_history_set(self, tensor: Tensor) -> None:
        """Before a real tensor's history changes."""
        if tensor._array is not None:
            self.effects.note_history(tensor)

    def on_data_set(self, tensor: Tensor) -> None:
        """`tensor.data = ...` on a real tensor: at the end its own memory receives the new value."""
        if tensor._array is not None and not self.effects.has_memory(tensor):
            self.storages.behind(tensor)
            self.effects.note_memory(tensor)

    def on_grad_read(self, tensor: Tensor) -> None:
        """Code that looks at `.grad` before setting it depends on whether there is one."""
        if tensor._array is not None and tensor not in self.effects.grads_before:
            path = f"{self.describe(tensor)}.grad"
            self.guard(lambda: tensor._grad is None, f"`{path} is None`", ("grad", id(tensor)))
            if tensor._grad is not None:
                self._owner_of.setdefault(tensor._grad, tensor)

    @property
    def location(self) -> Location | None:
        return self.builder.location

    def differentiating(self, node: Node | None) -> None:
        self._node = node

    def _place(self) -> Location | None:
        """The user's line; for a gradient the line of the op that is differentiated."""
        if self._node is None:
            return user_location()
        return backward_location(self._node.metadata.get("location"))

    # -- inputs of the graph ---------------------------------------------------------------------------------

    def placeholder(
        self, position: int, path: str, type_: TensorType, requires_grad: bool, is_leaf: bool
    ) -> Tensor:
        """The stand-in for an argument."""
        tensor = self._input(ArgumentSource(position, path), type_, path)
        if requires_grad:
            if not is_leaf:
                history = self.given_histories[position] = GivenHistory(type_, path)
                tensor._grad_fn = history
            tensor._requires_grad = True
            self.flow.active.add(self.read(tensor))
        return tensor

    def memory(self, position: int, path: str) -> Tensor:
        """The stand-in for all of the memory that arguments share."""
        base = self.arguments[position]._array
        return self._input(
            ArgumentSource(position, path), TensorType(base.shape, dtypes.from_numpy(base.dtype)), path
        )

    def _lift(self, tensor: Tensor) -> TracedStorage:
        """Make the storage behind a real tensor an input."""
        storage = tensor._storage
        base = storage.base_array
        assert base is not None
        path = self.describe(tensor)
        self._place_on_device(tensor, path)
        value = self.builder.input(path, TensorType(base.shape, dtypes.from_numpy(base.dtype)))
        self.sources.append(self._source(tensor, path))
        traced = TracedStorage(value, len(self.sources) - 1)
        self.storages[storage] = traced
        if storage.epoch >= self._epoch and not storage.exposed and isinstance(base, np.ndarray):
            self._constants[value] = base
        self.effects.versions_before[storage] = storage.version
        if tensor.requires_grad:
            self.flow.active.add(value)
        return traced

    def _source(self, tensor: Tensor, path: str) -> Source:
        """A gradient is looked up by each call, like an argument: eager code may have put another tensor there."""
        owner = self._owner_of.get(tensor)
        if owner is None:
            return TensorSource(tensor, path)
        if tensor._views or tensor.requires_grad:
            self.guard(lambda: owner._grad, path, ("the gradient", id(owner)))
            return TensorSource(tensor, path)
        self.grad_owners.append(owner)
        self.arguments.append(tensor)
        return ArgumentSource(len(self.arguments) - 1, path)

    def _place_on_device(self, tensor: Tensor, path: str) -> None:
        """The graph runs where its tensors are: all on one device, but for 0-d ones and what library code made."""
        gpu = gpu_under(tensor)
        if gpu is self.gpu:
            return
        if gpu is not None and self.gpu is None:
            if any(isinstance(s, ArgumentSource) and self.arguments[s.position].ndim for s in self.sources):
                raise RuntimeError(f"{_TWO_DEVICES}, {gpu} and cpu! (`{path}` is a captured tensor)")
            self.gpu = gpu
        elif tensor.ndim and not tensor._storage.floating:
            raise RuntimeError(
                f"{_TWO_DEVICES}, {self.gpu} and {gpu or 'cpu'}! (`{path}` is a captured tensor)"
            )

    def _input(self, source: Source, type_: TensorType, name: str) -> Tensor:
        value = self.builder.input(name, type_)
        self.sources.append(source)
        return self.storages.entering(value, type_, len(self.sources) - 1)

    def _input_array(self, number: int) -> np.ndarray[Any, Any]:
        generator = default_generator if self.gpu is None else device_generator(self.gpu.index)
        array = array_of(self.sources[number], self.arguments, generator)
        assert array is not None
        return array.to_host() if type(array) is DeviceArray else array


_CONVERT = op_named("convert")
_TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices"


def _gpu_of(arguments: Sequence[Any]) -> Gpu | None:
    """The GPU on which the arguments are; RuntimeError where they are on two devices."""
    tensors = [leaf for leaf in arguments if isinstance(leaf, Tensor)]
    found = next((gpu for leaf in tensors if (gpu := gpu_under(leaf)) is not None), None)
    for leaf in tensors if found is not None else ():
        gpu = gpu_under(leaf)
        if gpu is not found and leaf.ndim:
            raise RuntimeError(f"{_TWO_DEVICES}, {found} and {gpu or 'cpu'}!")
    return found
