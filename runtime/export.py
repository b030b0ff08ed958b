"""Exported programs: a graph as a shared library with a C interface, its header, and its weights.

The functions are those of `codegen/llvm/library.py`; docs/export.md tells a C programmer about them. Loading such a file
from Python is `exported.py`, which knows nothing of this.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.c_interface import ALIGNMENT, WEIGHTS_HEADER, WEIGHTS_MAGIC
from ..codegen.library import Library, Slot, Weights, bounded_dims, functions
from ..codegen.llvm.compile import compile_linked
from ..codegen.llvm.emit import EmitOptions
from ..codegen.llvm.library import interface_text, variant_text
from ..codegen.llvm.thread_pool import pool_module
from ..codegen.loops.nodes import Program
from ..codegen.lower import lower_graph
from ..codegen.target import Target
from ..ir.dims import DimLike
from ..ir.graph import Graph, Node
from ..passes.host import runs_on_host
from .compiled_graph import CompileOptions, tuned
from .export_header import header_text
from .progress import Watch, watched
from .staged import StagedGraph

Array = np.ndarray[Any, Any]
# Position-independent code addresses constants by 32 signed bits.
MOST_INSIDE = (1 << 31) - (64 << 20)
PORTABLE = ("x86-64-avx512", "x86-64-avx2", "x86-64-sse2")


class ExportError(RuntimeError):
    """The graph cannot be exported; the message lists what stands in the way and the user's lines."""


@dataclass(frozen=True)
class Exported:
    """The files that were written. `library` is None where the machine has no linker: then `object` is to be linked,
    with -lm -lpthread, into the program that uses it. `bytes_of_weights` lie in `weights`, or inside."""

    name: str
    header: Path
    library: Path | None = None
    object: Path | None = None
    weights: Path | None = None
    bytes_of_weights: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(f for f in (self.library, self.object, self.header, self.weights) if f is not None)


def export_graph(
    graph: Graph,
    inputs: Sequence[str],
    constants: Mapping[int, Array],
    outputs: Sequence[str],
    path: Path,
    name: str,
    weights: Path | None = None,
    targets: Sequence[Target] = (),
    options: CompileOptions = CompileOptions(),
) -> Exported:
    """Compile the graph and write it to `path`, beside it the header.

    inputs, outputs: the names of the graph's; constants: the values of those of its inputs, by number, that are no
    inputs of the library; weights: a file that receives the constants, in place of the library; targets: what to compile
    for, the best one first; none is this machine's level of instructions. Raises ExportError, and OSError where a
    file cannot be written.
    """
    targets = tuple(targets) or (portable_host(),)
    for target in targets:
        if target.has("amx-tile"):
            raise ExportError(
                f"{name}: {target.name} has tile registers, for which a process must ask; a library does not"
            )
    with watched(name, options.progress) as watch:
        return _export(graph, inputs, constants, outputs, path, name, weights, targets, options, watch)


def _export(
    graph: Graph,
    inputs: Sequence[str],
    constants: Mapping[int, Array],
    outputs: Sequence[str],
    path: Path,
    name: str,
    weights: Path | None,
    targets: Sequence[Target],
    options: CompileOptions,
    watch: Watch,
) -> Exported:
    places, total = _place(constants)
    room = MOST_INSIDE - (total if weights is None else 0)
    names = tuple(graph.inputs[number].name for number in constants)
    variants = _variants(graph, targets, options, watch, names, room)
    if weights is None and total > MOST_INSIDE:
        raise ExportError(
            f"{name}: {total >> 20} MiB of weights do not fit in a library; give the file for them: weights=..."
        )
    given = tuple(
        Slot(n, v.type)
        for i, (n, v) in enumerate(zip(inputs, graph.inputs, strict=True))
        if i not in constants
    )
    library = Library(
        name=name,
        inputs=given,
        outputs=tuple(Slot(n, v.type) for n, v in zip(outputs, graph.outputs, strict=True)),
        dims=bounded_dims(graph.symbols, _sizes(graph, variants)),
        weights=Weights(
            places,
            total,
            weights.name if weights is not None else None,
            _fingerprint(constants, places) if weights is not None else 0,
        ),
        variants=variants,
        messages=dict(variants[0][1].messages),
    )
    header = path.with_suffix(".h")
    for file in (path, header, *([weights] if weights is not None else [])):
        file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vitrify-") as folder:
        data = Path(folder) / "weights"
        if weights is not None:
            _write_weights(weights, constants, library.weights)
        elif total:
            _write_data(data, constants)
        code = _compile(library, str(data), options.emit, watch)
        object_file = Path(folder) / "code.o"
        object_file.write_bytes(code)
        linked = path.suffix != ".o" and _link(object_file, path)
        if not linked:
            shutil.copyfile(object_file, path.with_suffix(".o"))
    header.write_text(header_text(library), encoding="utf-8")
    return Exported(
        name,
        header,
        path if linked else None,
        None if linked else path.with_suffix(".o"),
        weights,
        total,
    )


