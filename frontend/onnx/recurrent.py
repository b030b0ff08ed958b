"""Rules of LSTM, GRU and RNN. Layers of the usual kind run as the recurrent layers of `nn`; other activations, clipping,
peepholes and lengths run step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import vitrify as torch
import vitrify.nn.functional as F

from ..tensor import Tensor
from .table import Call, ONNXError, rule

Activation = Callable[[Tensor], Tensor]

_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Our order of the gates (input, forget, cell, output; reset, update, new) in the file's (iofc; zrh).
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


def _activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    """By the names of the specification, which have no fixed case."""
    plain: dict[str, Activation] = {
        "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "softsign": F.softsign, "softplus": F.softplus,
    }  # fmt: skip
    key = name.lower()
    a = alpha if alpha is not None else {"leakyrelu": 0.01, "hardsigmoid": 0.2}.get(key, 1.0)
    b = beta if beta is not None else {"hardsigmoid": 0.5}.get(key, 0.0)
    with_numbers: dict[str, Activation] = {
        "affine": lambda x: a * x + b,
        "leakyrelu": lambda x: F.leaky_relu(x, a),
        "thresholdedrelu": lambda x: torch.where(x >= a, x, torch.zeros_like(x)),
        "scaledtanh": lambda x: a * torch.tanh((1.0 if beta is None else b) * x),
        "hardsigmoid": lambda x: torch.clamp(a * x + b, 0, 1),
        "elu": lambda x: F.elu(x, a),
    }
    found = plain.get(key) or with_numbers.get(key)
    if found is None:
        raise ONNXError(f"activation {name!r} is not supported")
    return found


class _Layer:
    """One call's inputs, time first, by direction."""

    def __init__(self, call: Call, mode: str):
        self.mode = mode
        x, self.weight, self.recurrence = (call.tensor(i) for i in range(3))
        if x.ndim != 3:
            raise ONNXError(f"its input has 3 dims (steps, batch, features), not the shape {list(x.shape)}")
        self.batch_first = bool(call.attr("layout", 0))
        self.x = x.transpose(0, 1) if self.batch_first else x
        self.hidden = self.recurrence.shape[-1]
        self.directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[
            call.attr("direction", "forward")
        ]
        count, gates = len(self.directions), _GATES[mode]
        if self.weight.shape[0] != count or self.weight.shape[1] != gates * self.hidden:
            raise ONNXError(f"weights of shape {list(self.weight.shape)} for {count} directions")
        bias = call.optional(3)
        if bias is None:
            bias = torch.zeros([count, 2 * gates * self.hidden], dtype=x.dtype)
        self.bias = bias
        self.lengths = call.optional(4)
        states = [call.optional(5), call.optional(6)] if mode == "LSTM" else [call.optional(5)]
        shape = [count, self.x.shape[1], self.hidden]
        self.states = [
            torch.zeros(shape, dtype=x.dtype) if s is None else s.transpose(0, 1) if self.batch_first else s
            for s in states
        ]
        self.peepholes = call.optional(7) if mode == "LSTM" else None

    def result(self, y: Tensor, states: list[Tensor]) -> tuple[Tensor, ...]:
        """y[step, direction, batch, hidden] and final states[direction, batch, hidden], as the layout asks."""
        if not self.batch_first:
            return (y, *states)
        return (y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in states))

    def gates(self, tensor: Tensor, direction: int, part: int | None = None) -> Tensor:
        """One direction's weights or biases with the gates in our order."""
        rows = tensor[direction]
        if part is not None:
            width = _GATES[self.mode] * self.hidden
            rows = rows[part * width : (part + 1) * width]
        order = _ORDER[self.mode]
        if len(order) == 1:
            return rows
        return torch.cat([rows[g * self.hidden : (g + 1) * self.hidden] for g in order])


def _recurrent(call: Call, mode: str) -> tuple[Tensor, ...]:
    layer = _Layer(call, mode)
    names = call.attr("activations", _USUAL[mode] * len(layer.directions))
    usual = [n.lower() for n in names] == [n.lower() for n in _USUAL[mode] * len(layer.directions)]
    relu = mode == "RNN" and {n.lower() for n in names} == {"relu"}
    plain = call.attr("clip") is None and layer.lengths is None and layer.peepholes is None
    plain = plain and not call.attr("input_forget", 0) and not call.attr("activation_alpha")
    if mode == "GRU" and not call.attr("linear_before_reset", 0):
        plain = False
    if plain and (usual or relu):
        return _as_layer(layer, relu)
    return _step_by_step(call, layer, names)


