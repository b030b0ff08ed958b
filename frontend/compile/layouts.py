"""What explain() says of convolutions and products: which way they are computed and why, and in what layout each operand
is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..codegen.loops.nodes import Kernel, Launch
from ..codegen.target import GpuTarget, Target
from ..ir import dtypes
from ..ir.graph import Node
from ..passes.regions import group_nodes
from ..runtime.compiled_graph import CompiledGraph
from .report_data import place_data

Json = dict[str, Any]
# Ops that sum products.
_SUMS = frozenset({"conv", "conv_input_grad", "conv_weight_grad", "matmul", "attention", "attention_grad"})
# What a kernel that copies an operand does, by its name without the number.
_COPIES = {
    "pack": "packed in panels, in the order in which it is read",
    "winograd_weight": "transformed for Winograd's products",
    "winograd_input": "transformed for Winograd's products",
    "copy_operand": "copied, computed element by element",
    "zero_border": "copied with a border of zeros",
    "widened_operand": "copied as float32",
    "woven_operand": "copied, short numbers that are multiplied together side by side",
}
_WINOGRAD = re.compile(r"Winograd F\((\d)x\1, 3x3\)")


def layouts(graph: CompiledGraph) -> Iterator[Json]:
    """Of each group with a sum of products: `op` and its place, the `way` it is computed and `why`, `operands` that are
    read otherwise than they lie (`name`, `layout`, `once`: kept between calls), and the `plans` of its kernels."""
    launches: dict[str, list[tuple[int, Launch]]] = {}
    for number, launch in enumerate(graph.program.launches):
        launches.setdefault(launch.source, []).append((number, launch))
    inputs = frozenset(buffer.name for buffer in graph.program.inputs)
    for group in group_nodes(graph.stages[-1]):
        found = [n for n in group.regions[0].nodes if n.op.name in _SUMS] if group.regions else []
        own = launches.get(group.attrs["name"], [])
        if not found or not own:
            continue
        node = found[0]
        plans = list(dict.fromkeys(_plans(launch for _, launch in own)))
        way, why = _way(node, plans, graph.target)
        yield {
            "group": group.attrs["name"],
            "op": node.op.name,
            **place_data(node.location or group.location),
            "way": way,
            "why": why,
            "operands": list(_operands(own, graph.program.preparing, inputs)),
            "plans": plans,
        }


def _plans(launches: Iterable[Launch]) -> Iterator[str]:
    return (x.kernel.comment for x in launches if isinstance(x.kernel, Kernel) and x.kernel.comment)


def _operands(
    launches: Iterable[tuple[int, Launch]], preparing: int, inputs: frozenset[str]
) -> Iterator[Json]:
    """`inputs`: names of what the caller brings; other buffers are named for values."""
    for number, launch in launches:
        layout = _COPIES.get(launch.kernel.name.rstrip("0123456789"))
        if layout is None or not isinstance(launch.kernel, Kernel):
            continue
        read = [
            buffer.name if buffer.name in inputs else f"%{buffer.name}"
            for param, buffer in zip(launch.kernel.params, launch.args)
            if param.name not in launch.kernel.writes
        ]
        yield {"name": ", ".join(read), "layout": layout, "once": number < preparing}


def _way(node: Node, plans: list[str], target: Target | GpuTarget) -> tuple[str, str]:
    """How, and why so."""
    match = next(filter(None, map(_WINOGRAD.match, plans)), None)
    if match is not None:
        m = int(match[1])
        return (
            f"by Winograd's filtering, tiles of {m}x{m}",
            f"{(m + 2) ** 2} multiplications for {m * m} results where the sum takes {9 * m * m}, and cheaper with its "
            "transforms than the sum",
        )
    if node.op.name in ("conv", "conv_input_grad") and isinstance(target, Target):
        return "as a sum", f"not by Winograd's filtering: {_not_winograd(node, target)}"
    return (
        ("in blocks, weights never in memory", "")
        if node.op.name.startswith("attention")
        else ("as a sum", "")
    )


def _not_winograd(node: Node, target: Target) -> str:
    """What keeps a convolution from it; the conditions of `codegen/lower/winograd_lower.py` in words."""
    image, weight = node.inputs
    attrs = node.attrs
    kernel = weight.type.shape[2:]
    if kernel != (3, 3):
        return f"that is for kernels of 3x3, this is {'x'.join(map(str, kernel))}"
    for name, wanted in (("stride", (1, 1)), ("dilation", (1, 1)), ("groups", 1)):
        if attrs[name] != wanted:
            shown = attrs[name] if name == "groups" else "x".join(map(str, attrs[name]))
            return f"that is for {name} 1, this has {shown}"
    if node.outputs[0].type.dtype not in (dtypes.f32, dtypes.f16, dtypes.bf16):
        return f"not for {node.outputs[0].type.dtype.name}"
    if not all(isinstance(size, int) for size in (*image.type.shape[1:], *node.outputs[0].type.shape[1:])):
        return "that needs sizes that are known, but for the batch"
    lanes = target.lanes(dtypes.f32)
    if min(weight.type.shape[:2]) < lanes:
        return f"that is for {lanes} channels and outputs or more, as a vector has numbers"
    return "dearer here, with its transforms, than the sum"


def layout_lines(found: Json, place: str) -> Iterator[str]:
    """The text; `place`: where the op stands."""
    why = f" ({found['why']})" if found["why"] else ""
    yield f"{found['op']} of {found['group']}{place}: {found['way']}{why}"
    for operand in found["operands"]:
        yield f"    {operand['name']}: {operand['layout']}, {_when(operand)}"
    yield from (f"    {plan}" for plan in found["plans"])


def _when(operand: Json) -> str:
    return "once, kept between calls" if operand["once"] else "in every call"