def portable_host() -> Target:
    """This machine's level of instructions (x86-64-v4, v3 or the first), with its caches: what code for it may use and
    every machine of that level has."""
    host = Target.host()
    level = next(t for n in (*PORTABLE, "aarch64-neon") if (t := Target.named(n)).isa == host.isa)
    return replace(level, triple=host.triple, l1=host.l1, l2=host.l2, l3=host.l3)


def named_targets(names: str | Sequence[str] | None) -> tuple[Target, ...]:
    """Targets by name: "host" is this machine's level, "portable" all levels of x86-64; ValueError lists the names."""
    found: list[Target] = []
    for name in [names] if isinstance(names, str) else names or ["host"]:
        if name == "host":
            found.append(portable_host())
            continue
        try:
            found += [Target.named(n) for n in (PORTABLE if name == "portable" else (name,))]
        except KeyError as error:
            raise ValueError(f"{error.args[0]}, host, portable") from None
    host = Target.host().triple.split("-")[0]
    for target in found:
        if target.triple.split("-")[0] != host:
            raise ValueError(
                f"export for {target.name} needs a machine of that architecture; this one is {host}"
            )
    return tuple(found)


# -- what cannot be exported ------------------------------------------------------------------------------------------


def _variants(
    graph: Graph,
    targets: Sequence[Target],
    options: CompileOptions,
    watch: Watch,
    constants: tuple[str, ...],
    room: int,
) -> tuple[tuple[Target, Program], ...]:
    watch.step("passes")
    staged = StagedGraph(graph, options)
    final = staged.stages[-1]
    hosted = list(dict.fromkeys(_described(node) for node in _host_nodes(final)))
    if hosted:
        listed = "\n".join(f"  {line}" for line in hosted)
        raise ExportError(
            f"{graph.name} cannot be exported: an exported library has no Python, and NumPy computes in it\n{listed}\n"
            "Write these parts with other ops, or compute them before the call"
        )
    watch.step("lower")
    # The caller's results hold nothing but results.
    options = replace(options, lower=replace(options.lower, lend=False))
    staged.options = replace(
        options, lower=replace(options.lower, steady_inputs=() if options.pipeline.strict else constants)
    )
    variants = _lowered(staged, targets)
    if any(program.prepared_bytes > room for _, program in variants):
        staged.options = options
        variants = _lowered(staged, targets)
    # Checks are numbered in the order of the graph, whatever the target.
    assert all(program.messages == variants[0][1].messages for _, program in variants)
    return variants


def _lowered(staged: StagedGraph, targets: Sequence[Target]) -> tuple[tuple[Target, Program], ...]:
    found = []
    for target in targets:
        options = tuned(staged, target)[0] if staged.options.tune else staged.options
        found.append((target, lower_graph(staged.stages[-1], target, options.lower)))
    return tuple(found)


def _host_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        if node.regions:
            for region in node.regions:
                yield from _host_nodes(region)
        elif runs_on_host(node):
            yield node


