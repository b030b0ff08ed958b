"""The recurrent functions that `torch` itself has: parameters as a flat list, packed or padded input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir import dtypes
from ..tensor import Tensor
from . import recurrent


def _grouped(params: Sequence[Tensor], has_biases: bool, projected: bool) -> list[recurrent.Weights]:
    """The parameters of each direction of each layer."""
    step = (4 if has_biases else 2) + projected
    return [
        recurrent.Weights.of(params[start : start + step], has_biases, projected)
        for start in range(0, len(params), step)
    ]


def _layers(mode: str, input: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """Padded (hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first), or packed (batch_sizes,
    hx, params, has_biases, num_layers, dropout, train, bidirectional)."""
    packed = isinstance(rest[0], Tensor) and rest[0].dtype is dtypes.i64
    sizes, rest = (rest[0], rest[1:]) if packed else (None, rest)
    hx, params, has_biases, num_layers, dropout, train, bidirectional = rest[:7]
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    count = num_layers * (2 if bidirectional else 1)
    projected = mode == "LSTM" and len(params) == count * ((4 if has_biases else 2) + 1)
    weights = _grouped(params, has_biases, projected)
    if sizes is not None:
        output, final = recurrent.layers(
            mode, input, states, weights, tuple(sizes.tolist()), num_layers, dropout, train, bidirectional
        )
    else:
        output, final = recurrent.padded_layers(
            mode, input, states, weights, num_layers, dropout, train, bidirectional, rest[7]
        )
    return (output, *final)


def lstm(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """(input, (h, c), params, has_biases, num_layers, dropout, train, bidirectional, batch_first), or packed (data,
    batch_sizes, (h, c), params, has_biases, num_layers, dropout, train, bidirectional) -> (output, h, c)."""
    return _layers("LSTM", input, *args)


def gru(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """As `lstm`, with the state h alone -> (output, h)."""
    return _layers("GRU", input, *args)


def rnn_tanh(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """As `gru`."""
    return _layers("RNN_TANH", input, *args)


def rnn_relu(input: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """As `gru`."""
    return _layers("RNN_RELU", input, *args)


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One step: (h, c)."""
    return recurrent.cell("LSTM", input, list(hx), recurrent.Weights(w_ih, w_hh, b_ih, b_hh))


def _cell(mode: str, input: Tensor, hx: Tensor, *weights: Any) -> Tensor:
    return recurrent.cell(mode, input, [hx], recurrent.Weights(*weights))[0]


def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step: h."""
    return _cell("GRU", input, hx, w_ih, w_hh, b_ih, b_hh)


def rnn_tanh_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step: h."""
    return _cell("RNN_TANH", input, hx, w_ih, w_hh, b_ih, b_hh)


def rnn_relu_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step: h."""
    return _cell("RNN_RELU", input, hx, w_ih, w_hh, b_ih, b_hh)


__all__ = [
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
]  # fmt: skip
