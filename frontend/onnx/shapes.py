"""Rules of ops that move elements, make constants and ask for shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import vitrify as torch
import vitrify.nn.functional as F

from ..ir.dims import product
from ..tensor import Tensor
from .known_sizes import SIZE_RULES
from .reading import tensor_array
from .table import DTYPES, Call, ONNXError, dtype_of, rule

rule("Shape")(SIZE_RULES["Shape"])
rule("Size")(SIZE_RULES["Size"])


@rule("Constant")
def constant(call: Call) -> Any:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if name in call.attrs:
            value = call.attrs[name]
            if name == "value":
                return value if isinstance(value, np.ndarray) else tensor_array(value, "", "value")
            return np.array(value, dtype=np.float32 if "float" in name else np.int64)
    raise ONNXError(f"constants of kind {', '.join(call.attrs) or 'none'} are not supported")


@rule("ConstantOfShape", static=(0,))
def constant_of_shape(call: Call) -> Tensor:
    value = call.attr("value", np.zeros(1, np.float32))
    if value.dtype.name not in DTYPES:
        raise ONNXError(f"element type {value.dtype} is not supported")
    return torch.full(call.ints(0), value.reshape(-1)[0].item(), dtype=DTYPES[value.dtype.name])


@rule("Reshape", static=(1,))
def reshape(call: Call) -> Tensor:
    """0 keeps a dim, unless `allowzero`."""
    x = call.tensor(0)
    shape = list(call.attr("shape", ())) if call.version < 5 else call.ints(1)
    if not call.attr("allowzero", 0):
        for position, n in enumerate(shape):
            if isinstance(n, int) and n == 0:
                if position >= x.ndim:
                    raise ONNXError(
                        f"shape {shape} keeps dim {position} of an input of shape {list(x.shape)}"
                    )
                shape[position] = x.shape[position]
    return x.reshape(shape)


@rule("Flatten")
def flatten(call: Call) -> Tensor:
    x, axis = call.tensor(0), call.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(product(x.shape[:axis]), product(x.shape[axis:]))


@rule("Transpose")
def transpose(call: Call) -> Tensor:
    x = call.tensor(0)
    return x.permute(*call.attr("perm", range(x.ndim)[::-1])) if x.ndim else x


@rule("Squeeze", static=(1,))
def squeeze(call: Call) -> Tensor:
    axes = call.axes(1)
    return call.tensor(0).squeeze() if axes is None else call.tensor(0).squeeze(tuple(axes))


@rule("Unsqueeze", static=(1,))
def unsqueeze(call: Call) -> Tensor:
    x, axes = call.tensor(0), call.axes(1) or []
    rank = x.ndim + len(axes)
    if len({a % rank for a in axes}) != len(axes) or any(not -rank <= a < rank for a in axes):
        raise ONNXError(f"axes {axes} do not fit an input of {x.ndim} dims")
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@rule("Concat")
def concat(call: Call) -> Tensor:
    return torch.cat(call.tensors(), dim=call.attr("axis", 1))


@rule("Split", static=(1,))
def split(call: Call) -> tuple[Tensor, ...]:
    x, axis = call.tensor(0), call.attr("axis", 0)
    sizes = list(call.attrs["split"]) if "split" in call.attrs else call.ints(1) if call.has(1) else None
    if sizes is None:
        count = call.attr("num_outputs", call.outputs)
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1)
        sizes.append(x.shape[axis] - each * (count - 1))
    return tuple(torch.split(x, sizes, dim=axis))


@rule("Slice", static=(1, 2, 3, 4))
def slice_(call: Call) -> Tensor:
    x = call.tensor(0)
    if call.version < 10:
        starts, ends = list(call.required("starts")), list(call.required("ends"))
    else:
        starts, ends = call.ints(1), call.ints(2)
    axes = call.axes(3) or list(range(len(starts)))
    steps = call.ints(4) if call.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ONNXError(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    index: list[slice] = [slice(None)] * x.ndim
    reversed_dims = []
    for start, end, step, axis in zip(starts, ends, steps, axes):
        axis = axis % x.ndim
        if isinstance(end, int) and end >= 1 << 31:
            end = None
        if isinstance(step, int) and step < 0:
            # x[start:end:-s] is the flipped tensor from the mirrored places on.
            start, end, _ = slice(start, end, step).indices(int(x.shape[axis]))
            last = int(x.shape[axis]) - 1
            index[axis] = slice(last - start, last - end, -step)
            reversed_dims.append(axis)
        else:
            index[axis] = slice(start, end, step)
    if reversed_dims:
        x = torch.flip(x, reversed_dims)
    return x[tuple(index)]


@rule("Expand", static=(1,))
def expand(call: Call) -> Tensor:
    """Broadcast with a shape, in both directions."""
    x, shape = call.tensor(0), call.ints(1)
    own = [1] * (len(shape) - x.ndim) + list(x.shape)
    shape = [1] * (x.ndim - len(shape)) + list(shape)
    return x.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(own, shape)])


@rule("Tile", static=(1,))
def tile(call: Call) -> Tensor:
    return torch.tile(call.tensor(0), call.ints(1))


@rule("Range", static=(0, 1, 2))
def range_(call: Call) -> Tensor:
    first = call.inputs[0]
    start, limit, step = (call.number(i) for i in range(3))
    dtype = first.dtype if isinstance(first, Tensor) else DTYPES[np.asarray(first).dtype.name]
    count = max(int(np.ceil((limit - start) / step)), 0)
    return (torch.arange(count) * step + start).to(dtype)


@rule("EyeLike")
def eye_like(call: Call) -> Tensor:
    x = call.tensor(0)
    dtype = dtype_of(call.attrs["dtype"]) if "dtype" in call.attrs else x.dtype
    rows, columns = x.shape
    return (torch.arange(columns) == torch.arange(rows).unsqueeze(1) + call.attr("k", 0)).to(dtype)


@rule("Trilu", static=(1,))
def trilu(call: Call) -> Tensor:
    x = call.tensor(0)
    offset = call.number(1, 0)
    rows, columns = (torch.arange(n) for n in x.shape[-2:])
    distance = columns - rows.unsqueeze(1)
    kept = distance >= offset if call.attr("upper", 1) else distance <= offset
    return torch.where(kept, x, torch.zeros_like(x))


@rule("DepthToSpace")
def depth_to_space(call: Call) -> Tensor:
    x, b = call.tensor(0), call.required("blocksize")
    n, c, h, w = x.shape
    if call.attr("mode", "DCR") == "CRD":
        x = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        x = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // (b * b), h * b, w * b)


@rule("SpaceToDepth")
def space_to_depth(call: Call) -> Tensor:
    x, b = call.tensor(0), call.required("blocksize")
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 1, 3, 5, 2, 4) if call.attr("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return x.permute(*order).reshape(n, c * b * b, h // b, w // b)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@rule("Pad", static=(1, 2, 3))
def pad(call: Call) -> Tensor:
    x, mode = call.tensor(0), call.attr("mode", "constant")
    if call.version < 11:
        pads, value = list(call.required("pads")), call.attr("value", 0.0)
    else:
        pads, value = call.ints(1), call.number(2, 0)
    axes = call.ints(3) if call.has(3) else list(range(x.ndim))
    if mode not in _MODES or len(pads) != 2 * len(axes):
        raise ONNXError(f"mode {mode!r} with {len(pads)} pads for {len(axes)} axes")
    low, high = [0] * x.ndim, [0] * x.ndim
    for axis, before, after in zip(axes, pads, pads[len(axes) :]):
        low[axis], high[axis] = before, after
    if mode == "constant":
        return with_border(x, low, high, value)
    for axis in range(x.ndim):
        if low[axis] or high[axis]:
            x = torch.index_select(x, axis, _padded(x.shape[axis], low[axis], high[axis], mode))
    return x


def with_border(x: Tensor, low: Sequence[Any], high: Sequence[Any], value: Any) -> Tensor:
    """`value` around the last dims: as many as the numbers say; of negative ones, elements cut off."""
    both = [n for pair in zip(reversed(low), reversed(high)) for n in pair]
    return torch.constant_pad_nd(x, both, value)


def _padded(size: int, low: int, high: int, mode: str) -> Tensor:
    """Which element of a dim stands at each place after padding it. Negative numbers crop."""
    places = np.arange(-low, size + high)
    if mode == "wrap":
        places = places % size
    elif mode == "edge":
        places = np.clip(places, 0, size - 1)
    elif size == 1:
        places = np.zeros_like(places)
    else:
        places = places % (2 * size - 2)
        places = np.minimum(places, 2 * size - 2 - places)
    return torch.from_numpy(places)


@rule("ReverseSequence")
def reverse_sequence(call: Call) -> Tensor:
    """The first `sequence_lens[b]` elements of each sample in reverse."""
    x, lengths = call.tensor(0), call.tensor(1)
    batch, time = call.attr("batch_axis", 1), call.attr("time_axis", 0)
    steps = torch.arange(x.shape[time]).unsqueeze(1)
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    if batch < time:
        index = index.t()
    index = index.reshape([*index.shape, *[1] * (x.ndim - 2)]).expand(x.shape)
    return torch.gather(x, time, index)


@rule("Compress")
def compress(call: Call) -> Tensor:
    x, condition = call.tensor(0), call.tensor(1)
    axis = call.attr("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    count = min(int(condition.shape[0]), int(x.shape[axis]))
    return torch.index_select(x, axis, torch.nonzero(condition[:count]).reshape(-1))


@rule("Col2Im", static=(1, 2))
def col2im(call: Call) -> Tensor:
    size, block = call.ints(1), call.ints(2)
    rank = len(size)
    pads = call.attr("pads", [0] * 2 * rank)
    strides, dilations = call.attr("strides", [1] * rank), call.attr("dilations", [1] * rank)
    x = call.tensor(0)
    whole = [n + pads[i] + pads[i + rank] for i, n in enumerate(size)]
    if rank == 2:
        image = F.fold(x, whole, block, dilation=dilations, stride=strides)
    else:
        places = _block_places(whole, block, strides, dilations)
        channels = x.shape[1] // math.prod(block)
        flat = torch.zeros([x.shape[0] * channels, math.prod(whole)], dtype=x.dtype)
        columns = x.reshape(x.shape[0] * channels, -1)
        image = flat.index_add(1, torch.from_numpy(places), columns).reshape(x.shape[0], channels, *whole)
    return image[(..., *(slice(pads[i], pads[i] + n) for i, n in enumerate(size)))]


def _block_places(whole: list[int], block: list[int], strides: list[int], dilations: list[int]) -> Any:
    """Where each element of each block lies in the flattened image: by place in the block, then by block."""
    rank = len(whole)
    flat: Any = 0
    for i in range(rank):
        count = (whole[i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        along = np.arange(block[i])[:, None] * dilations[i] + np.arange(count)[None, :] * strides[i]
        shape = [1] * 2 * rank
        shape[i], shape[i + rank] = along.shape
        flat = flat * whole[i] + along.reshape(shape)
    return np.ascontiguousarray(flat).reshape(-1)
