"""Rules of control flow, sequences and optionals.

A condition on a tensor is followed as Python's own `if` and `while` are in compiled functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import vitrify as torch

from ..tensor import Tensor
from .table import Call, ONNXError, Value, as_tensor, rule


def _truth(value: Value) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.reshape(-1)[0])
    return bool(value.reshape(()) if value.ndim else value)


def _run(call: Call, name: str, values: list[Value]) -> list[Value]:
    if call.run_graph is None:
        raise ONNXError("a graph cannot run here")
    return call.run_graph(call.required(name), values)


@rule("If", folds=False)
def if_(call: Call) -> tuple[Value, ...]:
    return tuple(_run(call, "then_branch" if _truth(call.value(0)) else "else_branch", []))


@rule("Loop", static=(0,), folds=False)
def loop(call: Call) -> tuple[Value, ...]:
    """The body gets the step's number, the condition and the states, and gives the next condition, the states and one
    element of each stacked result."""
    body = call.required("body")
    limit = int(call.number(0)) if call.has(0) else None
    going = call.inputs[1] if len(call.inputs) > 1 else None
    states = list(call.inputs[2:])
    stacked: list[list[Value]] = [[] for _ in range(len(body.outputs) - 1 - len(states))]
    step = 0
    while (limit is None or step < limit) and (going is None or _truth(going)):
        condition = np.array(True) if going is None else going
        found = _run(call, "body", [np.array(step, dtype=np.int64), condition, *states])
        if call.has(1) or limit is None:
            going = found[0]
        states = found[1 : 1 + len(states)]
        for results, value in zip(stacked, found[1 + len(states) :]):
            results.append(value)
        step += 1
    return (*states, *(_stacked(results, 0, False) for results in stacked))


def _stacked(results: list[Value], axis: int, backward: bool) -> Tensor:
    if not results:
        return torch.empty(0)
    tensors = [as_tensor(v) for v in results]
    return torch.stack(tensors[::-1] if backward else tensors, dim=axis)


@rule("Scan", folds=False)
def scan(call: Call) -> tuple[Value, ...]:
    """States through the steps of sequences. Operator set 8 had a batch dim before the sequences'."""
    body, count = call.required("body"), call.required("num_scan_inputs")
    inputs = list(call.inputs)
    if call.version < 9:
        return _batched_scan(call, inputs[1:], count)
    states, sequences = inputs[: len(inputs) - count], [as_tensor(v) for v in inputs[len(inputs) - count :]]
    outputs = len(body.outputs) - len(states)
    axes = call.attr("scan_input_axes", [0] * count)
    backward = call.attr("scan_input_directions", [0] * count)
    out_axes = call.attr("scan_output_axes", [0] * outputs)
    out_backward = call.attr("scan_output_directions", [0] * outputs)
    stacked: list[list[Value]] = [[] for _ in range(outputs)]
    length = int(sequences[0].shape[axes[0]])
    for step in range(length):
        elements = [
            s.select(axis, length - 1 - step if back else step)
            for s, axis, back in zip(sequences, axes, backward)
        ]
        found = _run(call, "body", [*states, *elements])
        states = found[: len(states)]
        for results, value in zip(stacked, found[len(states) :]):
            results.append(value)
    ends = (_stacked(r, axis, bool(back)) for r, axis, back in zip(stacked, out_axes, out_backward))
    return (*states, *ends)


def _batched_scan(call: Call, inputs: list[Value], count: int) -> tuple[Value, ...]:
    samples = []
    for sample in range(int(as_tensor(inputs[0]).shape[0])):
        own = [as_tensor(v)[sample] for v in inputs]
        attrs = {"body": call.attrs["body"], "num_scan_inputs": count}
        samples.append(scan(Call(attrs, own, 9, call.outputs, call.run_graph)))
    return tuple(torch.stack([as_tensor(v) for v in values]) for values in zip(*samples))


# Sequences and optionals


@rule("SequenceMap", folds=False)
def sequence_map(call: Call) -> tuple[Value, ...]:
    """The body for each place of the first sequence; of the other inputs sequences go along, tensors are the same for
    all."""
    found: list[list[Value]] = [[] for _ in range(call.outputs)]
    for place in range(len(call.value(0))):
        values = [v[place] if isinstance(v, list) else v for v in call.inputs]
        for results, value in zip(found, _run(call, "body", values)):
            results.append(value)
    return tuple(found)


@rule("SequenceConstruct", folds=False)
def sequence_construct(call: Call) -> list[Value]:
    return list(call.inputs)


@rule("SequenceEmpty", folds=False)
def sequence_empty(call: Call) -> list[Value]:
    return []


@rule("SequenceLength", folds=False)
def sequence_length(call: Call) -> Value:
    return np.array(len(call.value(0)), dtype=np.int64)


@rule("SequenceAt", folds=False)
def sequence_at(call: Call) -> Value:
    return call.value(0)[int(call.number(1))]


@rule("SequenceInsert", folds=False)
def sequence_insert(call: Call) -> list[Value]:
    found = list(call.value(0))
    found.insert(int(call.number(2)) if call.has(2) else len(found), call.value(1))
    return found


@rule("SequenceErase", folds=False)
def sequence_erase(call: Call) -> list[Value]:
    found = list(call.value(0))
    del found[int(call.number(1, -1))]
    return found


@rule("ConcatFromSequence", folds=False)
def concat_from_sequence(call: Call) -> Tensor:
    tensors = [as_tensor(v) for v in call.value(0)]
    return (torch.stack if call.attr("new_axis", 0) else torch.cat)(tensors, dim=call.required("axis"))


@rule("SplitToSequence", static=(1,), folds=False)
def split_to_sequence(call: Call) -> list[Any]:
    x, axis = call.tensor(0), call.attr("axis", 0)
    if not call.has(1):
        parts = torch.split(x, 1, dim=axis)
        return [p if call.attr("keepdims", 1) else p.squeeze(axis) for p in parts]
    sizes = call.array(1)
    return list(torch.split(x, int(sizes) if sizes.ndim == 0 else sizes.tolist(), dim=axis))


@rule("Optional", folds=False)
def optional(call: Call) -> Value:
    return call.inputs[0] if call.inputs else None


@rule("OptionalHasElement", folds=False)
def optional_has_element(call: Call) -> Value:
    return np.array(call.has(0))


@rule("OptionalGetElement", folds=False)
def optional_get_element(call: Call) -> Value:
    return call.value(0)
