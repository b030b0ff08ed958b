"""Functionalization: the graph has no mutation, the traced program has.

For each storage that the trace has met there is the graph value that is its content now. Reading a view applies the
view's steps to that value; writing through a view computes the storage's new content with the steps' `write_back` rules.
At the end, a storage of a real tensor (or of an argument) whose content changed becomes a graph output aliased to its
input.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from ..ir.builder import GraphBuilder
from ..ir.graph import Value
from ..ir.types import TensorType
from ..tensor import Storage, Tensor, view_of, without_array
from ..views import Views, ViewStep
from .gradient_flow import GradientFlow
from .locations import user_location
from .trace_error import TraceError


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


class TracedStorages(dict[Storage, TracedStorage]):
    """What each storage holds. `lift`: makes the storage behind a real tensor an input of the graph. `created`: the
    traced tensors."""

    def __init__(self, builder: GraphBuilder, flow: GradientFlow, lift: Callable[[Tensor], TracedStorage]):
        super().__init__()
        self.created: list[weakref.ref[Tensor]] = []
        self._builder = builder
        self._flow = flow
        self._lift = lift
        self._read: dict[Tensor, tuple[int, Value]] = {}

    def read(self, tensor: Tensor) -> Value:
        """The tensor's content now, as a graph value."""
        traced = self.behind(tensor)
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
        self[tensor._storage] = TracedStorage(value, None)
        self.created.append(weakref.ref(tensor))
        return tensor

    def entering(self, value: Value, type_: TensorType, number: int) -> Tensor:
        """A traced tensor for what the graph's input of this number holds."""
        tensor = without_array(type_, (0, value))
        self[tensor._storage] = TracedStorage(value, number)
        return tensor

    def view(self, source: Tensor, step: ViewStep, value: Value) -> Tensor:
        """A view of the source, by one more step, that is this value."""
        tensor = view_of(source, step, None, value.type)
        self._remember(tensor, self[source._storage], value)
        self.created.append(weakref.ref(tensor))
        return tensor

    def seen(self, memory: Tensor, views: Views) -> Tensor:
        """The view of this memory to which the steps lead."""
        for step in views:
            memory = self.view(memory, step, self._step(step, self.read(memory)))
        return memory

    def write(self, target: Tensor, value: Value) -> None:
        """The storage's content becomes what it was with the target's elements replaced by the value's."""
        traced = self.behind(target)
        contents = [traced.value]
        for step in target._views[:-1]:
            contents.append(self._step(step, contents[-1]))
        for step, content in zip(reversed(target._views), reversed(contents)):
            if step.op.write_back is None:
                raise TraceError(
                    f"{user_location()}: an in-place change of a tensor that is a {step.op.name} of another cannot "
                    "be captured; change a clone() of it instead"
                )
            if value in self._flow.active:
                self._flow.active.add(content)
            value = step.op.write_back(self._builder, content, value, **step.attrs)
        if value.type != traced.value.type:
            raise TraceError(
                f"{user_location()}: in-place result {value.type} does not fit {traced.value.type}"
            )
        traced.value = value
        traced.writes += 1

    def behind(self, tensor: Tensor) -> TracedStorage:
        """What the tensor's storage holds."""
        traced = self.get(tensor._storage)
        if traced is None:
            if tensor._array is None:
                raise TraceError(
                    f"{user_location()}: a tensor from another trace ({tensor._type}) is used here; a compiled "
                    "function must return what its caller needs, not store it"
                )
            traced = self._lift(tensor)
        return traced

    def _remember(self, tensor: Tensor, traced: TracedStorage, value: Value) -> None:
        if tensor._array is None:
            tensor._value = (traced.writes, value)
        else:
            self._read[tensor] = (traced.writes, value)

    def _step(self, step: ViewStep, value: Value) -> Value:
        result = self._builder.apply(step.op, (value,), step.attrs)
        if value in self._flow.active:
            self._flow.active.add(result)
        return result
