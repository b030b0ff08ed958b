"""The gradients of the recurrent layers, as ops: back through the steps, by the gates that the layer kept.

What they leave to ordinary ops is what is one matmul over all steps: the gradients of the weights. Their own gradients
are those of their decompositions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..op import Attr, Op, declare
from ..types import TensorType
from .by_decomposition import vjp_by_decomposition
from .common import Array, Shape, check_same_dtype, uniform
from .contraction import transposed
from .recurrent_steps import (
    all_previous,
    columns,
    join,
    over_steps,
    previous,
    step_rows,
    widened,
)

ATTRS = {"batch_sizes": Attr("dims"), "reverse": Attr("bool", False)}
RNN_ATTRS = {"activation": Attr("str", "tanh"), **ATTRS}
# Sample operands that gates and states can be, so that what goes back does not grow from step to step.
_within = partial(uniform, between=(0.1, 0.9))


def _given(F: Any, cotangent: Any, value: Any) -> Any:
    return F.zeros_like(value) if cotangent is None else cotangent


def _by_weight(F: Any, d: Any, packed: Any, initial: Any, attrs: Any) -> Any:
    """The gradient of w in `state before the step @ w.T`, of all steps at once."""
    before = all_previous(F, packed, initial, attrs["batch_sizes"], attrs["reverse"])
    return F.matmul(transposed(F, d), before)


def rnn_vjp(F: Any, ctx: Any, dy: Any, dh: Any) -> list[Any]:
    _, h, w = ctx.inputs
    output = ctx.outputs[0]
    dx, d_initial = F.rnn_grad(_given(F, dy, output), _given(F, dh, h), output, w, **ctx.attrs)
    by_weight = _by_weight(F, dx, output, h, ctx.attrs) if ctx.needs[2] else None
    return [dx, d_initial, by_weight]


def lstm_vjp(F: Any, ctx: Any, dy: Any, dh: Any, dc: Any) -> list[Any]:
    _, h, c, w, *proj = ctx.inputs
    output, _, _, gates, cells = ctx.outputs
    dx, d_h, d_c, d_steps = F.lstm_grad(
        *(_given(F, dy, output), _given(F, dh, h), _given(F, dc, c)), gates, cells, c, w, *proj, **ctx.attrs
    )
    grads = [dx, d_h, d_c, _by_weight(F, dx, output, h, ctx.attrs) if ctx.needs[3] else None]
    if proj:
        exposed = F.mul(columns(F, gates, 4)[3], F.tanh(cells)) if ctx.needs[4] else None
        grads.append(F.matmul(transposed(F, d_steps), exposed) if ctx.needs[4] else None)
    return grads


def gru_vjp(F: Any, ctx: Any, dy: Any, dh: Any) -> list[Any]:
    _, h, w, *bias = ctx.inputs
    output, _, gates = ctx.outputs
    dx, d_state, d_h = F.gru_grad(_given(F, dy, output), _given(F, dh, h), gates, output, h, w, **ctx.attrs)
    grads = [dx, d_h, _by_weight(F, d_state, output, h, ctx.attrs) if ctx.needs[2] else None]
    if bias:
        grads.append(F.sum(d_state, dims=(0,)) if ctx.needs[3] else None)
    return grads


def _infer(*given: int) -> Any:
    """Results of the types of these operands."""

    def infer(*operands: TensorType, **attrs: Any) -> tuple[TensorType, ...]:
        check_same_dtype("recurrent gradient", *operands)
        return tuple(operands[i] for i in given)

    return infer


def _rnn_grad_numpy(
    dy: Array, dh: Array, output: Array, w: Array, activation: str, batch_sizes: Any, reverse: bool
) -> tuple[Array, ...]:
    dx, dh = np.empty_like(dy), dh.copy()
    for _, part, n in step_rows(batch_sizes, not reverse):
        y = output[part]
        d = np.add(dy[part], dh[:n], out=dx[part])
        d *= 1 - y * y if activation == "tanh" else y > 0
        np.matmul(d, w, out=dh[:n])
    return dx, dh


def _rnn_grad_decompose(
    F: Any, dy: Any, dh: Any, output: Any, w: Any, activation: str, batch_sizes: Shape, reverse: bool
) -> tuple[Any, ...]:
    def step(F: Any, state: Any, given: Any, weights: Any) -> Any:
        dy, y = given
        d = F.add(dy, state[0])
        if activation == "tanh":
            d = F.mul(d, F.sub(1.0, F.mul(y, y)))
        else:
            d = F.where(F.gt(y, 0.0), d, 0.0)
        return (F.matmul(d, weights[0]),), (d,)

    return over_steps(F, step, (dh,), (dy, output), (w,), batch_sizes, not reverse)


declare(
    Op(
        "rnn_grad",
        "rnn_grad(dy, dh, outputs, w) -> (dx, dh of the initial state): the gradient of `rnn`.",
        infer=_infer(0, 1),
        numpy=widened(_rnn_grad_numpy),
        attrs=RNN_ATTRS,
        arity=(4, 4),
        results=2,
        level="composite",
        vjp=vjp_by_decomposition(_rnn_grad_decompose),
        decompose=_rnn_grad_decompose,
        saves=("input:*",),
        samples=(
            _within((3, 2), (1, 2), (3, 2), (2, 2), batch_sizes=(1, 1, 1)),
            _within((4, 2), (2, 2), (4, 2), (2, 2), batch_sizes=(2, 1, 1), activation="relu"),
            _within((4, 2), (2, 2), (4, 2), (2, 2), batch_sizes=(2, 1, 1), reverse=True),
        ),
    )
)


def _lstm_grad_numpy(
    dy: Array, dh: Array, dc: Array, gates: Array, cells: Array, c: Array, w: Array, *proj: Array,
    batch_sizes: Any, reverse: bool,
) -> tuple[Array, ...]:  # fmt: skip
    size = c.shape[1]
    dx, d_steps = np.empty_like(gates), np.empty_like(dy)
    dh, dc = dh.copy(), dc.copy()
    before = previous(batch_sizes, reverse)
    # The slope of each gate, sigmoid's y (1 - y) or tanh's 1 - y², for all steps at once.
    slopes = gates * (1 - gates)
    candidates = gates[:, 2 * size : 3 * size]
    slopes[:, 2 * size : 3 * size] = 1 - candidates * candidates
    squashed = np.tanh(cells)
    into_cell = gates[:, 3 * size :] * (1 - squashed * squashed)
    for t, part, n in step_rows(batch_sizes, not reverse):
        g, d = gates[part], dx[part]
        total = np.add(dy[part], dh[:n], out=d_steps[part])
        if proj:
            total = np.matmul(total, proj[0])
        pieces = [(c if first else cells)[int(a) : int(b)] for first, a, b in before[t]]
        d_cell = total * into_cell[part]
        d_cell += dc[:n]
        np.multiply(d_cell, g[:, 2 * size : 3 * size], out=d[:, :size])
        np.multiply(
            d_cell, pieces[0] if len(pieces) == 1 else np.concatenate(pieces), out=d[:, size : 2 * size]
        )
        np.multiply(d_cell, g[:, :size], out=d[:, 2 * size : 3 * size])
        np.multiply(total, squashed[part], out=d[:, 3 * size :])
        d *= slopes[part]
        np.multiply(d_cell, g[:, size : 2 * size], out=dc[:n])
        np.matmul(d, w, out=dh[:n])
    return dx, dh, dc, d_steps


def _lstm_grad_decompose(
    F: Any, dy: Any, dh: Any, dc: Any, gates: Any, cells: Any, c: Any, w: Any, *proj: Any,
    batch_sizes: Shape, reverse: bool,
) -> tuple[Any, ...]:  # fmt: skip
    def step(F: Any, state: Any, given: Any, weights: Any) -> Any:
        dy, gates, cell, earlier = given
        i, f, g, o = columns(F, gates, 4)
        total = of_step = F.add(dy, state[0])
        if proj:
            total = F.matmul(of_step, weights[1])
        squashed = F.tanh(cell)
        slope = F.mul(o, F.sub(1.0, F.mul(squashed, squashed)))
        d_cell = F.add(state[1], F.mul(total, slope))
        d = join(
            F,
            [
                F.mul(F.mul(d_cell, g), F.mul(i, F.sub(1.0, i))),
                F.mul(F.mul(d_cell, earlier), F.mul(f, F.sub(1.0, f))),
                F.mul(F.mul(d_cell, i), F.sub(1.0, F.mul(g, g))),
                F.mul(F.mul(total, squashed), F.mul(o, F.sub(1.0, o))),
            ],
            1,
        )
        return (F.matmul(d, weights[0]), F.mul(d_cell, f)), (d, of_step)

    sequences = (dy, gates, cells, all_previous(F, cells, c, batch_sizes, reverse))
    dx, d_steps, d_h, d_c = over_steps(F, step, (dh, dc), sequences, (w, *proj), batch_sizes, not reverse)
    return dx, d_h, d_c, d_steps


declare(
    Op(
        "lstm_grad",
        "lstm_grad(dy, dh, dc, gates, cells, c, w[, w_hr]) -> (dx, dh, dc of the initial states, the gradient of h at "
        "each step): the gradient of `lstm`.",
        infer=_infer(3, 1, 2, 0),
        numpy=widened(_lstm_grad_numpy),
        attrs=ATTRS,
        arity=(7, 8),
        results=4,
        level="composite",
        vjp=vjp_by_decomposition(_lstm_grad_decompose),
        decompose=_lstm_grad_decompose,
        saves=("input:*",),
        samples=(
            _within((2, 2), (1, 2), (1, 2), (2, 8), (2, 2), (1, 2), (8, 2), batch_sizes=(1, 1)),
            _within((3, 1), (2, 1), (2, 2), (3, 8), (3, 2), (2, 2), (8, 1), (1, 2), batch_sizes=(2, 1)),
            _within((3, 1), (2, 1), (2, 1), (3, 4), (3, 1), (2, 1), (4, 1), batch_sizes=(2, 1), reverse=True),
        ),
    )
)


def _gru_grad_numpy(
    dy: Array, dh: Array, gates: Array, output: Array, h: Array, w: Array, batch_sizes: Any, reverse: bool
) -> tuple[Array, ...]:
    size = h.shape[1]
    dx, d_state = np.empty((len(dy), 3 * size), dy.dtype), np.empty((len(dy), 3 * size), dy.dtype)
    dh = dh.copy()
    before = previous(batch_sizes, reverse)
    for t, part, n in step_rows(batch_sizes, not reverse):
        r, z, new, from_state = (gates[part, i * size : (i + 1) * size] for i in range(4))
        pieces = [(h if first else output)[int(a) : int(b)] for first, a, b in before[t]]
        state = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        d, total = dx[part], dy[part] + dh[:n]
        kept = total * z
        d_new = np.multiply(total - kept, 1 - new * new, out=d[:, 2 * size :])
        np.multiply(kept * (1 - z), state - new, out=d[:, size : 2 * size])
        np.multiply(d_new * from_state, r * (1 - r), out=d[:, :size])
        d_state[part, : 2 * size] = d[:, : 2 * size]
        np.multiply(d_new, r, out=d_state[part, 2 * size :])
        np.add(np.matmul(d_state[part], w), kept, out=dh[:n])
    return dx, d_state, dh


def _gru_grad_decompose(
    F: Any, dy: Any, dh: Any, gates: Any, output: Any, h: Any, w: Any, batch_sizes: Shape, reverse: bool
) -> tuple[Any, ...]:
    def step(F: Any, state: Any, given: Any, weights: Any) -> Any:
        dy, gates, earlier = given
        r, z, new, from_state = columns(F, gates, 4)
        total = F.add(dy, state[0])
        kept = F.mul(total, z)
        d_new = F.mul(F.sub(total, kept), F.sub(1.0, F.mul(new, new)))
        d_z = F.mul(F.mul(kept, F.sub(1.0, z)), F.sub(earlier, new))
        d_r = F.mul(F.mul(d_new, from_state), F.mul(r, F.sub(1.0, r)))
        d_state = join(F, [d_r, d_z, F.mul(d_new, r)], 1)
        return (F.add(F.matmul(d_state, weights[0]), kept),), (join(F, [d_r, d_z, d_new], 1), d_state)

    sequences = (dy, gates, all_previous(F, output, h, batch_sizes, reverse))
    return over_steps(F, step, (dh,), sequences, (w,), batch_sizes, not reverse)


def _gru_grad_infer(
    dy: TensorType, dh: TensorType, gates: TensorType, *others: TensorType, **attrs: Any
) -> tuple[TensorType, ...]:
    check_same_dtype("gru_grad", dy, dh, gates, *others)
    dx = dy.with_shape((dy.shape[0], 3 * dy.shape[1]))
    return dx, dx, dh


declare(
    Op(
        "gru_grad",
        "gru_grad(dy, dh, gates, outputs, h, w) -> (dx, the gradient of h @ w.T + b at each step, dh of the initial "
        "state): the gradient of `gru`.",
        infer=_gru_grad_infer,
        numpy=widened(_gru_grad_numpy),
        attrs=ATTRS,
        arity=(6, 6),
        results=3,
        level="composite",
        vjp=vjp_by_decomposition(_gru_grad_decompose),
        decompose=_gru_grad_decompose,
        saves=("input:*",),
        samples=(
            _within((2, 2), (1, 2), (2, 8), (2, 2), (1, 2), (6, 2), batch_sizes=(1, 1)),
            _within((3, 2), (2, 2), (3, 8), (3, 2), (2, 2), (6, 2), batch_sizes=(2, 1)),
            _within((3, 1), (2, 1), (3, 4), (3, 1), (2, 1), (3, 1), batch_sizes=(2, 1), reverse=True),
        ),
    )
)
