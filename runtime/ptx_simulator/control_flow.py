"""From a function's statements to basic blocks: calls inlined, guards made branches, post-dominators.

A branch that parts the threads runs its ways one after another until they meet again: at the branch's immediate
post-dominator, the first block that every way to the exit goes through (PTX ISA, "Control Flow Instructions": where
threads reconverge is left open; this is where hardware does at the latest). Barriers end a block too, since threads
may have to wait there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import networkx as nx

from .errors import PtxError
from .syntax import (
    Address,
    Function,
    Group,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
    Vector,
)

EXIT = -1  # the block after `ret`
_MAX_INLINED = 200_000  # statements


@dataclass
class Block:
    """Instructions without a branch among them; the last one may be the terminator that `successors` belong to."""

    instructions: list[Instruction] = field(default_factory=list)
    terminator: Instruction | None = None
    # For a conditional branch (target, next); for brx.idx its table; else the next block.
    successors: tuple[int, ...] = ()
    post_dominator: int = EXIT


@dataclass
class Flow:
    """A kernel as blocks; block 0 is the entry. `registers` and `variables` are those of inlined functions too."""

    blocks: list[Block]
    registers: dict[str, str]
    variables: list[Variable]


def build_flow(module: Module, kernel: Function, ends_block: Callable[[Instruction], bool]) -> Flow:
    """Blocks of a kernel. `ends_block` says which instructions (barriers) end a block besides branches."""
    body, registers, variables = _inline(module, kernel)
    blocks = _blocks(_without_guards(body), kernel, ends_block)
    _post_dominators(blocks)
    return Flow(blocks, registers, variables)


# Calls.


def _inline(
    module: Module, kernel: Function
) -> tuple[list[Instruction | Label], dict[str, str], list[Variable]]:
    registers, variables = dict(kernel.registers), list(kernel.variables)
    count = 0
    total = 0

    def expand(
        function: Function, rename: Callable[[str], str], end: str | None, stack: tuple[str, ...]
    ) -> list[Instruction | Label]:
        nonlocal count, total
        found: list[Instruction | Label] = []
        for item in function.body:
            total += 1
            if total > _MAX_INLINED:
                raise PtxError(item.line, f"more than {_MAX_INLINED} statements after inlining calls")
            if isinstance(item, Label):
                found.append(Label(rename(item.name), item.line))
                continue
            if function is not kernel:
                item = _renamed(item, rename)
            name = item.opcode[0]
            if name == "ret" and end is not None:
                found.append(replace(item, opcode=("bra",), operands=(Symbol(end),)))
            elif name == "brx":
                label = item.operands[1]
                if not isinstance(label, Symbol) or label.name not in function.tables:
                    raise PtxError(item.line, f"no branch targets of that name: {item}")
                targets = tuple(Symbol(rename(x)) for x in function.tables[label.name])
                found.append(replace(item, operands=(item.operands[0], Group(targets))))
            elif name == "call":
                count += 1
                found += call(item, stack, f"call{count}#")
            else:
                found.append(item)
        return found

    def call(item: Instruction, stack: tuple[str, ...], prefix: str) -> list[Instruction | Label]:
        operands = list(item.operands)
        results: tuple[Operand, ...] = ()
        if isinstance(operands[0], Group):
            results = operands.pop(0).elements  # type: ignore[union-attr]
        callee_name, arguments = operands[0], operands[1] if len(operands) > 1 else Group(())
        if not isinstance(callee_name, Symbol) or len(operands) > 2:
            raise PtxError(item.line, "indirect calls are not supported")
        callee = module.functions.get(callee_name.name)
        if callee is None or not callee.defined:
            raise PtxError(item.line, f"call of {callee_name.name}, which the module does not define")
        if callee.name in stack:
            raise PtxError(item.line, f"recursive call of {callee.name}: recursion is not supported")
        assert isinstance(arguments, Group)
        given = (*results, *arguments.elements)
        wanted = (*callee.results, *callee.parameters)
        if len(given) != len(wanted) or not all(isinstance(x, Symbol) for x in given):
            raise PtxError(item.line, f"{callee.name} takes and returns {len(wanted)} .param variables")
        names = {p.name: g.name for p, g in zip(wanted, given, strict=True) if isinstance(g, Symbol)}
        labels = {x.name for x in callee.body if isinstance(x, Label)}
        private = labels | set(callee.registers) | {v.name for v in callee.variables if v.space != "shared"}

        def rename(name: str) -> str:
            return names[name] if name in names else prefix + name if name in private else name

        for register, kind in callee.registers.items():
            registers[prefix + register] = kind
        known = {v.name for v in variables}
        for variable in callee.variables:
            if rename(variable.name) not in known:
                variables.append(replace(variable, name=rename(variable.name)))
        end = prefix + "return"
        body = expand(callee, rename, end, (*stack, callee.name))
        return _under_guard(item, [*body, Label(end, item.line)], prefix)

    return expand(kernel, lambda name: name, None, (kernel.name,)), registers, variables


def _under_guard(
    item: Instruction, body: list[Instruction | Label], prefix: str
) -> list[Instruction | Label]:
    if item.guard is None:
        return body
    skip = prefix + "skip"
    jump = Instruction(("bra",), (Symbol(skip),), item.line, item.guard, not item.guard_negated)
    return [jump, *body, Label(skip, item.line)]


def _renamed(item: Instruction, rename: Callable[[str], str]) -> Instruction:
    def of(operand: Operand) -> Operand:
        match operand:
            case Register(name):
                return Register(rename(name))
            case Symbol(name, offset):
                return Symbol(rename(name), offset)
            case Address(base, offset, coordinates):
                new = of(base)
                assert isinstance(new, type(base))
                return Address(new, offset, tuple(of(x) for x in coordinates))
            case Vector(elements):
                return Vector(tuple(of(x) for x in elements))
            case Group(elements):
                return Group(tuple(of(x) for x in elements))
            case Negated(inner):
                return Negated(Register(rename(inner.name)))
            case Pair(first, second):
                return Pair(of(first), of(second))  # type: ignore[arg-type]
        return operand

    guard = Register(rename(item.guard.name)) if item.guard else None
    return replace(item, operands=tuple(of(x) for x in item.operands), guard=guard)


# Blocks.


def _without_guards(body: list[Instruction | Label]) -> list[Instruction | Label]:
    """`@p op` as a branch around `op`."""
    found: list[Instruction | Label] = []
    for number, item in enumerate(body):
        if isinstance(item, Label) or item.guard is None or item.opcode[0] == "bra":
            found.append(item)
            continue
        skip = f"guard{number}#"
        found.append(Instruction(("bra",), (Symbol(skip),), item.line, item.guard, not item.guard_negated))
        found.append(replace(item, guard=None, guard_negated=False))
        found.append(Label(skip, item.line))
    return found


def _blocks(
    body: list[Instruction | Label], function: Function, ends_block: Callable[[Instruction], bool]
) -> list[Block]:
    blocks, labels = [Block()], {}
    open_ends: list[tuple[int, Instruction]] = []
    for item in body:
        current = blocks[-1]
        if isinstance(item, Label):
            if current.instructions or current.terminator:
                blocks.append(Block())
            if item.name in labels:
                raise PtxError(item.line, f"the label {item.name} is defined twice")
            labels[item.name] = len(blocks) - 1
            continue
        if current.terminator is not None:
            blocks.append(Block())
            current = blocks[-1]
        if item.opcode[0] in ("bra", "brx", "ret", "exit", "trap") or ends_block(item):
            current.terminator = item
            open_ends.append((len(blocks) - 1, item))
        else:
            current.instructions.append(item)
    if blocks[-1].terminator is None:
        end = Instruction(("ret",), (), function.line)
        blocks[-1].terminator = end
        open_ends.append((len(blocks) - 1, end))
    elif any(number == len(blocks) for number in labels.values()):
        blocks.append(Block(terminator=Instruction(("ret",), (), function.line)))

    def place(operand: Operand, line: int) -> int:
        if not isinstance(operand, Symbol) or operand.name not in labels:
            raise PtxError(line, f"branch to an unknown label {getattr(operand, 'name', operand)}")
        return labels[operand.name]

    for number, block in enumerate(blocks):
        last = block.terminator
        following = number + 1 if number + 1 < len(blocks) else EXIT
        if last is None:
            block.successors = (following,)
        elif last.opcode[0] == "bra":
            target = place(last.operands[0], last.line)
            block.successors = (target,) if last.guard is None else (target, following)
        elif last.opcode[0] == "brx":
            assert isinstance(last.operands[1], Group)
            block.successors = tuple(place(x, last.line) for x in last.operands[1].elements)
        elif last.opcode[0] in ("ret", "exit") or last.opcode[0] == "trap":
            block.successors = (EXIT,)
        else:
            block.successors = (following,)
    return blocks


def _post_dominators(blocks: list[Block]) -> None:
    """Each block's immediate post-dominator: the dominators of the reversed graph, from the exit."""
    graph = nx.DiGraph()
    graph.add_node(EXIT)
    for number, block in enumerate(blocks):
        for successor in block.successors:
            graph.add_edge(successor, number)
    found = nx.immediate_dominators(graph, EXIT)
    for number, block in enumerate(blocks):
        parent = found.get(number, EXIT)  # a block in an endless loop has none
        block.post_dominator = EXIT if parent is None else parent
