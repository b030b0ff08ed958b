"""Which public names a sample calls, and through which of them its inputs' gradients flow."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from .table import Sample

_OPERATORS: dict[type, tuple[str, ...]] = {
    ast.Add: ("add", "radd"), ast.Sub: ("sub", "rsub"), ast.Mult: ("mul", "rmul"), ast.Div: ("truediv", "rdiv"),
    ast.FloorDiv: ("floordiv",), ast.Mod: ("mod",), ast.Pow: ("pow", "rpow"), ast.MatMult: ("matmul",),
    ast.BitAnd: ("and",), ast.BitOr: ("or",), ast.BitXor: ("xor",), ast.LShift: ("lshift",), ast.RShift: ("rshift",),
    ast.USub: ("neg",), ast.Invert: ("invert",), ast.UAdd: ("pos",), ast.Eq: ("eq",), ast.NotEq: ("ne",),
    ast.Lt: ("lt",), ast.LtE: ("le",), ast.Gt: ("gt",), ast.GtE: ("ge",),
}  # fmt: skip


@dataclass
class NamesOfSample:
    """Public name (`torch.nn.functional.relu`, `torch.Tensor.abs_`) -> the inputs that its operands are made of."""

    found: dict[str, set[str]] = field(default_factory=dict)

    def add(self, name: str, inputs: set[str]) -> None:
        self.found.setdefault(name, set()).update(inputs)


def names_of(sample: Sample) -> dict[str, set[str]]:
    """The public names in the sample, each with the names of the variables that reach it; a module's parameters count
    as the variable `parameter`."""
    visitor = _Visitor()
    if sample.kind == "module":
        module, arguments = (part.strip() for part in sample.text.split("<-"))
        tree = ast.parse(f"f({arguments})").body[0]
        visitor.visit(tree)
        inputs = visitor.inputs(tree)
        visitor.held = inputs | {"parameter"}
        visitor.visit(ast.parse(module))
    else:
        visitor.visit(ast.parse(sample.text))
    return visitor.names.found


class _Visitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.names = NamesOfSample()
        self.made_of: dict[str, set[str]] = {}
        # What reaches every call in the text: a module's arguments.
        self.held: set[str] = set()

    def inputs(self, node: ast.AST) -> set[str]:
        """The variables the node's value depends on, followed through assignments."""
        found = set(self.held)
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id not in ("torch", "np"):
                found |= self.made_of.get(part.id, {part.id})
        return found

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    known = self.made_of.get(part.id, set()) if isinstance(target, ast.Subscript) else set()
                    self.made_of[part.id] = known | self.inputs(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            self.names.add(_name(node.func), self.inputs(node))
            self.visit(node.func.value)
            for argument in [*node.args, *node.keywords]:
                self.visit(argument)
        else:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.names.add(_name(node), self.inputs(node))
        if not _name(node).startswith("torch.") or _name(node).startswith("torch.Tensor."):
            self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._operator(node.op, node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self._operator(node.op, node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for op in node.ops:
            self._operator(op, node)

    def _operator(self, op: ast.AST, node: ast.AST) -> None:
        inputs = self.inputs(node)
        for method in _OPERATORS.get(type(op), ()):
            if inputs:
                self.names.add(f"torch.Tensor.__{method}__", inputs)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        method = "__setitem__" if isinstance(node.ctx, ast.Store) else "__getitem__"
        self.names.add(f"torch.Tensor.{method}", self.inputs(node))
        self.generic_visit(node)


def _name(node: ast.Attribute) -> str:
    """`torch.a.b` for an attribute chain from torch, `torch.Tensor.b` for one of anything else."""
    parts = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name) and inner.id == "torch":
        return ".".join(["torch", *reversed(parts)])
    return f"torch.Tensor.{node.attr}"
