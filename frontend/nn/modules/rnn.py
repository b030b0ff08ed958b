"""Recurrent layers and their cells."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from ...creation import empty, zeros
from ...ir.dtypes import DType
from ...tensor import Tensor
from .. import init
from ..parameter import Parameter
from ..recurrent import GATES, Weights, cell, layers, padded_layers
from ..utils.rnn import PackedSequence
from .module import Module


def _typed(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")


class RNNBase(Module):
    """What RNN, LSTM and GRU share: parameters, initial states, the ways in which an input may be laid out."""

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=2,
            )
        _typed("bias", bias, bool)
        _typed("batch_first", batch_first, bool)
        _typed("input_size", input_size, int)
        if input_size <= 0:
            raise ValueError("input_size must be greater than zero")
        _typed("hidden_size", hidden_size, int)
        if hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        gate_size = GATES[mode] * hidden_size
        directions = 2 if bidirectional else 1
        names = []
        for number in range(num_layers):
            width = input_size if number == 0 else self._output_size * directions
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (gate_size, width),
                "weight_hh": (gate_size, self._output_size),
            }
            if bias:
                shapes |= {"bias_ih": (gate_size,), "bias_hh": (gate_size,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for suffix in ("", "_reverse")[:directions]:
                names.append([f"{name}_l{number}{suffix}" for name in shapes])
                for name, shape in zip(names[-1], shapes.values()):
                    setattr(self, name, Parameter(empty(shape, device=device, dtype=dtype)))
        self._all_weights = names
        self.reset_parameters()

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters, a list for each direction of each layer."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [tensor for tensors in self.all_weights for tensor in tensors]

    def reset_parameters(self) -> None:
        """All parameters uniform within 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do: a GPU library's wish for parameters in one piece."""

    def _weights(self) -> list[Weights]:
        return [Weights.of(tensors, self.bias, bool(self.proj_size)) for tensors in self.all_weights]

    # Checks

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """RuntimeError, or ValueError for the dtype, unless the layer can take the input."""
        dtype = getattr(self, self._all_weights[0][0]).dtype
        if input.dtype is not dtype:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). Convert input: "
                f"input.to({dtype}), or convert model: model.to({input.dtype})"
            )
        expected = 2 if batch_sizes is not None else 3
        if input.ndim != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.ndim}")
        if self.input_size != input.shape[-1]:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )

    def _state_shapes(self, batch: Any) -> list[tuple[Any, ...]]:
        """Of the initial states: h, for an LSTM also c."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        shapes = [(count, batch, self._output_size)]
        return shapes + [(count, batch, self.hidden_size)] if self.mode == "LSTM" else shapes

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[Any, ...]:
        """The shape of h_0: [layers * directions, batch, size]."""
        return self._state_shapes(self._batch(input, batch_sizes))[0]

    def check_hidden_size(
        self, hx: Tensor, expected_hidden_size: tuple[Any, ...], msg: str = "Expected hidden size {}, got {}"
    ) -> None:
        """RuntimeError with `msg` for a state of another shape."""
        if tuple(hx.shape) != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.shape)))

    def _batch(self, input: Tensor, batch_sizes: Tensor | None) -> Any:
        if batch_sizes is not None:
            return int(batch_sizes[0])
        return input.shape[0 if self.batch_first else 1]

    def _check_states(self, states: list[Tensor], batch: Any) -> None:
        shapes = self._state_shapes(batch)
        for number, (state, shape) in enumerate(zip(states, shapes)):
            label = f"hidden[{number}]" if len(shapes) > 1 else "hidden"
            self.check_hidden_size(state, shape, "Expected " + label + " size {}, got {}")

    def _check_ranks(self, states: list[Tensor], batched: bool) -> None:
        rank, kind = (3, "batched 3-D") if batched else (2, "unbatched 2-D")
        if all(s.ndim == rank for s in states):
            return
        if len(states) == 1:
            raise RuntimeError(
                f"For {kind} input, hx should also be {rank}-D but got {states[0].ndim}-D tensor"
            )
        have = ", ".join(f"{s.ndim}-D" for s in states)
        raise RuntimeError(f"For {kind} input, hx and cx should also be {rank}-D but got ({have}) tensors")

    # Forward

    def _run(self, input: Any, states: list[Tensor] | None) -> tuple[Any, tuple[Tensor, ...]]:
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states)
        if input.ndim not in (2, 3):
            tensor = " tensor" if self.mode.startswith("RNN") else ""
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D{tensor} instead"
            )
        batched = input.ndim == 3
        batch_dim = 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(batch_dim)
        if states is not None:
            self._check_ranks(states, batched)
            if not batched:
                states = [s.unsqueeze(1) for s in states]
        self.check_input(x, None)
        states = self._initial(x, self._batch(x, None), states)
        output, final = padded_layers(
            self.mode,
            x,
            states,
            self._weights(),
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            self.batch_first,
        )
        if batched:
            return output, final
        return output.squeeze(batch_dim), tuple(s.squeeze(1) for s in final)

    def _run_packed(
        self, input: PackedSequence, states: list[Tensor] | None
    ) -> tuple[PackedSequence, tuple[Tensor, ...]]:
        rows, batch_sizes, order, back = input
        if states is not None and order is not None:
            states = [s.index_select(1, order) for s in states]
        self.check_input(rows, batch_sizes)
        counts = input.counts()
        states = self._initial(rows, counts[0], states)
        output, final = layers(
            self.mode,
            rows,
            states,
            self._weights(),
            counts,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
        )
        if back is not None:
            final = tuple(s.index_select(1, back) for s in final)
        return input.with_data(output), final

    def _initial(self, x: Tensor, batch: Any, states: list[Tensor] | None) -> list[Tensor]:
        if states is None:
            return [zeros(shape, dtype=x.dtype) for shape in self._state_shapes(batch)]
        self._check_states(states, batch)
        return states

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        parts += [f"{n}={getattr(self, n)}" for n, usual in defaults.items() if getattr(self, n) != usual]
        return ", ".join(parts)


class _OneState(RNNBase):
    """Layers whose state is h alone."""

    def __init__(self, mode: str, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__(mode, *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        output, (final,) = self._run(input, None if hx is None else [hx])
        return output, final


class RNN(_OneState):
    """Elman's network: h[t] = tanh(W_ih x[t] + b_ih + W_hh h[t - 1] + b_hh), or relu.

    input[T, N, in] ([N, T, in] with `batch_first`; [T, in] unbatched; a PackedSequence) -> (output[T, N, D * h],
    final h[layers * D, N, h]), D = 2 if bidirectional.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > 3:
            nonlinearity, args = args[3], args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_TANH" if nonlinearity == "tanh" else "RNN_RELU", *args, **kwargs)
        self.nonlinearity = nonlinearity


