"""Eager ops on a device: each call is a graph of one node, compiled once for its op, attributes and operand types, kept
in memory and on disk.

An operand need not lie in row-major order: its program reads it where it lies, by the strides, which are part of the
signature. A view of a device's memory is a view there too, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .ir import dims, dtypes
from .ir.builder import GraphBuilder
from .ir.graph import Value
from .ir.op import Op, op_named
from .ir.types import TensorType
from .memory_layout import after_view, view_strides
from .passes.cse import attrs_key
from .runtime.compiled_graph import CompileOptions
from .runtime.gpu import arrays
from .runtime.gpu.arrays import DeviceArray, Gpu
from .runtime.gpu.compiled import GpuGraph, compile_gpu_graph
from .runtime.gpu.meta import META
from .tf32 import tf32_products, with_tf32
from .views import Views, write_through

_STRIDED, _EXPAND, _CONVERT = map(op_named, ("strided", "expand", "convert"))
# Shape, dtype, strides in elements where they are not those of row-major order, and how many elements after an address
# that vectors may be read from (a multiple of 16) the first one lies.
Layout = tuple[tuple[int, ...], str, tuple[int, ...] | None, int]
VECTOR = 16
Build = Callable[[GraphBuilder], tuple[Sequence[Value], Mapping[int, int]]]

_programs: dict[Any, GpuGraph] = {}
MOST_PROGRAMS = 1 << 14
# 0-d numbers that ops were given, by dtype and bytes.
_constants: dict[tuple[int, str, bytes], DeviceArray] = {}
MOST_CONSTANTS = 4096


def run_op(
    gpu: Gpu,
    op: Op,
    operands: Sequence[DeviceArray],
    attrs: Mapping[str, Any],
    into: DeviceArray | None = None,
) -> list[DeviceArray]:
    """The op's results; its one result written to `into`, which is row-major and aligned, if that is given."""
    if gpu is META:
        return [into] if into is not None else _without_elements(op, operands, attrs)
    if op.name == "full" and into is None:
        return [filled(gpu, attrs["shape"], attrs["value"], attrs["dtype"].numpy)]
    layouts = tuple(map(_layout, operands))
    key = (gpu.index, op, attrs_key(attrs), layouts)

    def build(builder: GraphBuilder) -> tuple[Sequence[Value], Mapping[int, int]]:
        values = [_operand(builder, layout, f"x{i}") for i, layout in enumerate(layouts)]
        found = builder.apply(op, values, _with_sizes(op, values, attrs))
        return (found if isinstance(found, tuple) else (found,)), {}

    graph = _program(gpu, key, op.name, build)
    made: list[DeviceArray | None] = [into]
    if into is None:
        made = [
            None if i in graph.late_outputs else arrays.empty(gpu, t.sizes, t.dtype.numpy)
            for i, t in enumerate(graph.output_types)
        ]
    if not graph.told and all(a is not None and not a.size for a in made):
        return [a for a in made if a is not None]
    run = graph.run([_start(a) for a in operands], [a.address if a is not None else 0 for a in made])
    return [run.outputs[i] if a is None else a for i, a in enumerate(made)]


def _without_elements(op: Op, operands: Sequence[DeviceArray], attrs: Mapping[str, Any]) -> list[DeviceArray]:
    if op.sizes:
        raise NotImplementedError(
            f"aten::{op.name}: attempted to run this operator with Meta tensors, and how large its result is depends on "
            "the elements"
        )
    types = op.infer_types([TensorType(a.shape, dtypes.from_numpy(a.dtype)) for a in operands], attrs)
    return [arrays.empty(META, t.sizes, t.dtype.numpy) for t in types]


def filled(gpu: Gpu, shape: Sequence[int], value: Any, dtype: np.dtype[Any]) -> DeviceArray:
    """An array of one number; the program does not depend on the number."""
    number = np.asarray(value).astype(dtype)
    if not any(number.tobytes()):
        made = arrays.empty(gpu, shape, dtype)
        if made.size:
            gpu.device.fill(made.address, 0, made.nbytes)
        return made
    given = constant(gpu, number)
    (made,) = run_op(gpu, _CONVERT, (_expanded(given, tuple(shape)),), {"dtype": dtypes.from_numpy(dtype)})
    return made


def constant(gpu: Gpu, number: np.ndarray[Any, Any]) -> DeviceArray:
    """A 0-d array of the number; never write to it."""
    key = (gpu.index, number.dtype.str + number.dtype.name, number.tobytes())
    found = _constants.get(key)
    if found is None or found.gpu is not gpu:
        if len(_constants) >= MOST_CONSTANTS:
            _constants.clear()
        found = _constants[key] = arrays.from_host(gpu, number.reshape(()))
    return found


def _expanded(array: DeviceArray, shape: tuple[int, ...]) -> DeviceArray:
    return DeviceArray(array.memory, shape, array.dtype, (0,) * len(shape), array.offset)


def contiguous(array: DeviceArray) -> DeviceArray:
    """The array, or a row-major, aligned copy of it."""
    return array if is_plain(array) else copied(array)


