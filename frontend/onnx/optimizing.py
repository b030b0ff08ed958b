"""ONNX graphs for inference: constants computed ahead, batch norms folded, weights stored short.

What `optimize_for_inference` does to layers it does here to nodes: a batch norm goes into the convolution or
`Gemm` whose result nothing else reads, and a short weight is widened by a node of its own where it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import vitrify.nn.functional as F

from ..ir.dtypes import bf16, f32, i32
from ..quantized_layers import ZERO, convolved, fits_words, rounded_rows
from ..tensor import Tensor
from .convolutions import Window
from .interpreter import fold, names_inside
from .reading import Array, GraphPlan, NodePlan
from .table import RULES, Call, Rule

_FOLDED_INTO = ("Conv", "ConvTranspose", "Gemm")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FLOAT = 1  # TensorProto.DataType
_STEPS = 127
_SMALLEST = 64  # elements of a weight that is worth being short


@dataclass
class Optimizing:
    """The constants of a graph and of all inside it, and what has been done: batch norms by the names of their nodes and
    the nodes that they went into, weights by name and how they are stored, weights that stay as they were and why."""

    constants: dict[str, Array]
    folded: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def optimized(plan: GraphPlan, precision: str, dynamic: bool = False) -> tuple[GraphPlan, Optimizing]:
    """The graph (its constants are in it) with the same results, or with `bf16` or `int8` weights nearly the same;
    `dynamic` rounds the rows that `MatMul` and `Gemm` multiply with int8 weights."""
    plan, known = fold(_decided(plan, plan.constants), floats=True)
    constants = {**plan.constants, **{n: v for n, v in known.items() if isinstance(v, np.ndarray)}}
    done = Optimizing(constants)
    plan = _without_batch_norms(plan, done)
    if precision != "fp32":
        plan = _shortened(plan, precision, dynamic, done)
    plan = replace(plan, constants={n: np.require(a, requirements="C") for n, a in done.constants.items()})
    return plan, done


def _inside(node: NodePlan, change: Any) -> NodePlan:
    """The node with its graphs changed."""
    graphs = {key: change(value) for key, value in node.attrs.items() if isinstance(value, GraphPlan)}
    return replace(node, attrs={**node.attrs, **graphs}) if graphs else node


def _reads(plan: GraphPlan) -> Counter[str]:
    found = Counter(name for node in plan.nodes for name in node.inputs)
    found.update(plan.outputs)
    found.update(names_inside(plan))
    return found


def _decided(plan: GraphPlan, constants: Mapping[str, Array]) -> GraphPlan:
    """The graph in which an `If` whose way is known is that way's nodes."""
    nodes: list[NodePlan] = []
    for whole in plan.nodes:
        node = _inside(whole, lambda g: _decided(g, constants))
        condition = constants.get(node.inputs[0]) if node.op_type == "If" and not node.domain else None
        if condition is None:
            nodes.append(node)
            continue
        way = node.attrs["then_branch" if condition.all() else "else_branch"]
        nodes += way.nodes
        nodes += [
            NodePlan(node.label, "Identity", "", node.version, (inner,), (outer,), {}, RULES["", "Identity"])
            for inner, outer in zip(way.outputs, node.outputs)
            if outer
        ]
    return replace(plan, nodes=tuple(nodes))


# -- batch norms ------------------------------------------------------------------------------------------------------


def _without_batch_norms(plan: GraphPlan, done: Optimizing) -> GraphPlan:
    plan = replace(
        plan, nodes=tuple(_inside(node, lambda g: _without_batch_norms(g, done)) for node in plan.nodes)
    )
    reads = _reads(plan)
    makers = {name: node for node in plan.nodes for name in node.outputs}
    changed: dict[NodePlan, NodePlan | None] = {}
    for norm in plan.nodes:
        if norm.op_type != "BatchNormalization" or norm.domain or not _is_fixed(norm, done.constants):
            continue
        layer = makers.get(norm.inputs[0])
        if layer is None or layer in changed or reads[norm.inputs[0]] != 1:
            continue
        merged = _merged(layer, norm, done.constants)
        if merged is not None:
            changed[layer], changed[norm] = merged, None
            done.folded[norm.label] = layer.label
    nodes = (changed.get(node, node) for node in plan.nodes)
    return replace(plan, nodes=tuple(node for node in nodes if node is not None))


