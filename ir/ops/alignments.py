"""Sums over all alignments of a label sequence with time steps: the recursion of connectionist temporal
classification. A. Graves et al., 2006, section 4.1, in logarithms.

    states[0] = emitted[0] at the first two labels
    states[t] = emitted[t] + log(exp(states[t-1]) + exp(its left neighbour) + exp(the one before that, where `skips`))

A row whose length is reached keeps its state.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dims import DimLike
from ..op import Op, VJPContext, declare
from ..types import TensorType
from .by_decomposition import vjp_by_decomposition
from .common import FLOAT, Array, check_dtype, made, shape_of, wide

# The logarithm of no probability: finite, so that differences of two are numbers.
NOWHERE = -1e30


def _infer(emitted: TensorType, skips: TensorType, lengths: TensorType) -> TensorType:
    check_dtype("ctc_states", emitted, FLOAT)
    if emitted.rank != 3 or skips.shape != emitted.shape[1:] or skips.dtype is not dtypes.bool_:
        raise RuntimeError(f"ctc_states: expected bool{list(emitted.shape[1:])} for the skips, got {skips}")
    if lengths.shape != emitted.shape[1:2] or lengths.dtype is not dtypes.i64:
        raise RuntimeError(
            f"ctc_states: expected i64{list(emitted.shape[1:2])} for the lengths, got {lengths}"
        )
    return emitted


def _numpy(emitted: Array, skips: Array, lengths: Array) -> Array:
    states = np.full_like(emitted, NOWHERE)
    states[:1, :, :2] = emitted[:1, :, :2]
    padded = np.full((emitted.shape[1], emitted.shape[2] + 2), NOWHERE, emitted.dtype)
    for t in range(1, len(emitted)):
        padded[:, 2:] = states[t - 1]
        terms = states[t - 1], padded[:, 1:-1], np.where(skips, padded[:, :-2], emitted.dtype.type(NOWHERE))
        largest = np.maximum(np.maximum(terms[0], terms[1]), terms[2])
        total = np.exp(terms[0] - largest) + np.exp(terms[1] - largest) + np.exp(terms[2] - largest)
        moved = np.maximum(largest + np.log(total) + emitted[t], NOWHERE)
        states[t] = np.where((lengths > t)[:, None], moved, states[t - 1])
    return states


def _part(F: Any, x: Any, start: DimLike, stop: DimLike) -> Any:
    """Steps start to stop."""
    _, batch, width = shape_of(F, x)
    return F.slice(x, starts=(start, 0, 0), stops=(stop, batch, width), steps=(1, 1, 1))


def _right(F: Any, x: Any, by: int, fill: float) -> Any:
    batch, width = shape_of(F, x)
    wide = F.pad(x, low=(0, by), high=(0, 0), value=fill)
    return F.slice(wide, starts=(0, 0), stops=(batch, width), steps=(1, 1))


def _left(F: Any, x: Any, by: int, fill: float) -> Any:
    batch, width = shape_of(F, x)
    wide = F.pad(x, low=(0, 0), high=(0, by), value=fill)
    return F.slice(wide, starts=(0, by), stops=(batch, width + by), steps=(1, 1))


def _first(F: Any, x: Any, otherwise: float) -> Any:
    """What stands at the first two labels of the first step [batch, width]."""
    _, batch, width = shape_of(F, x)
    position = F.iota(shape=(width,), dim=0, dtype=dtypes.i64)
    return F.where(F.lt(position, 2), F.reshape(x, shape=(batch, width)), otherwise)


def _active(F: Any, lengths: Any, steps: DimLike) -> Any:
    """Whether each row goes on at each step but the first, [steps - 1, batch, 1]."""
    (batch,) = shape_of(F, lengths)
    step = F.iota(shape=(steps - 1, 1, 1), dim=0, dtype=dtypes.i64)
    return F.lt(F.add(step, 1), F.reshape(lengths, shape=(1, batch, 1)))


def _step(F: Any, states: Any, elements: Any, invariants: Any) -> Any:
    (state,), (emitted, active), (skips,) = states, elements, invariants
    one = _right(F, state, 1, NOWHERE)
    two = F.where(skips, _right(F, state, 2, NOWHERE), NOWHERE)
    largest = F.maximum(F.maximum(state, one), two)
    total = F.exp(F.sub(state, largest))
    for term in (one, two):
        total = F.add(total, F.exp(F.sub(term, largest)))
    moved = F.maximum(F.add(F.add(largest, F.log(total)), emitted), NOWHERE)
    state = F.where(active, moved, state)
    return (state,), (state,)


def _decompose(F: Any, emitted: Any, skips: Any, lengths: Any) -> Any:
    steps, batch, width = shape_of(F, emitted)
    first = _first(F, _part(F, emitted, 0, 1), NOWHERE)
    states = [F.reshape(first, shape=(1, batch, width))]
    if steps > 1:
        sequences = _part(F, emitted, 1, steps), _active(F, lengths, steps)
        _, (others,) = F.scan(_step, (first,), sequences, (skips,), length=steps - 1)
        states.append(others)
    return states[0] if len(states) == 1 else F.concat(*states, dim=0)


def _vjp(F: Any, ctx: VJPContext, cotangent: Any) -> list[Any]:
    emitted, skips, lengths = ctx.inputs
    return [F.ctc_states_grad(cotangent, emitted, ctx.outputs[0], skips, lengths), None, None]


declare(
    Op(
        "ctc_states",
        "ctc_states(emitted, skips, lengths) -> log probabilities [t, batch, labels] of having come to each label with "
        "step t, over all ways: from a label to itself, the next, or where `skips` says so the one after, lengths[b] "
        "steps in all. emitted[t, b, l] is the log probability of label l at step t.",
        infer=_infer,
        numpy=wide(_numpy),
        arity=(3, 3),
        level="composite",
        vjp=_vjp,
        decompose=_decompose,
        saves=("input:*", "output:0"),
        grad_name="CtcLossBackward0",
        flops=lambda emitted, skips, lengths: 8 * emitted.numel,
        # In differences of sums with -1e30 in them gradients do not show; those of the loss are compared with PyTorch's.
        samples=(
            made(lambda rng: _operands(rng, 4, (4, 2)), gradient=False),
            made(lambda rng: _operands(rng, 1, (1,)), gradient=False, label="one step"),
            made(lambda rng: _operands(rng, 3, (3, 0, 1)), gradient=False, label="short"),
        ),
    )
)


def _operands(rng: Any, steps: int, lengths: tuple[int, ...]) -> list[Array]:
    batch, width = len(lengths), 5
    skips = rng.random((batch, width)) < 0.5
    return [rng.uniform(-3, 0, (steps, batch, width)), skips, np.array(lengths, np.int64)]


# The gradient


def _grad_infer(
    cotangent: TensorType, emitted: TensorType, states: TensorType, skips: TensorType, lengths: TensorType
) -> TensorType:
    _infer(emitted, skips, lengths)
    if cotangent != emitted or states != emitted:
        raise RuntimeError(f"ctc_states_grad: expected {emitted} twice, got {cotangent} and {states}")
    return emitted


def _grad_numpy(cotangent: Array, emitted: Array, states: Array, skips: Array, lengths: Array) -> Array:
    steps, batch, width = emitted.shape
    found = np.zeros_like(emitted)
    nowhere = emitted.dtype.type(NOWHERE)
    rises = np.full(
        (batch, width + 2), NOWHERE, emitted.dtype
    )  # by how much a label's state is above its source
    moved = np.zeros((batch, width + 2), emitted.dtype)
    may_skip = np.zeros((batch, width), bool)
    may_skip[:, :-2] = skips[:, 2:]
    carry = np.zeros((batch, width), emitted.dtype)
    for t in range(steps - 1, 0, -1):
        total, active, before = cotangent[t] + carry, (lengths > t)[:, None], states[t - 1]
        moved[:, :width] = np.where(active, total, 0)
        rises[:, :width] = np.where(active, emitted[t] - states[t], nowhere)
        carry = np.exp(before + rises[:, :width]) * moved[:, :width]
        carry += np.exp(before + rises[:, 1:-1]) * moved[:, 1:-1]
        carry += np.exp(np.where(may_skip, before + rises[:, 2:], nowhere)) * moved[:, 2:]
        carry = np.where(active, carry, total)
        found[t] = moved[:, :width]
    found[:1, :, :2] = (cotangent[:1] + carry)[:, :, :2]
    return found


def _grad_step(F: Any, states: Any, elements: Any, invariants: Any) -> Any:
    (carry,), (cotangent, emitted, after, before, active), (may_skip,) = states, elements, invariants
    total = F.add(cotangent, carry)
    moved = F.where(active, total, 0.0)
    rises = F.where(active, F.sub(emitted, after), NOWHERE)
    found = F.mul(F.exp(F.add(before, rises)), moved)
    one = F.exp(F.add(before, _left(F, rises, 1, NOWHERE)))
    found = F.add(found, F.mul(one, _left(F, moved, 1, 0.0)))
    two = F.exp(F.where(may_skip, F.add(before, _left(F, rises, 2, NOWHERE)), NOWHERE))
    found = F.add(found, F.mul(two, _left(F, moved, 2, 0.0)))
    return (F.where(active, found, total),), (moved,)


def _grad_decompose(F: Any, cotangent: Any, emitted: Any, states: Any, skips: Any, lengths: Any) -> Any:
    steps, batch, width = shape_of(F, emitted)
    carry, found = None, []
    if steps > 1:
        later = [_part(F, x, 1, steps) for x in (cotangent, emitted, states)]
        sequences = *later, _part(F, states, 0, steps - 1), _active(F, lengths, steps)
        start = F.full(shape=(batch, width), value=0.0, dtype=F.type_of(emitted).dtype)
        may_skip = _left(F, skips, 2, False)
        (carry,), found = F.scan(_grad_step, (start,), sequences, (may_skip,), length=steps - 1, reverse=True)
    first = _part(F, cotangent, 0, 1)
    if carry is not None:
        first = F.add(first, F.reshape(carry, shape=(1, batch, width)))
    first = F.reshape(_first(F, first, 0.0), shape=(1, batch, width))
    return F.concat(first, *found, dim=0) if found else first


declare(
    Op(
        "ctc_states_grad",
        "ctc_states_grad(cotangent, emitted, states, skips, lengths) -> the gradient of emitted in ctc_states.",
        infer=_grad_infer,
        numpy=wide(_grad_numpy),
        arity=(5, 5),
        level="composite",
        vjp=vjp_by_decomposition(_grad_decompose),
        decompose=_grad_decompose,
        saves=("input:*",),
        flops=lambda emitted, *others: 10 * emitted.numel,
        samples=(
            made(lambda rng: _grad_operands(rng, 4, (4, 2)), gradient=False),
            made(lambda rng: _grad_operands(rng, 1, (1,)), gradient=False, label="one step"),
            made(lambda rng: _grad_operands(rng, 3, (3, 0, 1)), gradient=False, label="short"),
        ),
    )
)


def _grad_operands(rng: Any, steps: int, lengths: tuple[int, ...]) -> list[Array]:
    emitted, skips, given = _operands(rng, steps, lengths)
    return [rng.uniform(-1, 1, emitted.shape), emitted, _numpy(emitted, skips, given), skips, given]