def _described(node: Node) -> str:
    sizes = " (the size of its result depends on data)" if node.op.sizes else ""
    return f"{node.op.name}{sizes}" + (f" at {node.location}" if node.location else "")


def _sizes(graph: Graph, variants: Sequence[tuple[Target, Program]]) -> list[DimLike]:
    """Every number of bytes that native code computes with."""
    found = [v.type.numel * v.type.dtype.itemsize for v in (*graph.inputs, *graph.outputs)]
    return [*found, *(program.arena_bytes for _, program in variants)]


# -- weights ----------------------------------------------------------------------------------------------------------


def _place(constants: Mapping[int, Array]) -> tuple[dict[int, int], int]:
    """Where each constant lies, and how many bytes all take: each begins at a multiple of `ALIGNMENT`."""
    places: dict[int, int] = {}
    total = 0
    for number, array in sorted(constants.items()):
        places[number] = total
        total += array.nbytes + -array.nbytes % ALIGNMENT
    return places, total


def _chunks(constants: Mapping[int, Array]) -> Iterator[memoryview | bytes]:
    """The bytes of the constants in order, and those between them."""
    for _, array in sorted(constants.items()):
        if array.nbytes:
            yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        yield bytes(-array.nbytes % ALIGNMENT)


def _fingerprint(constants: Mapping[int, Array], places: Mapping[int, int]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr(sorted(places.items())).encode())
    for chunk in _chunks(constants):
        digest.update(chunk)
    return int.from_bytes(digest.digest(), "little", signed=True)


def _write_data(path: Path, constants: Mapping[int, Array]) -> None:
    with path.open("wb") as file:
        for chunk in _chunks(constants):
            file.write(chunk)


def _write_weights(path: Path, constants: Mapping[int, Array], weights: Weights) -> None:
    fingerprint = weights.fingerprint.to_bytes(8, "little", signed=True)
    head = WEIGHTS_MAGIC + fingerprint + weights.total.to_bytes(8, "little")
    # Another process may have the old file mapped: it keeps what it has.
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with new.open("wb") as file:
        file.write(head.ljust(WEIGHTS_HEADER, b"\0"))
        for chunk in _chunks(constants):
            file.write(chunk)
    new.replace(path)


# -- code -------------------------------------------------------------------------------------------------------------


def _compile(library: Library, data: str, emit: EmitOptions, watch: Watch) -> bytes:
    first = library.variants[0][0]
    architecture = first.triple.split("-")[0]
    # What is no kernel runs on every machine of the architecture.
    base = Target.named("x86-64-sse2" if architecture == "x86_64" else "aarch64-neon")
    base = replace(base, triple=first.triple)
    watch.step("emit")
    texts = [
        interface_text(library, data),
        pool_module(base),
        *(variant_text(program, target, i, emit) for i, (target, program) in enumerate(library.variants)),
    ]
    exported = {f"{library.name}_{f}" for f in functions(library)}
    watch.step("llvm")
    return compile_linked(texts, base, exported)


def _link(object_file: Path, path: Path) -> bool:
    """Make a shared library of the object; False where the machine has neither compiler nor linker.

    Its workers outlive every call, so the library stays loaded once it is (`nodelete`).
    """
    # Beside its place and then renamed: a process may be running the old one.
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    for tool in (os.environ.get("CC", ""), "cc", "gcc", "clang", "ld"):
        found = shutil.which(tool) if tool else None
        if found is None:
            continue
        flags = ["-z", "nodelete", "-z", "noexecstack", "-z", "now"]
        if tool != "ld":
            flags = [
                *(f"-Wl,{a},{b}" for a, b in zip(flags[::2], flags[1::2])),
                "-Wl,--as-needed",
                "-lm",
                "-lpthread",
            ]
        command = [found, "-shared", "-o", str(new), str(object_file), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            new.unlink(missing_ok=True)
            raise ExportError(f"linking {path} failed: {' '.join(command)}\n{done.stderr.strip()}")
        new.replace(path)
        return True
    return False


__all__ = ["ExportError", "Exported", "export_graph", "named_targets", "portable_host"]