def _is_fixed(norm: NodePlan, constants: Mapping[str, Array]) -> bool:
    return (
        not norm.attrs.get("training_mode", 0)
        and norm.attrs.get("spatial", 1) == 1
        and not any(norm.outputs[1:])
        and all(name in constants for name in norm.inputs[1:])
    )


def _merged(layer: NodePlan, norm: NodePlan, constants: dict[str, Array]) -> NodePlan | None:
    """The layer that does the norm's work too; None where its weight is not known."""
    if layer.op_type not in _FOLDED_INTO or layer.domain or len(layer.inputs) < 2:
        return None
    weight_name, bias_name = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else ""
    if weight_name not in constants or (bias_name and bias_name not in constants):
        return None
    scale, shift, mean, variance = (constants[name].astype(np.float64) for name in norm.inputs[1:5])
    factor = scale / np.sqrt(variance + norm.attrs.get("epsilon", 1e-5))
    weight = constants[weight_name]
    bias = constants[bias_name].astype(np.float64) if bias_name else 0.0
    if layer.op_type == "Gemm":
        if layer.attrs.get("alpha", 1.0) != 1 or layer.attrs.get("beta", 1.0) != 1:
            return None
        turned = layer.attrs.get("transB", 0)
        changed = weight * (factor[:, None] if turned else factor)
    elif layer.op_type == "Conv":
        changed = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    else:  # [inputs, outputs of a group, ...]
        groups = layer.attrs.get("group", 1)
        parts = weight.reshape(groups, -1, *weight.shape[1:])
        changed = (parts * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)
    new_bias = (bias - mean) * factor + shift
    if new_bias.shape != mean.shape:  # the C of a Gemm that differs from row to row
        return None
    names = _fresh(constants, weight_name), _fresh(constants, bias_name or norm.inputs[2])
    constants[names[0]] = changed.astype(weight.dtype)
    constants[names[1]] = new_bias.astype(weight.dtype)
    return replace(layer, inputs=(layer.inputs[0], *names), outputs=norm.outputs)


def _fresh(constants: Mapping[str, Array], name: str) -> str:
    found, number = f"{name}_folded", 1
    while found in constants:
        number += 1
        found = f"{name}_folded_{number}"
    return found


# -- short weights ----------------------------------------------------------------------------------------------------


def _shortened(plan: GraphPlan, precision: str, dynamic: bool, done: Optimizing) -> GraphPlan:
    """Weights in bfloat16, or in int8 with a scale for each output channel, and a node before each use that widens
    them."""
    nodes: list[NodePlan] = []
    for whole in plan.nodes:
        node = _inside(whole, lambda g: _shortened(g, precision, dynamic, done))
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        weight = done.constants.get(name)
        if node.op_type in _WEIGHTED and not node.domain and weight is not None and _is_long(weight):
            if dynamic and (integer := _of_integers(node, name, weight, done.constants)) is not None:
                nodes.append(integer)
                done.replaced[name] = "int8 weight and rows"
                continue
            wide = f"{name}_wide_{len(done.replaced)}_{len(nodes)}"
            nodes.append(_widening(node, name, weight, wide, precision, done.constants))
            node = replace(node, inputs=(node.inputs[0], wide, *node.inputs[2:]))
            done.replaced[name] = f"{precision} weight"
        nodes.append(node)
        for other in node.inputs:
            if other in done.constants and _is_long(done.constants[other]):
                done.left[other] = f"there is no short form of {node.op_type}"
    return replace(plan, nodes=tuple(nodes))


