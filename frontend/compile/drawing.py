"""A stage drawn in layers: boxes and edges with their places, for the report.

A drawing is a tree of scopes. A scope is a module (the backward pass has a tree of its own), or a source line where ops
belong to no module. What is small is drawn flat, op by op; in what is large the scopes inside are boxes that can be
entered, and what lies outside appears as the box that holds it there. Every scope is laid out on its own: layers are
longest paths, igraph orders them (Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system
structures, 1981).

Places are in boxes: a box is one wide and one high, x and y are its centre.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..passes.autodiff import BACKWARD

if TYPE_CHECKING:
    from igraph import Graph as Layers

Json = dict[str, Any]
Path = tuple[str, ...]

# Between the centres of neighbours in a layer: of boxes, a box and an edge that passes, two such edges.
GAPS = {(True, True): 1.0, (True, False): 0.6, (False, True): 0.6, (False, False): 0.2}
# Nodes that a scope may have to be drawn flat.
FLAT = 60
# Bends of edges in a scope at most; with more, edges are straight.
BENDS = 4000


def layout_library() -> type[Layers] | None:
    """igraph's graph; None where it is not installed."""
    try:
        from igraph import Graph
    except ImportError:
        return None
    return Graph


def drawing(nodes: Sequence[Json], library: type[Layers]) -> Json:
    """The drawing of a stage's nodes (`report_data.stage_data`).

    `paths` gives the path of each node by its id, `scopes` by path its title, boxes and edges. A box has the number of
    its node in the stage, or the path of the scope it stands for; `outside` tells what is not of this scope. An edge has
    the numbers of two boxes, the types of what goes along it, and the points between. `count` is a box's nodes inside.
    """
    paths = [_path(node) for node in nodes]
    reads = _reads(nodes)
    scopes: dict[str, Json] = {}
    waiting: list[Path] = [()]
    while waiting:
        path = waiting.pop()
        scope = _Scope(path, nodes, paths, reads)
        scopes["/".join(path)] = scope.drawn(library)
        waiting += scope.inner
    return {
        "paths": {node["id"]: "/".join(path) for node, path in zip(nodes, paths)},
        "scopes": scopes,
    }


def _path(node: Json) -> Path:
    module, file = node["module"], node["file"]
    backward = module.endswith(BACKWARD)
    module = module.removesuffix(BACKWARD).strip()
    if module:
        path = tuple(module.split("."))
    elif file is not None:
        path = (f"{file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{node['line']}",)
    else:
        path = ()
    return ("backward", *path) if backward else path


def _reads(nodes: Sequence[Json]) -> list[tuple[int, int, str]]:
    """(producer, reader, type) of every value that one node makes and another reads."""
    maker = {v["name"]: (i, v["type"]) for i, node in enumerate(nodes) for v in node["outputs"]}
    found = dict.fromkeys(
        (maker[name][0], i, maker[name][1])
        for i, node in enumerate(nodes)
        for name in node["inputs"]
        if name in maker
    )
    return list(found)


