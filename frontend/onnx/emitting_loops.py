"""Loops in ONNX: our `scan` as `Scan`, whose body is a graph of its own that reads invariants from around it."""

from __future__ import annotations

from typing import Any

from ..ir.dtypes import i64
from ..ir.graph import Node
from .emitting import Emitted, Writer, element_type, emits, value_info
from .reading import import_onnx


@emits("scan")
def _scan(w: Writer, node: Node) -> Emitted:
    carries, sequences = node.attrs["carries"], node.attrs["sequences"]
    (body,) = node.regions
    names = [w.name(v) for v in node.inputs]
    states, scanned = names[:carries], names[carries : carries + sequences]
    if not scanned:  # ONNX counts the steps by what is scanned
        scanned = [w.filled([node.attrs["length"]], 0, i64)]
    with w.inside() as nodes:
        inputs: list[Any] = []
        for value, outer in zip(body.inputs, names, strict=True):
            if len(inputs) < carries + sequences:
                inputs.append(value_info(w.input("element", value), value))
            else:
                w.names[value] = outer
        if not sequences:
            inputs.append(import_onnx().helper.make_tensor_value_info(w.fresh("turn"), element_type(i64), []))
        w.graph(body)
        # An output of a body is made in it, and is made once.
        results = [(w.node("Identity", w.name(v)), v) for v in body.outputs]
    proto = import_onnx().helper.make_graph(
        nodes, w.fresh("step"), inputs, [value_info(name, value) for name, value in results]
    )
    back = int(node.attrs["reverse"])
    found = w.node(
        "Scan",
        *states,
        *scanned,
        outputs=len(node.outputs),
        body=proto,
        num_scan_inputs=len(scanned),
        scan_input_directions=[back] * len(scanned),
        scan_output_directions=[back] * (len(node.outputs) - carries) or None,
    )
    return (found,) if isinstance(found, str) else found
