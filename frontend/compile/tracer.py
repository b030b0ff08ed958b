"""The tracer: the second backend of the eager front end, which appends graph nodes instead of computing.

While a tracer is active, every op call passes through it (`dispatch.apply`), and everything above the backend
(autograd's tape, hooks, modules, optimizers) runs unchanged. So `loss.backward()` under a trace runs the same tape, and
what it appends are the same gradient rules' nodes.

*Functionalization.* The graph has no mutation. The tracer keeps, for each storage it has met, the graph value that is
its content now. Reading a view applies the view's steps to that value; writing through a view computes the storage's
new content with the steps' `write_back` rules. At the end, a storage of a real tensor (or of an argument) whose content
changed becomes a graph output aliased to its input.

*Real tensors* that the code meets (parameters, optimizer state, closed-over tensors) become inputs of the graph when
they are first read. They are not changed while tracing: what the code did to them is recorded as effects and undone.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..capture import Capture
from ..dispatch import use_backend
from ..eager import ALIASING, EAGER
from ..generator import default_generator, device_generator
from ..ir import dims, dtypes
from ..ir.builder import GraphBuilder
from ..ir.dtypes import DType
from ..ir.graph import Location, Value
from ..ir.interpreter import evaluate_node, told_sizes
from ..ir.op import Op, op_named
from ..ir.ops.common import size_value
from ..ir.types import TensorType
from ..passes.autodiff import backward_location
from ..passes.cse import attrs_key
from ..placement import gpu_under, on_gpu
from ..runtime.gpu.arrays import DeviceArray, Gpu
from ..state import local
from ..tape import Node
from ..tensor import Storage, Tensor, view_of, without_array
from ..views import ViewStep
from .guards.guard import Guard
from .locations import user_location
from .sizes import ORACLE, SizeQuestion, comparison
from .sources import ArgumentSource, NumberSource, RandomSource, Source, TensorSource, array_of

# What makes up a tensor's memory: what an assignment to `.data` replaces.
_MEMORY = ("_array", "_value", "_known_type", "_storage", "_views", "_base")


class TraceError(RuntimeError):
    """The function cannot be captured as one graph; the message names the user's line and what to write instead."""


@dataclass(frozen=True)
class Condition:
    """How a branch on a tensor came out, and where it is in the user's program; `size` where it was one on a size."""

    outcome: bool
    place: str
    size: SizeQuestion | None = None


class TracedStorage:
    """What a storage holds, as a graph value, now and when the trace met it.

    `writes` counts the changes since; `input` is the graph input it came in by, if it did.
    """

    __slots__ = ("initial", "input", "value", "writes")

    def __init__(self, value: Value, input: int | None):
        self.value = value
        self.initial = value
        self.input = input
        self.writes = 0