class _Scope:
    """The nodes under a path, and the boxes that stand for them and for what they are connected to."""

    def __init__(
        self, path: Path, nodes: Sequence[Json], paths: Sequence[Path], reads: Sequence[tuple[int, int, str]]
    ):
        self.path = path
        self.nodes = nodes
        self.paths = paths
        depth = len(path)
        self.members = [i for i, p in enumerate(paths) if p[:depth] == path]
        self.flat = len(self.members) <= FLAT
        counts: dict[Path, int] = {}
        for i in self.members:
            counts[paths[i][: depth + 1]] = counts.get(paths[i][: depth + 1], 0) + 1
        # A scope inside, unless it is of one node.
        self.inner = [p for p, count in counts.items() if len(p) > depth and count > 1 and not self.flat]
        self.boxes: dict[Path | int, Json] = {}
        for i in self.members:
            self._box(i)["count"] += 1
        edges: dict[tuple[int, int], dict[str, None]] = {}
        inside = set(self.members)
        for producer, reader, type_ in reads:
            if producer not in inside and reader not in inside:
                continue
            ends = self._box(producer)["index"], self._box(reader)["index"]
            if ends[0] != ends[1]:
                edges.setdefault(ends, {})[type_] = None
        self.edges = [(a, b, list(types)) for (a, b), types in edges.items()]

    def _box(self, node: int) -> Json:
        """The box of a node of the stage, made where it is new."""
        path, depth = self.paths[node], len(self.path)
        key: Path | int = node
        outside = path[:depth] != self.path
        if outside:
            shared = next(
                (k for k, (a, b) in enumerate(zip(path, self.path)) if a != b), min(len(path), depth)
            )
            key = path[: shared + 1]
        elif (head := path[: depth + 1]) in self.inner:
            key = head
        if key not in self.boxes:
            box: Json = {"index": len(self.boxes), "outside": outside, "first": node, "count": 0}
            box |= {"node": node} if isinstance(key, int) else {"scope": "/".join(key)}
            self.boxes[key] = box
        found = self.boxes[key]
        found["first"] = min(found["first"], node)
        return found

    def drawn(self, library: type[Layers]) -> Json:
        boxes = list(self.boxes.values())
        layers = self._layers(boxes)
        places, bends = _placed(library, layers, [(a, b) for a, b, _ in self.edges])
        for box, (x, y) in zip(boxes, places):
            box |= {"x": x, "y": y}
        edges = [
            {"from": a, "to": b, "types": types, "points": points}
            for (a, b, types), points in zip(self.edges, bends)
        ]
        for box in boxes:
            del box["index"], box["first"]
        return {"flat": self.flat, "nodes": len(self.members), "boxes": boxes, "edges": edges}

    def _layers(self, boxes: Sequence[Json]) -> list[int]:
        """The longest path to each box, over edges that go forward in the order of the program; what has nothing
        before it stands just above its first reader."""
        first = [box["first"] for box in boxes]
        forward = [(a, b) for a, b, _ in self.edges if first[a] < first[b]]
        before = _grouped((b, a) for a, b in forward)
        after = _grouped(forward)
        layers = [0] * len(boxes)
        order = sorted(range(len(boxes)), key=first.__getitem__)
        for b in order:
            layers[b] = 1 + max((layers[a] for a in before.get(b, ())), default=-1)
        for b in reversed(order):
            if b not in before and b in after:
                layers[b] = max(0, min(layers[c] for c in after[b]) - 1)
        return layers


def _grouped(pairs: Iterable[tuple[int, int]]) -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _placed(
    library: type[Layers], layers: Sequence[int], edges: Sequence[tuple[int, int]]
) -> tuple[list[list[float]], list[list[list[float]]]]:
    """The place of each box, and the points that each edge goes through on the layers between its ends."""
    all_layers = list(layers)
    links: list[tuple[int, int]] = []
    through: list[list[int]] = []
    straight = sum(abs(layers[a] - layers[b]) for a, b in edges) > BENDS
    for a, b in edges:
        step = 1 if layers[b] >= layers[a] else -1
        between: list[int] = []
        for layer in range(layers[a] + step, layers[b], step) if not straight else ():
            between.append(len(all_layers))
            all_layers.append(layer)
        chain = [a, *between, b]
        # Layered layouts want every edge to point down.
        links += [(p, q) if all_layers[p] <= all_layers[q] else (q, p) for p, q in pairwise(chain)]
        through.append(between)
    if not all_layers:
        return [], []
    laid = library(n=len(all_layers), edges=links, directed=True).layout_sugiyama(layers=all_layers)
    places = _apart([x for x, *_ in laid], all_layers, len(layers))
    return places[: len(layers)], [[places[i] for i in between] for between in through]


def _apart(across: Sequence[float], layers: Sequence[int], boxes: int) -> list[list[float]]:
    """The places, moved to the right where neighbours would touch; the first `boxes` are boxes. The leftmost is at 0."""
    moved = list(across)
    rows = _grouped((layer, i) for i, layer in enumerate(layers))
    for row in rows.values():
        row.sort(key=across.__getitem__)
        for left, right in pairwise(row):
            gap = GAPS[left < boxes, right < boxes]
            moved[right] = max(moved[right], moved[left] + gap)
    start = min(moved)
    return [[round(x - start, 3), float(layer)] for x, layer in zip(moved, layers)]
