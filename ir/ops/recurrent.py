"""Recurrent layers: one direction of one layer, over all its time steps.

The input arrives projected (W_ih x + b of all steps is one matmul before the op), so that a step is one matmul with
the recurrent weights and the gates. Sequences lie packed: the rows of step 0, then those of step 1, ...;
`batch_sizes[t]` rows take part in step t and the sizes never grow, so a padded batch of N sequences is
`batch_sizes = (N,) * T`. A sequence that is over keeps its state; in reverse, one that has not begun keeps its
initial state.

An op gives the outputs of all steps, the final states, and what its gradient reads again (gates, cells). The gradients
are ops too (`recurrent_gradients.py`).

S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory" (1997); H. Sak et al., https://arxiv.org/abs/1402.1128 (the
projection); K. Cho et al., https://arxiv.org/abs/1406.1078 (GRU, here with the reset gate after the matmul).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..dims import product
from ..op import Op, declare
from ..types import TensorType
from .by_decomposition import vjp_by_decomposition
from .common import FLOAT, Array, Shape, check_dtype, check_same_dtype, uniform
from .contraction import transposed
from .recurrent_gradients import ATTRS, RNN_ATTRS, gru_vjp, lstm_vjp, rnn_vjp
from .recurrent_steps import Recurrent, columns, join, over_steps, sigmoid_into, step_rows, widened


def _check(
    name: str, gates: int, sizes: Shape, x: TensorType, states: list[tuple[TensorType, Any]], w: TensorType
) -> None:
    check_dtype(name, x, FLOAT)
    check_same_dtype(name, x, w, *(state for state, _ in states))
    if not sizes:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    total: Any = sizes[0]
    for size in sizes[1:]:
        total = total + size
    for state, width in states:
        if state.shape != (sizes[0], width):
            raise RuntimeError(f"{name}: expected an initial state {[sizes[0], width]}, got {state}")
    want = (total, gates * states[-1][1])
    if x.shape != want or w.shape != (want[1], states[0][1]):
        raise RuntimeError(
            f"{name}: expected an input {list(want)} and weights {[want[1], states[0][1]]}, got {x} and {w}"
        )


def _flops(x: TensorType, h: TensorType, *others: TensorType, **attrs: Any) -> Any:
    return product((2, *x.shape, h.shape[1]))


def _vjp(
    rule: Callable[..., list[Any]], count: int, decompose: Callable[..., Any]
) -> Callable[..., list[Any]]:
    """The rule for the first `count` results. Into the others a gradient flows only from the gradient of a gradient."""
    kept_ones = vjp_by_decomposition(decompose)

    def complete(F: Any, ctx: Any, *cotangents: Any) -> list[Any]:
        given, kept = cotangents[:count], cotangents[count:]
        found = rule(F, ctx, *given)
        if all(g is None for g in kept):
            return found
        more = kept_ones(F, ctx, *(None,) * count, *kept)
        return [b if a is None else a if b is None else F.add(a, b) for a, b in zip(found, more)]

    return complete


# Elman's network: h' = tanh(x + W h), or relu


def _rnn_infer(
    x: TensorType, h: TensorType, w: TensorType, activation: str, batch_sizes: Shape, reverse: bool
) -> tuple[TensorType, ...]:
    if activation not in ("tanh", "relu"):
        raise RuntimeError(f"rnn: unknown activation {activation!r}, expected 'tanh' or 'relu'")
    _check("rnn", 1, batch_sizes, x, [(h, w.shape[0])], w)
    return x, h


def _rnn_numpy(
    x: Array, h: Array, w: Array, activation: str, batch_sizes: Any, reverse: bool
) -> tuple[Array, ...]:
    h, output, recurrent = h.copy(), np.empty_like(x), Recurrent(w, batch_sizes)
    for _, part, n in step_rows(batch_sizes, reverse):
        y = np.add(x[part], recurrent(h[:n]), out=output[part])
        if activation == "tanh":
            np.tanh(y, out=y)
        else:
            np.maximum(y, 0, out=y)
        h[:n] = y
    return output, h


def _rnn_decompose(
    F: Any, x: Any, h: Any, w: Any, activation: str, batch_sizes: Shape, reverse: bool
) -> tuple[Any, ...]:
    def step(F: Any, state: Any, given: Any, weights: Any) -> Any:
        total = F.add(given[0], F.matmul(state[0], transposed(F, weights[0])))
        y = F.tanh(total) if activation == "tanh" else F.relu(total)
        return (y,), (y,)

    return over_steps(F, step, (h,), (x,), (w,), batch_sizes, reverse)


declare(
    Op(
        "rnn",
        "rnn(x, h, w) -> (outputs, final state): h = tanh(x[t] + h @ w.T), or relu, over the steps of packed "
        "sequences. https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html",
        infer=_rnn_infer,
        numpy=widened(_rnn_numpy),
        attrs=RNN_ATTRS,
        arity=(3, 3),
        results=2,
        level="composite",
        vjp=rnn_vjp,
        decompose=_rnn_decompose,
        saves=("input:1", "input:2", "output:0"),
        grad_name="RnnTanhBackward0",
        flops=_flops,
        samples=(
            uniform((3, 2), (1, 2), (2, 2), batch_sizes=(1, 1, 1)),
            uniform((4, 2), (2, 2), (2, 2), batch_sizes=(2, 1, 1), activation="relu"),
            uniform((4, 2), (2, 2), (2, 2), batch_sizes=(2, 1, 1), reverse=True),
        ),
    )
)


# Long short-term memory


def _lstm_infer(
    x: TensorType, h: TensorType, c: TensorType, w: TensorType, *proj: TensorType, **attrs: Any
) -> tuple[TensorType, ...]:
    sizes = attrs["batch_sizes"]
    hidden = c.shape[1] if c.rank == 2 else 0
    _check("lstm", 4, sizes, x, [(h, w.shape[1]), (c, hidden)], w)
    if proj and proj[0].shape != (h.shape[1], hidden):
        raise RuntimeError(f"lstm: expected a projection {[h.shape[1], hidden]}, got {proj[0]}")
    if not proj and h.shape != c.shape:
        raise RuntimeError(f"lstm: expected states of one shape, got {h} and {c}")
    count = x.shape[0]
    return x.with_shape((count, h.shape[1])), h, c, x, x.with_shape((count, hidden))


def _lstm_numpy(
    x: Array, h: Array, c: Array, w: Array, *proj: Array, batch_sizes: Any, reverse: bool
) -> tuple[Array, ...]:
    size = c.shape[1]
    h, c = h.copy(), c.copy()
    output = np.empty((len(x), h.shape[1]), x.dtype)
    gates, cells = np.empty_like(x), np.empty((len(x), size), x.dtype)
    recurrent, place = Recurrent(w, batch_sizes), np.empty_like(c)
    for _, part, n in step_rows(batch_sizes, reverse):
        g = np.add(x[part], recurrent(h[:n]), out=gates[part])
        candidate = np.tanh(g[:, 2 * size : 3 * size], out=place[:n])
        sigmoid_into(g)  # one pass over all gates, the candidate's put back after it
        g[:, 2 * size : 3 * size] = candidate
        cell = np.multiply(g[:, size : 2 * size], c[:n], out=cells[part])
        candidate *= g[:, :size]
        cell += candidate
        c[:n] = cell
        np.tanh(cell, out=candidate)
        candidate *= g[:, 3 * size :]
        y = np.matmul(candidate, proj[0].T) if proj else candidate
        output[part] = y
        h[:n] = y
    return output, h, c, gates, cells


def _lstm_decompose(
    F: Any, x: Any, h: Any, c: Any, w: Any, *proj: Any, batch_sizes: Shape, reverse: bool
) -> tuple[Any, ...]:
    def step(F: Any, state: Any, given: Any, weights: Any) -> Any:
        # Each gate added on its own: all of the step then has one shape, and fuses.
        parts = (columns(F, y, 4) for y in (given[0], F.matmul(state[0], transposed(F, weights[0]))))
        i, f, g, o = (F.add(a, b) for a, b in zip(*parts))
        i, f, g, o = F.sigmoid(i), F.sigmoid(f), F.tanh(g), F.sigmoid(o)
        cell = F.add(F.mul(f, state[1]), F.mul(i, g))
        y = F.mul(o, F.tanh(cell))
        if proj:
            y = F.matmul(y, transposed(F, weights[1]))
        return (y, cell), (y, join(F, [i, f, g, o], 1), cell)

    output, gates, cells, *final = over_steps(F, step, (h, c), (x,), (w, *proj), batch_sizes, reverse)
    return output, *final, gates, cells


declare(
    Op(
        "lstm",
        "lstm(x, h, c, w[, w_hr]) -> (outputs, final h, final c, gates, cells): i, f, g, o = x[t] + h @ w.T; c = "
        "sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(c), times w_hr.T if given, over the steps of packed "
        "sequences. https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html",
        infer=_lstm_infer,
        numpy=widened(_lstm_numpy),
        attrs=ATTRS,
        arity=(4, 5),
        results=5,
        level="composite",
        vjp=_vjp(lstm_vjp, 3, _lstm_decompose),
        decompose=_lstm_decompose,
        saves=("input:*", "output:0", "output:3", "output:4"),
        grad_name="LstmBackward0",
        flops=_flops,
        samples=(
            uniform((2, 8), (1, 2), (1, 2), (8, 2), batch_sizes=(1, 1)),
            uniform((3, 8), (2, 1), (2, 2), (8, 1), (1, 2), batch_sizes=(2, 1)),
            uniform((3, 4), (2, 1), (2, 1), (4, 1), batch_sizes=(2, 1), reverse=True),
        ),
    )
)


# Gated recurrent units


def _gru_infer(
    x: TensorType, h: TensorType, w: TensorType, *bias: TensorType, **attrs: Any
) -> tuple[TensorType, ...]:
    hidden = w.shape[1]
    _check("gru", 3, attrs["batch_sizes"], x, [(h, hidden)], w)
    if bias and bias[0] != w.with_shape(w.shape[:1]):
        raise RuntimeError(f"gru: expected a bias of {w.shape[0]} elements, got {bias[0]}")
    return x.with_shape((x.shape[0], hidden)), h, x.with_shape((x.shape[0], 4 * hidden))


def _gru_numpy(
    x: Array, h: Array, w: Array, *bias: Array, batch_sizes: Any, reverse: bool
) -> tuple[Array, ...]:
    size = h.shape[1]
    h = h.copy()
    output, gates = np.empty((len(x), size), x.dtype), np.empty((len(x), 4 * size), x.dtype)
    recurrent = Recurrent(w, batch_sizes)
    for _, part, n in step_rows(batch_sizes, reverse):
        from_state = recurrent(h[:n])
        if bias:
            from_state += bias[0]
        g, from_input = gates[part], x[part]
        both = np.add(from_input[:, : 2 * size], from_state[:, : 2 * size], out=g[:, : 2 * size])
        sigmoid_into(both)
        g[:, 3 * size :] = from_state[:, 2 * size :]
        new = np.multiply(both[:, :size], g[:, 3 * size :], out=g[:, 2 * size : 3 * size])
        new += from_input[:, 2 * size :]
        np.tanh(new, out=new)
        y = np.subtract(h[:n], new, out=output[part])
        y *= both[:, size:]
        y += new
        h[:n] = y
    return output, h, gates


def _gru_decompose(
    F: Any, x: Any, h: Any, w: Any, *bias: Any, batch_sizes: Shape, reverse: bool
) -> tuple[Any, ...]:
    def step(F: Any, state: Any, given: Any, weights: Any) -> Any:
        from_state = F.matmul(state[0], transposed(F, weights[0]))
        if bias:
            from_state = F.add(from_state, weights[1])
        xr, xz, xn = columns(F, given[0], 3)
        hr, hz, hn = columns(F, from_state, 3)
        r, z = F.sigmoid(F.add(xr, hr)), F.sigmoid(F.add(xz, hz))
        new = F.tanh(F.add(xn, F.mul(r, hn)))
        y = F.add(new, F.mul(z, F.sub(state[0], new)))
        return (y,), (y, join(F, [r, z, new, hn], 1))

    output, gates, final = over_steps(F, step, (h,), (x,), (w, *bias), batch_sizes, reverse)
    return output, final, gates


declare(
    Op(
        "gru",
        "gru(x, h, w[, b]) -> (outputs, final state, gates): with x[t] and h @ w.T + b in thirds, r and z the sigmoids "
        "of the sums of the first two, n = tanh(x_n + r h_n), h = (1 - z) n + z h, over the steps of packed sequences. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html",
        infer=_gru_infer,
        numpy=widened(_gru_numpy),
        attrs=ATTRS,
        arity=(3, 4),
        results=3,
        level="composite",
        vjp=_vjp(gru_vjp, 2, _gru_decompose),
        decompose=_gru_decompose,
        saves=("input:*", "output:0", "output:2"),
        grad_name="GruBackward0",
        flops=_flops,
        samples=(
            uniform((2, 6), (1, 2), (6, 2), (6,), batch_sizes=(1, 1)),
            uniform((3, 6), (2, 2), (6, 2), batch_sizes=(2, 1)),
            uniform((3, 3), (2, 1), (3, 1), (3,), batch_sizes=(2, 1), reverse=True),
        ),
    )
)