class GRU(_OneState):
    """Gated recurrent units, the reset gate applied after the matmul; shapes as in `RNN`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)


class LSTM(RNNBase):
    """Long short-term memory; shapes as in `RNN`, the states being (h, c). With `proj_size`, h is W_hr times what it
    else would be (https://arxiv.org/abs/1402.1128)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[Any, ...]:
        """The shape of c_0: [layers * directions, batch, hidden size]."""
        return self._state_shapes(self._batch(input, batch_sizes))[1]

    def forward(
        self, input: Any, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        output, (h, c) = self._run(input, None if hx is None else list(hx))
        return output, (h, c)


# Cells


class RNNCellBase(Module):
    """What the cells share: a step's parameters, and input with or without a batch."""

    mode: str
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(
                name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All parameters uniform within 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _step(self, input: Tensor, states: list[Tensor] | None, count: int = 1) -> tuple[Tensor, ...]:
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        for number, state in enumerate(states or ()):
            if state.ndim not in (1, 2):
                label = f"hx[{number}]" if count > 1 else "hidden"
                raise ValueError(f"{name}: Expected {label} to be 1D or 2D, got {state.ndim}D instead")
        batched = input.ndim == 2
        x = input if batched else input.unsqueeze(0)
        if states is None:
            states = [zeros((x.shape[0], self.hidden_size), dtype=x.dtype)] * count
        elif not batched:
            states = [s.unsqueeze(0) for s in states]
        weights = Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        found = cell(self.mode, x, states, weights)
        return found if batched else tuple(s.squeeze(0) for s in found)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        return text if nonlinearity == "tanh" else f"{text}, nonlinearity={nonlinearity}"


class RNNCell(RNNCellBase):
    """One step of `RNN`: input[N, in], hx[N, h] -> h[N, h]; both may lack the batch."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    @property
    def mode(self) -> str:  # type: ignore[override]
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return "RNN_TANH" if self.nonlinearity == "tanh" else "RNN_RELU"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(input, None if hx is None else [hx])[0]


class LSTMCell(RNNCellBase):
    """One step of `LSTM`: input[N, in], (h, c)[N, h] -> (h, c); all may lack the batch."""

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        h, c = self._step(input, None if hx is None else list(hx), 2)
        return h, c


class GRUCell(RNNCellBase):
    """One step of `GRU`: input[N, in], hx[N, h] -> h[N, h]; both may lack the batch."""

    mode = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(input, None if hx is None else [hx])[0]
