"""The functions of a program's code, each as LLVM text and as what the machine is given: assembly, or PTX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..codegen.llvm import ENTRY, launched_functions
from ..codegen.ptx import PtxLaunch
from ..runtime.compiled_graph import CompiledGraph
from ..runtime.gpu.compiled import GpuGraph

Json = dict[str, Any]
# What stands for a launch of a GPU's program that is none: the host computes there.
ON_HOST = "(on the host)"


def code_of(graph: CompiledGraph | GpuGraph) -> tuple[list[str], list[Json]]:
    """The name of the function that each launch runs, and all functions: `name`, `llvm`, `assembly`."""
    if isinstance(graph, GpuGraph):
        launched = [x.function if isinstance(x, PtxLaunch) else ON_HOST for x in graph.ptx.launches]
        names = list(dict.fromkeys(name for name in launched if name != ON_HOST))
        llvm, machine = split_llvm(graph.llvm_text()), split_ptx(graph.assembly_text(), names)
        copied = {"name": ON_HOST, "llvm": "", "assembly": "The data is copied to the host and back."}
        rest = [copied] if ON_HOST in launched else []
        return launched, [{"name": n, "llvm": llvm[n], "assembly": machine[n]} for n in names] + rest
    launched = launched_functions(graph.llvm_modules[-1])
    names = [*dict.fromkeys(launched), ENTRY]
    llvm = {}
    for text in graph.llvm_modules:
        llvm.update(split_llvm(text))
    machine = split_assembly(graph.assembly_text(), names)
    return launched, [{"name": name, "llvm": llvm[name], "assembly": machine[name]} for name in names]


def split_llvm(module: str) -> dict[str, str]:
    """The text of each function that a module defines."""
    found = re.finditer(r"^define [^@\n]*@([\w.]+)\(.*?^}$", module, re.MULTILINE | re.DOTALL)
    return {match[1]: match[0] for match in found}


def split_ptx(text: str, names: Iterable[str]) -> dict[str, str]:
    """The text of each named kernel."""
    found = {
        match[1]: match[0]
        for match in re.finditer(r"^\.visible \.entry (\w+)\(.*?^}$", text, re.MULTILINE | re.DOTALL)
    }
    return {name: found[name] for name in names}


def split_assembly(text: str, names: Iterable[str]) -> dict[str, str]:
    """The text of each named function: from its label to the next one's directives, with the constants before it.

    Labels may have the underscore before them that Mach-O wants.
    """
    wanted = set(names)
    found: dict[str, str] = {}
    constants: list[str] = []
    lines: list[str] = []
    name = ""
    for line in text.splitlines():
        label = re.match(r"_?([\w.$]+):", line)
        if label and label[1] in wanted and label[1] not in found:
            name, lines = label[1], [*constants, line]
            constants = []
        elif name and re.match(r"(\.?Lfunc_end\d+:|\t\.(globl|section|size)\b)", line):
            found[name] = "\n".join(lines)
            name = ""
        elif name:
            lines.append(line)
        elif re.match(r"\.?L?CPI\w*:|\.LCPI\w*:|\t\.(long|quad|short|byte|zero|ascii|asciz)\b", line):
            constants.append(line)
    if name:
        found[name] = "\n".join(lines)
    missing = wanted - found.keys()
    if missing:
        raise RuntimeError(f"the assembly has no function {', '.join(sorted(missing))}")
    return found
