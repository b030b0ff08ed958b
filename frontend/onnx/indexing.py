"""Rules of gathers and scatters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import vitrify as torch

from ..tensor import Tensor
from .table import Call, ONNXError, rule


def _positive(index: Tensor, size: Any) -> Tensor:
    """Negative indices count from the end."""
    index = index.to(torch.int64)
    return torch.where(index < 0, index + size, index)


@rule("Gather")
def gather(call: Call) -> Tensor:
    x, axis = call.tensor(0), call.attr("axis", 0)
    known = call.inputs[1]
    axis = axis % x.ndim
    if isinstance(known, np.ndarray) and known.ndim == 0:
        return x.select(axis, int(known))
    index = _positive(call.tensor(1), x.shape[axis])
    found = torch.index_select(x, axis, index.reshape(-1))
    return found.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


@rule("GatherElements")
def gather_elements(call: Call) -> Tensor:
    x, axis = call.tensor(0), call.attr("axis", 0)
    return torch.gather(x, axis, _positive(call.tensor(1), x.shape[axis]))


def _flat_index(index: Tensor, shape: Any) -> Tensor:
    """The last dim of `index` as positions in a tensor of that shape, flattened."""
    flat = torch.zeros(index.shape[:-1], dtype=torch.int64)
    for i, n in enumerate(shape):
        flat = flat * n + _positive(index[..., i], n)
    return flat


@rule("GatherND")
def gather_nd(call: Call) -> Tensor:
    x, index, batch = call.tensor(0), call.tensor(1), call.attr("batch_dims", 0)
    depth = int(index.shape[-1])
    if batch + depth > x.ndim:
        raise ONNXError(f"indices of shape {list(index.shape)} into a tensor of shape {list(x.shape)}")
    lead = math.prod(x.shape[:batch])
    inner = x.shape[batch : batch + depth]
    rest = list(x.shape[batch + depth :])
    flat = _flat_index(index, inner).reshape(lead, -1)
    flat = (flat + torch.arange(lead).unsqueeze(1) * math.prod(inner)).reshape(-1)
    rows = x.reshape([lead * math.prod(inner), *rest])
    return torch.index_select(rows, 0, flat).reshape([*index.shape[:-1], *rest])


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@rule("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> Tensor:
    x, axis, updates = call.tensor(0), call.attr("axis", 0), call.tensor(2)
    index = _positive(call.tensor(1), x.shape[axis])
    reduction = call.attr("reduction", "none")
    if reduction == "none":
        return torch.scatter(x, axis, index, updates)
    return torch.scatter_reduce(x, axis, index, updates, _REDUCE[reduction])


@rule("ScatterND")
def scatter_nd(call: Call) -> Tensor:
    x, index, updates = call.tensor(0), call.tensor(1), call.tensor(2)
    depth = int(index.shape[-1])
    rest = list(x.shape[depth:])
    count, inner = math.prod(x.shape[:depth]), math.prod(rest)
    rows = _flat_index(index, x.shape[:depth]).reshape(-1, 1).expand(-1, inner)
    source = updates.reshape(-1, inner)
    flat = x.reshape(count, inner)
    reduction = call.attr("reduction", "none")
    if reduction == "none":
        return torch.scatter(flat, 0, rows, source).reshape(x.shape)
    return torch.scatter_reduce(flat, 0, rows, source, _REDUCE[reduction]).reshape(x.shape)


@rule("NonZero")
def nonzero(call: Call) -> Tensor:
    return torch.nonzero(call.tensor(0)).t()


@rule("OneHot", static=(1,))
def one_hot(call: Call) -> Tensor:
    """`values` are what stands elsewhere and at the index."""
    index, values = call.tensor(0), call.tensor(2)
    depth = int(call.number(1))
    index = torch.remainder(index, depth) if index.is_floating_point() else _positive(index, depth)
    axis = call.attr("axis", -1)
    axis = axis + index.ndim + 1 if axis < 0 else axis
    shape = [1] * (index.ndim + 1)
    shape[axis] = depth
    hit = index.unsqueeze(axis) == torch.arange(depth).reshape(shape).to(index.dtype)
    return torch.where(hit, values[1], values[0])


@rule("ArrayFeatureExtractor", domain="ai.onnx.ml")
def array_feature_extractor(call: Call) -> Tensor:
    x = call.tensor(0)
    return torch.index_select(x, x.ndim - 1, call.tensor(1).reshape(-1))


@rule("TensorScatter")
def tensor_scatter(call: Call) -> Tensor:
    """A key/value cache with the update written at a place of its own for each sample."""
    cache, update = call.tensor(0), call.tensor(1)
    axis = call.attr("axis", -2) % cache.ndim
    places = torch.arange(update.shape[axis]).unsqueeze(0)
    if call.has(2):
        places = places + call.tensor(2).reshape(-1, 1)
    if call.attr("mode", "linear") == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.ndim
    shape[0], shape[axis] = places.shape
    return torch.scatter(cache, axis, places.reshape(shape).expand(update.shape), update)
