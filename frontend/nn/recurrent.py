"""Recurrent layers as functions: `rnn_tanh`, `rnn_relu`, `lstm`, `gru` and their cells.

The input of all time steps is projected by one matmul; the op of the layer (`ir/ops/recurrent.py`) then goes through the
steps. Sequences lie packed, a padded batch being `batch_sizes = (N,) * T`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..autocast import lower_precision, uncast
from ..dispatch import apply, op_named
from ..functional_shape import cat, stack
from ..tensor import Tensor
from .dropout import dropout as drop
from .linear import linear

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}
_RNN, _LSTM, _GRU = map(op_named, ("rnn", "lstm", "gru"))
_ACTIVATIONS = {"RNN_TANH": ("tanh", "RnnTanhBackward0"), "RNN_RELU": ("relu", "RnnReluBackward0")}


class Weights(NamedTuple):
    """What one direction of one layer has: w_ih[gates * h, in], w_hh[gates * h, out], b_ih and b_hh [gates * h],
    w_hr[out, h] of a projection."""

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None = None
    hidden_bias: Tensor | None = None
    projection: Tensor | None = None

    @classmethod
    def of(cls, tensors: Sequence[Tensor], biased: bool, projected: bool) -> Weights:
        """From the tensors in their order, those left out that the layer does not have."""
        biases = tensors[2:4] if biased else (None, None)
        return cls(tensors[0], tensors[1], biases[0], biases[1], tensors[-1] if projected else None)


def layer(
    mode: str,
    rows: Tensor,
    state: Sequence[Tensor],
    weights: Weights,
    batch_sizes: tuple[Any, ...],
    reverse: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One direction of one layer: packed rows[sum of sizes, in] and initial states [N, h] give the packed outputs and
    the final states."""
    attrs: dict[str, Any] = {"batch_sizes": batch_sizes, "reverse": reverse}
    if mode == "GRU":
        projected = linear(rows, weights.input, weights.input_bias)
        bias = () if weights.hidden_bias is None else (weights.hidden_bias,)
        output, final, _ = apply(_GRU, (projected, state[0], weights.hidden, *bias), attrs)
        return output, (final,)
    # Both biases are added before the gates, so the sum of them goes into the one matmul.
    biases = [b for b in (weights.input_bias, weights.hidden_bias) if b is not None]
    projected = linear(rows, weights.input, biases[0] + biases[1] if len(biases) == 2 else None)
    if mode == "LSTM":
        projection = () if weights.projection is None else (weights.projection,)
        output, h, c, *_ = apply(_LSTM, (projected, *state, weights.hidden, *projection), attrs)
        return output, (h, c)
    attrs["activation"], grad_name = _ACTIVATIONS[mode]
    output, final = apply(_RNN, (projected, state[0], weights.hidden), attrs, grad_name)
    return output, (final,)


def layers(mode: str, *arguments: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`_layers`; under autocast LSTM and RNN compute in the lower precision, GRU as it is given."""
    function = _layers_as_given if mode == "GRU" else _layers_lower
    return function(mode, *arguments)


def _layers(
    mode: str,
    rows: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Weights],
    batch_sizes: tuple[Any, ...],
    num_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All layers over packed rows; `states` (h, and c of an LSTM) are [layers * directions, N, size], the results' too.

    Between layers, elements are dropped with probability `dropout` in training."""
    directions = 2 if bidirectional else 1
    finals: list[tuple[Tensor, ...]] = []
    for number in range(num_layers):
        outputs = []
        for direction in range(directions):
            at = number * directions + direction
            output, final = layer(
                mode, rows, [s[at] for s in states], weights[at], batch_sizes, reverse=direction == 1
            )
            outputs.append(output)
            finals.append(final)
        rows = outputs[0] if directions == 1 else cat(outputs, 1)
        if dropout and training and number < num_layers - 1:
            rows = drop(rows, dropout, training)
    return rows, tuple(stack(parts) for parts in zip(*finals))


def padded_layers(
    mode: str,
    input: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Weights],
    num_layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`layers` of a padded batch, input[T, N, in] or with `batch_first` [N, T, in]; the output is laid out alike."""
    x = input.transpose(0, 1) if batch_first else input
    length, batch, width = x.shape
    if int(length) == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    output, final = layers(
        mode,
        x.reshape(length * batch, width),
        states,
        weights,
        (batch,) * int(length),
        num_layers,
        dropout,
        training,
        bidirectional,
    )
    output = output.reshape(length, batch, output.shape[1])
    return output.transpose(0, 1) if batch_first else output, final


_layers_as_given, _layers_lower = uncast(_layers), lower_precision(_layers)


# Cells: one step


def _check_cell(input: Tensor, hidden: Sequence[Tensor], weights: Weights) -> None:
    """Sizes that do not fit, in PyTorch's words."""
    if input.shape[1] != weights.input.shape[1]:
        raise RuntimeError(
            f"input has inconsistent input_size: got {input.shape[1]} expected {weights.input.shape[1]}"
        )
    for number, state in enumerate(hidden):
        if state.ndim == 2 and state.shape[1] != weights.hidden.shape[1]:
            raise RuntimeError(
                f"hidden{number} has inconsistent hidden_size: got {state.shape[1]}, expected "
                f"{weights.hidden.shape[1]}"
            )
        if state.shape[0] != input.shape[0]:
            raise RuntimeError(
                f"Input batch size {input.shape[0]} doesn't match hidden{number} batch size {state.shape[0]}"
            )


@uncast
def cell(mode: str, input: Tensor, state: Sequence[Tensor], weights: Weights) -> tuple[Tensor, ...]:
    """The states after one step: input[N, in], states [N, h]."""
    _check_cell(input, state, weights)
    return layer(mode, input, state, weights, (input.shape[0],))[1]