class Tracer:
    """Builds one graph from one run of a function. Use through `trace.trace_call`."""

    on_requires_grad_set = None

    def __init__(self, name: str, describe: Callable[[Tensor], str], arguments: Sequence[Any] = ()):
        self.builder = GraphBuilder(name)
        self.arguments = list(arguments)  # and the gradients that are read, see `grad_owners`
        self.gpu = _gpu_of(arguments)  # where the graph runs; None: on the CPU
        self.bindings: dict[str, int] = {}
        self.conditions: dict[Value, Condition] = {}
        # Dims that only a run tells, and what tells them, for messages.
        self.told: dict[str, str] = {}
        self._sizes_known: dict[Any, tuple[Value, ...]] = {}
        self._numbers_of: dict[Value, Value] = {}
        self._first: dict[Any, Value] = {}
        self._numbered = 0
        self._asked: dict[SizeQuestion, bool] = {}
        self._known: dict[Value, np.ndarray[Any, Any]] = {}
        self._evaluated = 0
        self.sources: list[Source] = []
        self.guards: list[Guard] = []
        self.random_calls = 0
        self.describe = describe
        self.storages: dict[Storage, TracedStorage] = {}
        self.grads_before: dict[Tensor, Tensor | None] = {}
        # Whose `.grad` the graph reads: each call gives what that is then.
        self.grad_owners: list[Tensor] = []
        self._owner_of: dict[Tensor, Tensor] = {}
        self.versions_before: dict[Storage, int] = {}
        self.memory_before: dict[Tensor, tuple[Any, ...]] = {}
        self.active: set[Value] = set()
        self.capture: Capture = self
        self.vmap = None
        self.cuts: list[tuple[int, int]] = []
        self.created: list[weakref.ref[Tensor]] = []
        self._numbers: dict[tuple[str, Any], Tensor] = {}
        self._read: dict[Tensor, tuple[int, Value]] = {}
        self._random_state: Tensor | None = None
        self._guarded: set[Any] = set()
        self._node: Node | None = None

    # -- the backend protocol --------------------------------------------------------------------------------

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Append a node; its results as traced tensors. The result of a view shares its operand's storage."""
        values = [self.read(t) for t in operands]
        self.builder.location = self._place()
        if op.sizes:
            return tuple(map(self.wrap, self._sized(op, values, attrs)))
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
        self._mark_activity(op, operands, values, results)
        if op.name in ALIASING:
            return (self._view(operands[0], ViewStep(op, attrs), results[0]),)
        return tuple(map(self.wrap, results))

    def write(self, target: Tensor, new: Tensor) -> None:
        """The storage's content becomes what it was with the target's elements replaced by those of `new`."""
        value = self.read(new)
        traced = self._storage(target)
        self.builder.location = self._place()
        contents = [traced.value]
        for step in target._views[:-1]:
            contents.append(self._step(step, contents[-1]))
        for step, content in zip(reversed(target._views), reversed(contents)):
            if step.op.write_back is None:
                raise TraceError(
                    f"{user_location()}: an in-place change of a tensor that is a {step.op.name} of another cannot "
                    "be captured; change a clone() of it instead"
                )
            if value in self.active:
                self.active.add(content)
            value = step.op.write_back(self.builder, content, value, **step.attrs)
        if value.type != traced.value.type:
            raise TraceError(
                f"{user_location()}: in-place result {value.type} does not fit {traced.value.type}"
            )
        traced.value = value
        traced.writes += 1

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        if isinstance(value, dims.Expr):  # a size to compute with
            return self.wrap(size_value(self.builder, value, dtype))
        return self.wrap(self.builder.constant(value, dtype))

    def scalar(self, tensor: Tensor) -> float | int | bool:
        """A traced tensor has no number: TraceError at the user's line."""
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
        return self._outcome(value)

    def _outcome(self, value: Value, size: SizeQuestion | None = None) -> bool:
        if value not in self.conditions:
            outcome = bool(self._evaluate(value).reshape(()))
            self.conditions[value] = Condition(outcome, str(user_location()), size)
        return self.conditions[value].outcome

    def _sized(self, op: Op, values: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Value, ...]:
        """Apply an op whose result's size only a run tells, with names for the dims; the same op of the same values
        once, so that what one mask selects from two tensors has one size."""
        key = self._numbering(op, values, attrs)
        if key not in self._sizes_known:
            assert op.size_bounds is not None
            dims.set_oracle(ORACLE)
            named = []
            for low, high in op.size_bounds(*(v.type for v in values), **attrs):
                taken = {*self.told, *self.bindings}
                name = next(n for i in itertools.count() if (n := f"u{i}") not in taken)
                self.told[name] = f"{op.name} at {user_location()}"
                named.append(dims.symbol(name, low, high))
            found = self.builder.apply(op, values, {**attrs, op.sizes: tuple(named)})
            self._sizes_known[key] = found if isinstance(found, tuple) else (found,)
        return self._sizes_known[key]

    def _numbering(self, op: Op, values: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
        """A key for the op of these values, equal where the same was computed before."""
        numbers = self._numbers_of
        for node in self.builder.nodes[self._numbered :]:
            own: Any = (node.op, attrs_key(node.attrs), *(numbers.get(v, v) for v in node.inputs))
            for position, value in enumerate(node.outputs):
                numbers[value] = value if node.regions else self._first.setdefault((own, position), value)
        self._numbered = len(self.builder.nodes)
        plain = {name: value for name, value in attrs.items() if name != op.sizes}
        return op, attrs_key(plain), *(numbers.get(v, v) for v in values)

    def size_condition(self, how: str, a: dims.DimLike, b: dims.DimLike) -> bool:
        """How a question about a dim that a run tells comes out in this call; the trace is good for those in which it
        comes out the same."""
        question = SizeQuestion(how, a, b)
        if question not in self._asked:
            self.builder.location = self._place()
            self._asked[question] = self._outcome(comparison(self.builder, how, a, b), question)
        return self._asked[question]

    def size_now(self, size: dims.Expr) -> int:
        """The dim in this call."""
        if self.builder.nodes:
            self._evaluate(self.builder.nodes[-1].outputs[0])
        return dims.evaluate(size, self.bindings)

    def _evaluate(self, value: Value) -> np.ndarray[Any, Any]:
        """What the value is in this call, by the reference interpreter."""
        for source, given in zip(self.sources, self.builder.inputs):
            if given not in self._known:
                self._known[given] = self._input_array(source)
        for node in self.builder.nodes[self._evaluated :]:
            arrays = evaluate_node(node, [self._known[v] for v in node.inputs], self.bindings)
            self.bindings.update(told_sizes(node, arrays))
            self._known.update(zip(node.outputs, arrays))
        self._evaluated = len(self.builder.nodes)
        return self._known[value]

    def _input_array(self, source: Source) -> np.ndarray[Any, Any]:
        generator = default_generator if self.gpu is None else device_generator(self.gpu.index)
        array = array_of(source, self.arguments, generator)
        assert array is not None
        return array.to_host() if type(array) is DeviceArray else array

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
            self.grads_before.setdefault(tensor, old)

    def on_data_set(self, tensor: Tensor) -> None:
        """`tensor.data = ...` on a real tensor: at the end its own memory receives the new value (`settle_data`)."""
        if tensor._array is not None and tensor not in self.memory_before:
            self._storage(tensor)
            self.memory_before[tensor] = tuple(getattr(tensor, name) for name in _MEMORY)

    def settle_data(self) -> None:
        """Turn assignments to `.data` into writes to the memory that the tensors had before."""
        for tensor, before in self.memory_before.items():
            if all(getattr(tensor, name) is before[_MEMORY.index(name)] for name in ("_storage", "_views")):
                continue  # `t.data -= u`: the write itself is on record
            if tensor._array is not None:
                raise TraceError(
                    "a compiled function gave a tensor other existing memory (t.data = u); use t.copy_(u) under no_grad"
                )
            value = self.read(tensor)
            storage, views = before[_MEMORY.index("_storage")], before[_MEMORY.index("_views")]
            traced = self.storages[storage]
            if views or value.type != traced.value.type:
                raise TraceError(
                    f"a compiled function assigned a {value.type} to the .data of a tensor over {traced.value.type}; "
                    "the type must stay, and the tensor must not be a view"
                )
            traced.value = value
            traced.writes += 1

    def on_grad_read(self, tensor: Tensor) -> None:
        """Code that looks at `.grad` before setting it depends on whether there is one."""
        if tensor._array is not None and tensor not in self.grads_before:
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

    # -- reading ---------------------------------------------------------------------------------------------

    def read(self, tensor: Tensor) -> Value:
        """The tensor's content now, as a graph value."""
        traced = self._storage(tensor)
        known = tensor._value if tensor._array is None else self._read.get(tensor)
        if known is not None and known[0] == traced.writes:
            return known[1]
        value = traced.value
        for step in tensor._views:
            value = self._step(step, value)
        self._remember(tensor, traced, value)
        return value

    def wrap(self, value: Value) -> Tensor:
        """A traced tensor with a storage of its own."""
        tensor = without_array(value.type, (0, value))
        self.storages[tensor._storage] = TracedStorage(value, None)
        self.created.append(weakref.ref(tensor))
        return tensor

    def _remember(self, tensor: Tensor, traced: TracedStorage, value: Value) -> None:
        if tensor._array is None:
            tensor._value = (traced.writes, value)
        else:
            self._read[tensor] = (traced.writes, value)

    def placeholder(self, position: int, path: str, type_: TensorType, requires_grad: bool) -> Tensor:
        """The stand-in for an argument."""
        tensor = self._input(ArgumentSource(position, path), type_, path)
        if requires_grad:
            tensor.requires_grad = True
            self.active.add(self.read(tensor))
        return tensor

    def _step(self, step: ViewStep, value: Value) -> Value:
        result = self.builder.apply(step.op, (value,), step.attrs)
        if value in self.active:
            self.active.add(result)
        return result

    def _view(self, source: Tensor, step: ViewStep, value: Value) -> Tensor:
        tensor = view_of(source, step, None, value.type)
        self._remember(tensor, self.storages[source._storage], value)
        self.created.append(weakref.ref(tensor))
        return tensor

    def _storage(self, tensor: Tensor) -> TracedStorage:
        traced = self.storages.get(tensor._storage)
        if traced is None:
            if tensor._array is None:
                raise TraceError(
                    f"{user_location()}: a tensor from another trace ({tensor._type}) is used here; a compiled "
                    "function must return what its caller needs, not store it"
                )
            traced = self._lift(tensor)
        return traced

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
        self.versions_before[storage] = storage.version
        if tensor.requires_grad:
            self.active.add(value)
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
        tensor = without_array(type_, (0, value))
        self.storages[tensor._storage] = TracedStorage(value, len(self.sources) - 1)
        return tensor

    # -- what gradients may flow through ---------------------------------------------------------------------

    def _mark_activity(
        self, op: Op, operands: Sequence[Tensor], values: Sequence[Value], results: Sequence[Value]
    ) -> None:
        """Gradients flow from a node's results to an operand only if eager code would let them: grad mode is on and the
        operand requires grad. Where the operand's value is active all the same (it was detached), the edge is cut."""
        enabled = local.grad_enabled
        flows = False
        for position, (tensor, value) in enumerate(zip(operands, values)):
            if value not in self.active:
                continue
            if enabled and tensor.requires_grad:
                flows = True
            else:
                self.cuts.append((len(self.builder.nodes) - 1, position))
        if flows and op.vjp is not None:
            self.active.update(v for v in results if v.type.dtype.kind in ("float", "complex"))

    def detached(self, values: Sequence[Value], keep: set[int]) -> tuple[list[Value], GraphBuilder]:
        """The graph with a `detach` on every cut edge, for differentiating it: new outputs, new builder.

        Outputs whose position is not in `keep` are detached too.
        """
        detach = op_named("detach")
        builder = GraphBuilder(self.builder.name)
        mapping: dict[Value, Value] = {v: builder.input(v.name, v.type) for v in self.builder.inputs}
        cut_at: dict[int, list[int]] = {}
        for number, position in self.cuts:
            cut_at.setdefault(number, []).append(position)
        detached: dict[Value, Value] = {}

        def cut(value: Value) -> Value:
            if value not in detached:
                detached[value] = builder.apply(detach, (mapping[value],), {})
            return detached[value]

        for at, node in enumerate(self.builder.nodes):
            builder.location = node.location
            positions = cut_at.get(at, ())
            inputs = tuple(cut(v) if i in positions else mapping[v] for i, v in enumerate(node.inputs))
            # Not by value: one operand of `where(mask, y.detach(), y)` is cut, the other is not.
            copied = replace(
                node, inputs=inputs, outputs=tuple(Value(builder.fresh_name(), v.type) for v in node.outputs)
            )
            builder.nodes.append(copied)
            mapping.update(zip(node.outputs, copied.outputs))
        outputs = [mapping[v] if i in keep else cut(v) for i, v in enumerate(values)]
        return outputs, builder

    # -- afterwards ------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Give every real tensor back the `.grad` and the version it had before the trace."""
        for tensor, grad in self.grads_before.items():
            tensor._grad = grad
        for storage, version in self.versions_before.items():
            storage.version = version
        for tensor, memory in self.memory_before.items():
            for name, value in zip(_MEMORY, memory):
                setattr(tensor, name, value)


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


def static_or_symbolic(
    shape: Sequence[int], declared: Mapping[int, dims.Expr], what: str
) -> tuple[dims.DimLike, ...]:
    """The shape with declared dims in place of their sizes; ValueError when a size is outside the declared bounds.
    `what`: whose shape it is, for errors."""
    result: list[dims.DimLike] = list(shape)
    for axis, dim in declared.items():
        at = axis + len(shape) if axis < 0 else axis
        if not 0 <= at < len(shape):
            raise ValueError(f"{what}: dynamic_shapes names dim {axis} of a {len(shape)}-d tensor")
        low, high = dims.bounds(dim)
        if not low <= shape[at] <= high:
            raise ValueError(
                f"{what}: dim {axis} has size {shape[at]}, outside the bounds of {dim} [{low}, {high}]; what "
                "dynamic_shapes declares must hold for every call"
            )
        found = dims.solved(dim, shape[at])
        if found is not None and dims.evaluate(dim, {found[0].name: found[1]}) != shape[at]:
            raise ValueError(
                f"{what}: dim {axis} has size {shape[at]}, which is not {dim} for any {found[0].name}"
            )
        result[at] = dim
    return tuple(result)


def array_type(array: np.ndarray[Any, Any]) -> TensorType:
    return TensorType(array.shape, dtypes.from_numpy(array.dtype))
