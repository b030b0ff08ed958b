"""`python -m vitrify.ir.ops` prints docs/ops.md: the table of every declared op, read from the
declarations."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import dtypes
from ..builder import ARRAYS, GraphBuilder
from ..op import REQUIRED, VARIADIC, Attr, Op, all_ops

HEAD = """# Ops

Every op is one declaration in `ir/ops/`, and this page is printed from them: `python -m vitrify.ir.ops >
docs/ops.md`. How to read a declaration, and how to add one: `ir/op.py`.

An attribute's kind follows its name, then its default if it has one. The gradient column holds the name of
the node that an eager result's `grad_fn` shows (the front end passes another where PyTorch tells variants
apart); ops without one have no gradient.
"""

COMPOSITE = "What users call, each with a gradient rule of its own; the decompose pass replaces it."
PRIMITIVES = {
    "pointwise": "One result element from the operands' elements at the same, broadcast, index.",
    "view": "Each result element is an operand element at another index; nothing is computed.",
    "constant": "No operands.",
    "reduce": "An associative combination over dims.",
    "contraction": "Sums of products.",
    "window": "A reduction over a small window around each element.",
    "gather": "Operand elements at indices that another operand holds.",
    "scatter": "Operand elements added at indices that another operand holds.",
    "random": "Counter-based random numbers.",
    "region": "The meaning is the node's region.",
}


def table() -> str:
    """The page's text."""
    ops = all_ops()
    composites = [op for op in ops if op.level == "composite"]
    parts = [HEAD, _section("Composites", COMPOSITE, composites, made_of=True)]
    for lowering, text in PRIMITIVES.items():
        chosen = [op for op in ops if op.level == "primitive" and op.lowering == lowering]
        parts.append(_section(f"Primitives: {lowering}", text, chosen))
    return "\n".join(parts)


def _section(title: str, text: str, ops: Iterable[Op], made_of: bool = False) -> str:
    heads = ["op", "operands", "attributes", "meaning", *(["made of"] if made_of else []), "gradient"]
    lines = [f"## {title}", "", text, "", _row(heads), _row(["---"] * len(heads))]
    for op in ops:
        cells = [f"`{op.name}`", _operands(op), _attributes(op), op.doc]
        cells += [", ".join(f"`{name}`" for name in components(op))] if made_of else []
        lines.append(_row([*cells, op.grad_name if op.vjp else ""]))
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _operands(op: Op) -> str:
    low, high = op.arity
    if high == VARIADIC:
        return f"{low} or more"
    return str(low) if low == high else f"{low} to {high}"


def _attributes(op: Op) -> str:
    return ", ".join(f"{name}: {_kind(attr)}" for name, attr in op.attrs.items())


def _kind(attr: Attr) -> str:
    if attr.default is REQUIRED:
        return attr.kind
    default = attr.default.name if isinstance(attr.default, dtypes.DType) else attr.default
    return f"{attr.kind} = {default}"


def components(op: Op) -> list[str]:
    """The ops that the decompositions of a composite's samples are made of, constants and views left out."""
    found: set[str] = set()
    for sample in op.samples:
        F = GraphBuilder(op.name)
        arrays = [np.asarray(a) for a in sample.make(np.random.default_rng(0))]
        inputs = [F.input(f"x{i}", ARRAYS.type_of(a)) for i, a in enumerate(arrays)]
        assert op.decompose is not None
        op.decompose(F, *inputs, **op.normalise_attrs(sample.attrs))
        found |= {node.op.name for node in F.nodes if node.op.lowering not in ("constant", "view")}
    return sorted(found)


if __name__ == "__main__":
    print(table(), end="")
