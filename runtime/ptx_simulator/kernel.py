"""A kernel ready to run: decoded blocks, live registers, the layout of its variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import barriers, branches
from .control_flow import EXIT, Flow, build_flow
from .decode import Decoded, Decoder, Layout
from .executor import Frame, Registers, Step
from .syntax import Function, Module, Variable


@dataclass
class CodeBlock:
    """A basic block: steps, then `end`, which says whether the frame goes on."""

    steps: list[Step]
    end: Callable[[Frame], bool]
    live_in: tuple[int, ...]
    exits: bool  # it ends with `ret` or `exit`


@dataclass
class Kernel:
    name: str
    blocks: list[CodeBlock]
    constants: Registers
    static_shared: int
    local_bytes: int
    parameters: tuple[Variable, ...]
    parameter_offsets: dict[str, tuple[int, int]]
    limits: dict[str, tuple[int, ...]]


def build_kernel(module: Module, function: Function, addresses: dict[str, int]) -> Kernel:
    """Decode a kernel; `addresses` are those of the module's .global and .const variables. PtxError names an unknown
    instruction."""
    flow = build_flow(module, function, barriers.ends_block)
    shared, static_shared = _shared_layout(module, flow)
    local, local_bytes = _local_layout(flow)
    offsets, at = {}, 0
    for parameter in function.parameters:
        at = -(-at // parameter.align) * parameter.align
        offsets[parameter.name] = (at, parameter.size or 0)
        at += parameter.size or 0
    decoder = Decoder(flow.registers, Layout({**addresses, **shared}, local, offsets))
    decoded: list[Decoded] = []
    ends: list[Callable[[Frame], bool]] = []
    for block in flow.blocks:
        decoder.block = Decoded()
        for item in block.instructions:
            decoder.decode(item)
        ends.append(branches.end_of(decoder, block))
        decoded.append(decoder.block)
    live = _live_registers(flow, decoded)
    blocks = [
        CodeBlock(code.steps, end, tuple(sorted(needed)), block.successors == (EXIT,))
        for block, code, end, needed in zip(flow.blocks, decoded, ends, live, strict=True)
    ]
    return Kernel(
        function.name,
        blocks,
        decoder.constants,
        static_shared,
        local_bytes,
        tuple(function.parameters),
        offsets,
        function.limits,
    )


def _shared_layout(module: Module, flow: Flow) -> tuple[dict[str, int], int]:
    """Offsets of .shared variables; those without a size (`extern .shared x[]`) all begin where the others end."""
    variables = [v for v in (*module.variables.values(), *flow.variables) if v.space == "shared"]
    offsets, at = {}, 0
    for variable in variables:
        if variable.size is not None:
            at = -(-at // variable.align) * variable.align
            offsets[variable.name] = at
            at += variable.size
    open_ended = [v for v in variables if v.size is None]
    if open_ended:
        align = max(16, *(v.align for v in open_ended))
        at = -(-at // align) * align
        offsets.update({v.name: at for v in open_ended})
    return offsets, at


def _local_layout(flow: Flow) -> tuple[dict[str, int], int]:
    """Offsets of .local variables and of the .param variables of calls, which live there too."""
    offsets, at = {}, 0
    for variable in flow.variables:
        if variable.space in ("local", "param"):
            at = -(-at // variable.align) * variable.align
            offsets[variable.name] = at
            at += variable.size or 0
    return offsets, at


def _live_registers(flow: Flow, decoded: list[Decoded]) -> list[set[int]]:
    """The registers that each block may read before it writes them, those of what follows included."""
    needs, writes = [], []
    for code in decoded:
        read: set[int] = set()
        written: set[int] = set()
        for sources, targets in code.uses:
            read.update(x for x in sources if x not in written)
            written.update(targets)
        needs.append(read)
        writes.append(written)
    live = [set(x) for x in needs]
    changed = True
    while changed:
        changed = False
        for number in range(len(flow.blocks) - 1, -1, -1):
            after: set[int] = set()
            for successor in flow.blocks[number].successors:
                if successor != EXIT:
                    after |= live[successor]
            new = needs[number] | (after - writes[number])
            if len(new) > len(live[number]):
                live[number] = new
                changed = True
    return live