def _of_integers(node: NodePlan, name: str, weight: Array, constants: dict[str, Array]) -> NodePlan | None:
    """The node that rounds its rows, or images, and multiplies integers; None where the node is not of that form."""
    if node.op_type == "Conv" and weight.ndim > 2:
        groups = node.attrs.get("group", 1)
        if not fits_words(weight.shape[1] * groups, groups):
            return None
        attrs = {"kernel_shape": list(weight.shape[2:]), **node.attrs}
        return _with_integers(node, name, weight, constants, attrs, _integer_conv)
    if weight.ndim != 2 or node.op_type not in ("MatMul", "Gemm"):
        return None
    plain = all(node.attrs.get(key, 1) == 1 for key in ("alpha", "beta"))
    if node.attrs.get("transA", 0) or not plain:
        return None
    columns = weight if node.attrs.get("transB", 0) else weight.T  # [outputs, inputs]
    return _with_integers(node, name, columns, constants, {}, _integer_product)


def _with_integers(
    node: NodePlan,
    name: str,
    weight: Array,
    constants: dict[str, Array],
    attrs: dict[str, Any],
    rule: Callable[[Call], Tensor],
) -> NodePlan:
    """The node with its weight, whose first dim is that of the outputs, in int8."""
    short, scale = _rounded(weight, 0)
    parts = {
        f"{name}_int8": short,
        f"{name}_int8_scale": scale,
        f"{name}_int8_shift": short.reshape(len(short), -1).astype(np.int32).sum(1, dtype=np.int32) * ZERO,
    }
    constants.update(parts)
    inputs = (node.inputs[0], *parts, *node.inputs[2:])
    return replace(node, domain="vitrify", inputs=inputs, attrs=attrs, rule=Rule(rule))


def _integer_product(call: Call) -> Tensor:
    x, short, scale, shift = (call.tensor(i) for i in range(4))
    rows, steps = rounded_rows(x)
    sums = F.linear(rows.to(i32), short.to(i32)) - shift
    y = (sums.to(f32) * (steps * scale)).to(x.dtype)
    return y + call.tensor(4) if call.has(4) else y


def _integer_conv(call: Call) -> Tensor:
    x, short, scale, shift = (call.tensor(i) for i in range(4))
    window = Window(call, x, call.attr("kernel_shape"))
    border = [n for pair in zip(window.low[::-1], window.high[::-1]) for n in pair]
    y = convolved(x, short, scale, shift, border, window.strides, window.dilations, call.attr("group", 1))
    return y + call.tensor(4).reshape(-1, *[1] * window.rank) if call.has(4) else y


def _rounded(weight: Array, axis: int) -> tuple[Array, Array]:
    """The weight in int8, and the scale of each index of an axis."""
    largest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    scale = np.where(largest == 0, 1, largest / _STEPS).astype(np.float32)
    spread = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    return np.clip(np.rint(weight / spread), -_STEPS, _STEPS).astype(np.int8), scale


def _is_long(weight: Array) -> bool:
    return weight.dtype == np.float32 and weight.ndim >= 2 and weight.size >= _SMALLEST


def _widening(
    node: NodePlan, name: str, weight: Array, wide: str, precision: str, constants: dict[str, Array]
) -> NodePlan:
    """The node that gives the weight, and what it reads among the constants."""
    short = f"{name}_{precision}"
    made = lambda op_type, inputs, attrs: NodePlan(
        f"{node.label}, its weight", op_type, "", 21, inputs, (wide,), attrs, RULES["", op_type]
    )
    if precision == "bf16":
        constants[short] = weight.astype(bf16.numpy)
        return made("Cast", (short,), {"to": _FLOAT})
    axis = _channels(node, weight)
    constants[short], constants[f"{short}_scale"] = _rounded(weight, axis)
    return made("DequantizeLinear", (short, f"{short}_scale"), {"axis": axis})


def _channels(node: NodePlan, weight: Array) -> int:
    """The dim of the output channels; of a transposed convolution they are those of a group."""
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "Gemm":
            return 0 if node.attrs.get("transB", 0) else 1
    return weight.ndim - 1
