"""Batching rules of matrix products and convolutions.

What only one operand is batched in is one larger product: the batch joins the rows of a matrix or the samples of a
convolution. Where both are, a convolution runs with a group per sample, as in the batching rules of JAX
(jax/_src/lax/convolution.py: _conv_general_dilated_batch_rule).
"""

from __future__ import annotations

from typing import Any

from ..dispatch import TENSORS as F
from ..tensor import Tensor
from .batching import Call, rule
from .batching_rules import aligned

Shape = tuple[Any, ...]


@rule("matmul")
def _matmul(call: Call) -> Any:
    a, b = call.values
    if call.batched == [True, False] and b.ndim == 2:
        # One product of all rows; its gradient for b needs no sum over the samples either.
        shape: Shape = tuple(a.shape)
        rows: Any = 1
        for size in shape[:-1]:
            rows = rows * size
        product = call.apply((F.reshape(a, shape=(rows, shape[-1])), b))
        return F.reshape(product, shape=(*shape[:-1], b.shape[1]))
    return call.apply(aligned(call))


@rule("addmm")
def _addmm(call: Call) -> Any:
    bias, a, b = call.values
    if call.batched == [False, True, False] and (bias.ndim < 2 or bias.shape[0] == 1):
        size, rows, depth = a.shape
        product = call.apply((bias, F.reshape(a, shape=(size * rows, depth)), b))
        return F.reshape(product, shape=(size, rows, b.shape[1]))
    return call.decomposed()


def joined(value: Tensor) -> Tensor:
    """[B, n, ...] as [B*n, ...]"""
    shape: Shape = tuple(value.shape)
    found: Tensor = F.reshape(value, shape=(shape[0] * shape[1], *shape[2:]))
    return found


def parted(value: Tensor, size: Any, dim: int = 0) -> Tensor:
    """Dim `dim` of size B*n as two dims [B, n]."""
    shape: Shape = tuple(value.shape)
    inner = shape[dim] // size
    found: Tensor = F.reshape(value, shape=(*shape[:dim], size, inner, *shape[dim + 1 :]))
    return found


def _channels_joined(value: Tensor) -> Tensor:
    """[B, N, C, ...] as [N, B*C, ...]"""
    moved = F.permute(value, dims=(1, 0, *range(2, value.ndim)))
    shape: Shape = tuple(moved.shape)
    found: Tensor = F.reshape(moved, shape=(shape[0], shape[1] * shape[2], *shape[3:]))
    return found


def _channels_parted(value: Tensor, size: Any) -> Tensor:
    """[N, B*C, ...] as [B, N, C, ...]"""
    split = parted(value, size, 1)
    found: Tensor = F.permute(split, dims=(1, 0, *range(2, split.ndim)))
    return found


@rule("conv", "conv_input_grad")
def _conv(call: Call) -> Any:
    """x (or the result's gradient) and the kernel."""
    (x, w), size = call.values, call.size
    sized = "input_size" in call.attrs
    full: Shape = tuple(call.attrs["input_size"]) if sized else ()
    if not call.batched[1]:
        changed = {"input_size": (full[0] * size, *full[1:])} if sized else {}
        return parted(call.apply((joined(x), w), **changed), size)
    groups = call.attrs["groups"]
    if not call.batched[0] and groups == 1 and not sized:
        return _channels_parted(call.apply((x, joined(w))), size)
    changed = {"input_size": (full[0], full[1] * size, *full[2:])} if sized else {}
    found = call.apply((_channels_joined(call.full(0)), joined(w)), groups=groups * size, **changed)
    return _channels_parted(found, size)


@rule("conv_weight_grad")
def _conv_weight_grad(call: Call) -> Any:
    x, dy = (_channels_joined(v) for v in call.all_full())
    full: Shape = tuple(call.attrs["weight_size"])
    found = call.apply(
        (x, dy), weight_size=(full[0] * call.size, *full[1:]), groups=call.attrs["groups"] * call.size
    )
    return parted(found, call.size)


@rule("convolution", "conv_transpose")
def _convolution(call: Call) -> Any:
    if call.batched[0] and not any(call.batched[1:]):
        return parted(call.apply((joined(call.values[0]), *call.values[1:])), call.size)
    return call.decomposed()
