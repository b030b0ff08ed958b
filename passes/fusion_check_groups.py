"""Is each group of a fused graph one that its lowering can compute? A check that shares no reasoning with the fusion
pass.

A group may hold what its kind allows, one anchor where there may be one, and may read results of reductions,
contractions and windows only where the kernel stands when it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from ..ir import dims, dtypes
from ..ir.dims import DimLike
from ..ir.graph import Graph, IRError, Node, Value
from ..ir.half_precision import widens
from ..ir.op import op_named
from ..ir.types import TensorType

Index = tuple[DimLike, ...]
ELEMENTWISE = frozenset({"pointwise", "view", "constant"})
OPERAND_VIEWS = frozenset({"reshape", "permute", "expand", "slice", "detach"})


def check_groups(fused: Graph) -> None:
    """IRError where a node is neither a legal group nor a scan of such."""
    for node in fused.nodes:
        if node.op.name == "scan":
            check_groups(node.regions[0])
        elif node.op.name != "fused":
            raise IRError(f"{node} is in no group")
        else:
            check_group(node)


def check_group(node: Node) -> None:
    """IRError where the body of a fused node is not what its kind allows."""
    kind = node.attrs["kind"]
    rule = RULES.get(kind)
    if rule is None:
        raise IRError(f"{node}: unknown kind of group {kind!r}; there are {', '.join(RULES)}")
    if len(node.regions) != 1:
        raise IRError(f"{node}: a fused node has one region")
    body = node.regions[0]
    if [v.type for v in body.inputs] != [v.type for v in node.inputs]:
        raise IRError(f"{node}: its operands are not what its body takes")
    if [v.type for v in body.outputs] != [v.type for v in node.outputs]:
        raise IRError(f"{node}: its results are not what its body gives")
    if len({*body.outputs, *body.inputs}) != len(body.outputs) + len(body.inputs):
        raise IRError(f"{node}: a value is twice among its body's inputs and outputs")
    rule(node, body)


def _others(body: Graph, anchors: Iterable[Node]) -> list[Node]:
    anchors = set(anchors)
    return [n for n in body.nodes if n not in anchors]


def _only_elementwise(node: Node, members: Iterable[Node]) -> None:
    for member in members:
        if member.op.lowering not in ELEMENTWISE:
            raise IRError(f"{node}: a {node.attrs['kind']} group cannot hold {member.op.name}")


def _check_loop(node: Node, body: Graph) -> None:
    _only_elementwise(node, body.nodes)


def _check_reduce(node: Node, body: Graph) -> None:
    reductions = [n for n in body.nodes if n.op.lowering == "reduce" and n.op.combine is not None]
    _only_elementwise(node, _others(body, reductions))
    if not reductions:
        raise IRError(f"{node}: a reduce group without a reduction")
    shape = reductions[0].inputs[0].type.shape
    # Where there are sums over columns too, rows are what ends with the last dim.
    first = next((n for n in reductions if len(shape) - 1 in _reduced(n)), reductions[0])
    over = _reduced(first)
    columns = []
    for member in reductions:
        if member.inputs[0].type.shape != shape:
            raise IRError(f"{node}: {member} reduces another shape or other dims than {first}")
        if _reduced(member) == over:
            continue
        columns.append(member)
        if _reduced(member) != tuple(d for d in range(len(shape)) if d not in over):
            raise IRError(f"{node}: {member} reduces another shape or other dims than {first}")
    _check_column_sums(node, body, columns)
    point = _point(shape)
    row = tuple(i for d, i in enumerate(point) if d not in over)
    kept = tuple(n for d, n in enumerate(shape) if d not in over)
    held: dict[Value, tuple[Index, ...]] = {}
    sums = {n.outputs[0] for n in columns}
    for member in reductions:
        (value,) = member.outputs
        if value in sums:
            continue
        held[value] = (point if member.attrs["keepdim"] else row,)
    walk = _Walk(node, body, held)
    for member in reductions:
        walk.visit(member.inputs[0], point)
    for value in body.outputs:
        if value in sums:
            continue
        if value.type.numel == dims.product(kept) and value.type.shape != shape:
            walk.visit(value, _reindexed(row, kept, value.type.shape))
        elif value.type.numel == dims.product(shape):
            walk.visit(value, _reindexed(point, shape, value.type.shape))
        else:
            raise IRError(f"{node}: %{value.name} is shaped neither as before nor as after reducing")


def _check_column_sums(node: Node, body: Graph, columns: Iterable[Node]) -> None:
    """They are known when all rows are done: nothing in the kernel can read them."""
    for member in columns:
        (value,) = member.outputs
        if value not in body.outputs or any(value in n.inputs for n in body.nodes):
            raise IRError(f"{node}: %{value.name} sums over rows, and can only be a result")


def _reduced(node: Node) -> tuple[int, ...]:
    return tuple(sorted(d for d in node.attrs["dims"] if d < node.inputs[0].type.rank))


def _one(node: Node, body: Graph, lowering: str) -> Node:
    found = [n for n in body.nodes if n.op.lowering == lowering]
    if len(found) != 1:
        names = [n.op.name for n in found]
        raise IRError(f"{node}: a {node.attrs['kind']} group holds one {lowering} op, got {names}")
    return found[0]


def _check_contraction(node: Node, body: Graph) -> None:
    core = _one(node, body, "contraction")
    _only_elementwise(node, _others(body, [core]))
    _check_operands(node, body, core)
    _check_epilogue(node, body, core.outputs[0])


def _check_operands(node: Node, body: Graph, core: Node) -> None:
    """The contraction's operands are inputs, through views; the image that a depthwise convolution copies inside a
    border may be computed."""
    image = core.inputs[0]
    copied = core.op.name in ("conv", "conv_weight_grad") and any(core.attrs["padding"])
    depthwise = copied and core.attrs["groups"] == image.type.shape[1] and image is not core.inputs[1]
    _check_views(node, body, core, core.inputs[1:] if depthwise else core.inputs)


def _check_views(node: Node, body: Graph, core: Node, operands: Iterable[Value]) -> None:
    """These operands are inputs, through views."""
    producers = body.producers()
    for value in operands:
        while value in producers:
            view = producers[value]
            if view.op.name not in OPERAND_VIEWS and not widens(view):
                raise IRError(f"{node}: an operand of {core.op.name} comes through {view.op.name}")
            (value,) = view.inputs


def _check_gates(node: Node, body: Graph) -> None:
    """A product whose columns are those of gates, and what stands at one unit of each makes that unit of results."""
    core = _one(node, body, "contraction")
    _only_elementwise(node, _others(body, [core]))
    _check_operands(node, body, core)
    (result,) = core.outputs
    rows, columns = result.type.shape
    producers = body.producers()
    joined = {v: producers[v] for v in body.outputs if v in producers and producers[v].op.name == "concat"}
    parts = {v: joined[v].inputs if v in joined else (v,) for v in body.outputs}
    shapes = {v.type.shape for values in parts.values() for v in values}
    if len(shapes) != 1 or core.op.name != "matmul" or any(n.attrs["dim"] != 1 for n in joined.values()):
        raise IRError(f"{node}: gates are made of a matmul, and give one unit each: {shapes}")
    (shape,) = shapes
    width = shape[1]
    if shape[0] != rows or not isinstance(width, int) or not isinstance(columns, int) or columns % width:
        raise IRError(f"{node}: {shape} are not the units of gates in {result.type}")
    row, unit = _point(shape)
    walk = _Walk(node, body, {result: tuple((row, unit + start) for start in range(0, columns, width))})
    for values in parts.values():
        for value in values:
            walk.visit(value, (row, unit))


def _check_expansion(node: Node, body: Graph) -> None:
    """A convolution, a depthwise one of what was made of its result, and perhaps one of that with kernels of one
    element; nothing else reads their results."""
    cores = [n for n in body.nodes if n.op.lowering == "contraction"]
    _only_elementwise(node, _others(body, cores))
    names = [n.op.name for n in cores]
    if names not in (["conv"] * 2, ["conv"] * 3):
        raise IRError(f"{node}: an expansion group holds two convolutions or three, got {names}")
    for before, core in pairwise(cores):
        image, (made,) = core.inputs[0], before.outputs
        if image.type != made.type:
            raise IRError(f"{node}: {core} does not read all of %{made.name}")
        point = _point(made.type.shape)
        _Walk(node, body, {made: (point,)}).visit(image, point)
        _check_views(node, body, core, core.inputs[1:])
    _check_views(node, body, cores[0], cores[0].inputs)
    if cores[1].attrs["groups"] != cores[1].inputs[0].type.shape[1]:
        raise IRError(f"{node}: {cores[1]} does not filter channels each by itself")
    for core in cores[2:]:
        attrs = core.attrs
        if {*core.inputs[1].type.shape[2:], *attrs["stride"], attrs["groups"]} != {1} or any(
            attrs["padding"]
        ):
            raise IRError(f"{node}: {core} is no projection")
    _check_epilogue(node, body, cores[-1].outputs[0])


def _check_window(node: Node, body: Graph) -> None:
    core = _one(node, body, "window")
    _only_elementwise(node, _others(body, [core]))
    _check_epilogue(node, body, core.outputs[0])


def _check_epilogue(node: Node, body: Graph, result: Value) -> None:
    """Everything after the anchor reads its result where the kernel stands."""
    point = _point(result.type.shape)
    walk = _Walk(node, body, {result: (point,)})
    for value in body.outputs:
        if value.type.numel != result.type.numel:
            raise IRError(f"{node}: %{value.name} has not as many elements as %{result.name}")
        walk.visit(value, _reindexed(point, result.type.shape, value.type.shape))


def is_host(node: Node) -> bool:
    """An op of the host, or one on complex numbers."""
    kinds = {v.type.dtype.kind for v in (*node.inputs, *node.outputs)}
    return node.op.lowering == "host" or "complex" in kinds


def _check_single(node: Node, body: Graph) -> None:
    own = [n for n in body.nodes if n.op.lowering not in ELEMENTWISE]
    if len(own) != 1:
        raise IRError(f"{node}: a single group holds one op of its own, got {[n.op.name for n in own]}")
    if body.outputs != own[0].outputs:
        raise IRError(f"{node}: a single group's result is that of its {own[0].op.name}")


def _check_attention(node: Node, body: Graph) -> None:
    """One op, its operands perhaps through views."""
    own = _one(node, body, "attention")
    for member in _others(body, [own]):
        if member.op.lowering not in ("view", "constant"):
            raise IRError(f"{node}: an attention group cannot hold {member.op.name}")
    if not set(body.outputs) <= set(own.outputs):
        raise IRError(f"{node}: an attention group's results are those of its {own.op.name}")


def _check_host(node: Node, body: Graph) -> None:
    """One node, through views and fills, which NumPy makes on the way."""
    producers = body.producers()
    own = {producers[v] for v in body.outputs if v in producers}
    if len(own) != 1:
        raise IRError(f"{node}: a host group's results are those of one op")
    for member in body.nodes:
        if member not in own and member.op.lowering not in ("view", "constant"):
            raise IRError(f"{node}: a host group cannot hold {member.op.name} besides its own op")
    if not all(is_host(n) for n in own):
        raise IRError(f"{node}: {own} is for code generation, not for the host")


RULES: dict[str, Callable[[Node, Graph], None]] = {
    "loop": _check_loop,
    "reduce": _check_reduce,
    "contraction": _check_contraction,
    "gates": _check_gates,
    "expansion": _check_expansion,
    "window": _check_window,
    "single": _check_single,
    "attention": _check_attention,
    "host": _check_host,
}


def _point(shape: Iterable[DimLike]) -> Index:
    return tuple(
        0 if n == 1 else dims.symbol(f".{d}", 0, max(dims.bounds(n)[1] - 1, 0)) for d, n in enumerate(shape)
    )


def _reindexed(index: Index, shape: tuple[DimLike, ...], other: tuple[DimLike, ...]) -> Index:
    """The index into `other` of the element at `index` of `shape`, in row-major order, as `reshape` says."""
    reshape = op_named("reshape")
    assert reshape.index_map is not None
    old, new = TensorType(other, dtypes.f32), TensorType(shape, dtypes.f32)
    ((_, where, _),) = reshape.index_map([old], new, index, shape=shape)
    return where


class _Walk:
    """Follows the elements that results are computed from, down to the body's inputs. `held`: where what the kernel has
    at hand may be read."""

    def __init__(self, node: Node, body: Graph, held: dict[Value, tuple[Index, ...]]):
        self.node = node
        self.producers = body.producers()
        self.held = held
        self._seen: set[tuple[Value, Index]] = set()

    def visit(self, value: Value, index: Index) -> None:
        stack = [(value, index)]
        while stack:
            value, index = stack.pop()
            shape = value.type.shape
            index = tuple(0 if n == 1 else i for n, i in zip(shape, index, strict=True))
            if (value, index) in self._seen or dims.product(shape) == 0:
                continue
            self._seen.add((value, index))
            if value in self.held:
                places = [
                    tuple(0 if n == 1 else i for n, i in zip(shape, place, strict=True))
                    for place in self.held[value]
                ]
                if index not in places:
                    here, *known = (f"[{', '.join(map(str, place))}]" for place in (index, *places))
                    where = f"{here}, not at {' or '.join(known)}"
                    raise IRError(f"{self.node}: %{value.name} is read at {where}")
                continue
            member = self.producers.get(value)
            if member is None or member.op.lowering == "constant":
                continue
            if member.op.lowering == "pointwise":
                stack += [(v, index[len(index) - v.type.rank :]) for v in member.inputs]
            elif member.op.lowering == "view":
                assert member.op.index_map is not None
                types = [v.type for v in member.inputs]
                try:
                    cases = member.op.index_map(types, value.type, index, **member.attrs)
                except ValueError as error:
                    if member.op.name == "reshape" and member.inputs[0] not in self.producers:
                        continue  # memory in row-major order is read at the linear offset
                    raise IRError(f"{self.node}: {member}: {error}") from error
                for case in cases:
                    if isinstance(case, tuple):
                        stack.append((member.inputs[case[0]], case[1]))
            else:
                raise IRError(f"{self.node}: {member.op.name} stands between its result and its op")