def _as_layer(layer: _Layer, relu: bool) -> tuple[Tensor, ...]:
    parameters = []
    for d in range(len(layer.directions)):
        parameters += [layer.gates(layer.weight, d), layer.gates(layer.recurrence, d)]
        parameters += [layer.gates(layer.bias, d, 0), layer.gates(layer.bias, d, 1)]
    backward = layer.directions == (True,)
    x = torch.flip(layer.x, [0]) if backward else layer.x
    both = len(layer.directions) == 2
    if layer.mode == "LSTM":
        y, *states = torch.lstm(x, tuple(layer.states), parameters, True, 1, 0.0, False, both, False)
    else:
        function = torch.gru if layer.mode == "GRU" else torch.rnn_relu if relu else torch.rnn_tanh
        y, *states = function(x, layer.states[0], parameters, True, 1, 0.0, False, both, False)
    y = torch.flip(y, [0]) if backward else y
    steps, batch = y.shape[:2]
    y = y.reshape(steps, batch, len(layer.directions), layer.hidden).transpose(1, 2)
    return layer.result(y, list(states))


def _step_by_step(call: Call, layer: _Layer, names: list[str]) -> tuple[Tensor, ...]:
    count = len(names) // len(layer.directions)
    clip = call.attr("clip")
    alphas, betas = iter(call.attr("activation_alpha", [])), iter(call.attr("activation_beta", []))
    ends, outputs = [], []
    for d, backward in enumerate(layer.directions):
        functions = []
        for name in names[d * count : (d + 1) * count]:
            key = name.lower()
            alpha = (
                next(alphas, None) if key not in ("tanh", "sigmoid", "relu", "softsign", "softplus") else None
            )
            beta = next(betas, None) if key in ("affine", "scaledtanh", "hardsigmoid") else None
            functions.append(_clipped(_activation(name, alpha, beta), clip))
        step = partial(_STEPS[layer.mode], call, layer, d, functions)
        y, states = _direction(layer, d, backward, step)
        outputs.append(y)
        ends.append(states)
    return layer.result(torch.stack(outputs, dim=1), [torch.stack(s) for s in zip(*ends)])


def _clipped(function: Activation, clip: float | None) -> Activation:
    return function if clip is None else lambda x: function(torch.clamp(x, -clip, clip))


def _direction(
    layer: _Layer, d: int, backward: bool, step: Callable[..., Any]
) -> tuple[Tensor, list[Tensor]]:
    """One direction; a sample that has ended keeps its states and gives zeros."""
    width = _GATES[layer.mode] * layer.hidden
    projected = torch.matmul(layer.x, layer.weight[d].t()) + layer.bias[d][:width]
    length = int(layer.x.shape[0])
    states = [s[d] for s in layer.states]
    found: list[Any] = [None] * length
    for t in range(length)[::-1] if backward else range(length):
        new = step(projected[t], states)
        if layer.lengths is None:
            states = new
            found[t] = new[0]
        else:
            running = (layer.lengths > t).unsqueeze(-1)
            states = [torch.where(running, n, s) for n, s in zip(new, states)]
            found[t] = torch.where(running, new[0], torch.zeros_like(new[0]))
    return torch.stack(found), states


def _lstm_step(
    call: Call, layer: _Layer, d: int, functions: list[Activation], x: Tensor, states: list[Tensor]
) -> list[Tensor]:
    f, g, h = functions
    hidden, cell = states
    width, n = _GATES["LSTM"] * layer.hidden, layer.hidden
    gates = x + torch.matmul(hidden, layer.recurrence[d].t()) + layer.bias[d][width:]
    i, o, forget, c = (gates[:, k * n : (k + 1) * n] for k in range(4))
    peep = None if layer.peepholes is None else [layer.peepholes[d][k * n : (k + 1) * n] for k in range(3)]
    if peep is not None:
        i, forget = i + peep[0] * cell, forget + peep[2] * cell
    i = f(i)
    forget = 1 - i if call.attr("input_forget", 0) else f(forget)
    new = forget * cell + i * g(c)
    o = f(o if peep is None else o + peep[1] * new)
    return [o * h(new), new]


def _gru_step(
    call: Call, layer: _Layer, d: int, functions: list[Activation], x: Tensor, states: list[Tensor]
) -> list[Tensor]:
    f, g = functions
    hidden, n = states[0], layer.hidden
    weight, bias = layer.recurrence[d], layer.bias[d][3 * n :]
    gates = x[:, : 2 * n] + torch.matmul(hidden, weight[: 2 * n].t()) + bias[: 2 * n]
    update, reset = f(gates[:, :n]), f(gates[:, n:])
    if call.attr("linear_before_reset", 0):
        inner = reset * (torch.matmul(hidden, weight[2 * n :].t()) + bias[2 * n :])
    else:
        inner = torch.matmul(reset * hidden, weight[2 * n :].t()) + bias[2 * n :]
    return [(1 - update) * g(x[:, 2 * n :] + inner) + update * hidden]


def _rnn_step(
    call: Call, layer: _Layer, d: int, functions: list[Activation], x: Tensor, states: list[Tensor]
) -> list[Tensor]:
    return [
        functions[0](x + torch.matmul(states[0], layer.recurrence[d].t()) + layer.bias[d][layer.hidden :])
    ]


_STEPS: dict[str, Callable[..., list[Tensor]]] = {"LSTM": _lstm_step, "GRU": _gru_step, "RNN": _rnn_step}

for _mode in _GATES:
    rule(_mode)(lambda call, mode=_mode: _recurrent(call, mode))  # type: ignore[misc]
