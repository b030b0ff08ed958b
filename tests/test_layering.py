"""Imports run one way: ir <- passes <- codegen <- runtime <- frontend."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("ir", "passes", "codegen", "runtime", "frontend")
PACKAGE = "vitrify"
FILES = sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def package_of(path: Path) -> list[str]:
    """The package that a file's relative imports start from: `ir/ops/views.py` is in `vitrify.ir.ops`."""
    parts = list(path.parent.parts)
    return [PACKAGE, *(parts[1:] if parts[0] == "frontend" else parts)]


def layer_of(module: list[str]) -> str | None:
    """The layer of a module, by its dotted name; None for a module of someone else's."""
    if module[:1] != [PACKAGE]:
        return None
    return module[1] if len(module) > 1 and module[1] in LAYERS[:-1] else "frontend"


def imports(path: Path) -> Iterator[tuple[list[str], int, bool]]:
    """Each module that a file imports, by its full name, with the line and whether it is inside a
    function."""
    for node, inside in statements(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split("."), node.lineno, inside
        elif isinstance(node, ast.ImportFrom):
            package = package_of(path)
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield [*base, alias.name], node.lineno, inside


def statements(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Whatever may hold a statement, with whether it is inside a function."""
    yield node, inside
    inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield from statements(child, inside)


def faults(path: Path) -> list[str]:
    found = []
    here = path.parts[0]
    for module, line, inside in imports(path):
        there = layer_of(module)
        if there is None:
            continue
        name = ".".join(module)
        if LAYERS.index(there) > LAYERS.index(here):
            found.append(f"{path}:{line}: {here} imports {name}, which is in a layer above it ({there})")
        elif inside:
            found.append(f"{path}:{line}: imports {name} inside a function; import it at the top")
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_itself_and_those_below(layer):
    assert [fault for path in FILES if path.parts[0] == layer for fault in faults(path)] == []


def test_the_test_sees_what_it_should(tmp_path, monkeypatch):
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes" / "bad.py").write_text(
        "from ..ir import graph\nfrom ..codegen.loops import nodes\nimport vitrify.nn\n"
        "from .. import runtime\ndef f():\n    from ..ir.graph import Graph\n    import networkx\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    lines = [int(fault.split(":")[1]) for fault in faults(Path("passes/bad.py"))]
    assert lines == [2, 3, 4, 6]


def test_importing_the_package_loads_no_heavy_library():
    heavy = ("networkx", "llvmlite", "matplotlib", "hypothesis")
    code = f"import sys, vitrify; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