def is_plain(array: DeviceArray) -> bool:
    """Whether programs take the array as it is: in row-major order, at an address for vectors."""
    return array.c_contiguous and not array.address % VECTOR


def _start(array: DeviceArray) -> int:
    return array.address - array.address % VECTOR


def copied(array: DeviceArray) -> DeviceArray:
    """A row-major copy."""
    if array.c_contiguous:
        return array.copy()
    (made,) = run_op(array.gpu, _CONVERT, (array,), {"dtype": dtypes.from_numpy(array.dtype)})
    return made


def view(op: Op, array: DeviceArray, attrs: Mapping[str, Any]) -> DeviceArray | None:
    """What a view op shows of the array's memory; None for a reshape that no strides describe. The op's own error for an
    array that does not fit."""
    type_ = TensorType(array.shape, dtypes.from_numpy(array.dtype))
    (seen,) = op.infer_types([type_], attrs)
    size = array.itemsize
    steps = tuple(step // size for step in array.strides)
    if op.name == "reshape":
        found = _reshaped(array.shape, steps, seen.sizes)
        if found is None:
            return None
        return DeviceArray(
            array.memory, seen.sizes, array.dtype, tuple(s * size for s in found), array.offset
        )
    _, dtype, strides, first = after_view(op, attrs, type_.shape, type_.dtype, steps, 0)
    width = dtype.itemsize
    return DeviceArray(
        array.memory,
        seen.sizes,
        dtype.numpy,
        tuple(int(s) * width for s in strides),
        array.offset + int(first) * width,
    )


def _reshaped(shape: Sequence[int], steps: Sequence[int], new: Sequence[int]) -> tuple[int, ...] | None:
    found = view_strides(shape, tuple(steps), new)
    return None if found is None else tuple(int(s) for s in found)


def write(target: DeviceArray, base: DeviceArray, views: Views, new: DeviceArray) -> None:
    """The elements of `target` become those of `new`, of the same type. `views` lead to it from `base`, a storage's."""
    gpu = target.gpu
    if not target.size or gpu is META:
        return
    if new.memory is target.memory and _overlap(target, new):
        new = copied(new)
    if target.c_contiguous:
        if not new.c_contiguous and is_plain(target):
            run_op(gpu, _CONVERT, (new,), {"dtype": dtypes.from_numpy(target.dtype)}, target)
        else:
            gpu.device.copy(target.address, contiguous(new).address, target.nbytes)
        return
    if not base.c_contiguous or not views:
        raise RuntimeError(f"in-place change of memory that does not lie in row-major order: {base!r}")
    layouts = (_layout(base), _layout(new))
    steps = tuple((step.op, attrs_key(step.attrs)) for step in views)

    def build(builder: GraphBuilder) -> tuple[Sequence[Value], Mapping[int, int]]:
        whole, value = (_operand(builder, layout, f"x{i}") for i, layout in enumerate(layouts))
        return [write_through(builder, whole, views, value)], {0: 0}

    graph = _program(gpu, (gpu.index, "write", steps, layouts), "write", build)
    graph.run([base.address, _start(new)], [base.address])


def _overlap(a: DeviceArray, b: DeviceArray) -> bool:
    return a.offset < b.offset + b.span() and b.offset < a.offset + a.span()


def _program(gpu: Gpu, key: Any, name: str, build: Build) -> GpuGraph:
    tf32 = tf32_products()
    key = (key, tf32)
    found = _programs.get(key)
    if found is None or found.gpu is not gpu:
        builder = GraphBuilder(name)
        outputs, aliases = build(builder)
        graph = builder.finish(outputs, aliases, made_by="eager")
        if len(_programs) >= MOST_PROGRAMS:
            _programs.clear()
        found = _programs[key] = compile_gpu_graph(graph, gpu, with_tf32(CompileOptions(), tf32))
    return found


def _layout(array: DeviceArray) -> Layout:
    name, width = dtypes.from_numpy(array.dtype).name, array.itemsize
    if is_plain(array) or not array.size:
        return array.shape, name, None, 0
    after = array.address % VECTOR
    if after % width or any(step % width for step in array.strides):
        raise RuntimeError(f"elements that lie between others are not supported on a device: {array!r}")
    return array.shape, name, tuple(step // width for step in array.strides), after // width


def _operand(builder: GraphBuilder, layout: Layout, name: str) -> Value:
    shape, kind, strides, first = layout
    dtype = dtypes.dtype_named(kind)
    if strides is None:
        return builder.input(name, TensorType(shape, dtype))
    count = first + sum((n - 1) * step for n, step in zip(shape, strides)) + 1
    memory = builder.input(name, TensorType((count,), dtype))
    seen: Value = builder.apply(_STRIDED, (memory,), {"size": shape, "stride": strides, "offset": first})
    return seen


def _with_sizes(op: Op, values: Sequence[Value], attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes, with names for the sizes that only the run tells."""
    if not op.sizes:
        return attrs
    assert op.size_bounds is not None
    bounds = op.size_bounds(*(v.type for v in values), **attrs)
    return {
        **attrs,
        op.sizes: tuple(dims.symbol(f"u{i}", low, high) for i, (low, high) in enumerate(bounds)),
    }
