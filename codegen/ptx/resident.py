"""Block loops that are shared among the blocks of a resident kernel: which iteration is whose, and what it keeps."""

from __future__ import annotations

from dataclasses import replace

from ...ir import dims
from ...ir.dims import DimLike
from ..loops.moved import moved
from ..loops.nodes import Buffer, For, Kernel, Stmt


def turn_name(loop: For) -> str:
    """The name of the number of a block's turn in a block loop."""
    return f"{loop.var}.turn"


def turn_of(loop: For, resident: int) -> tuple[DimLike, DimLike]:
    """The number of a block's turn, as an index, and how many there are."""
    turns = dims.floordiv(loop.extent + (resident - 1), resident)
    if turns == 1:
        return 0, 1
    return dims.symbol(turn_name(loop), 0, max(0, dims.bounds(turns)[1] - 1)), turns


def by_turns(kernel: Kernel) -> Kernel:
    """The kernel with shared memory for its resident buffers, which has what the block itself has in them, by turn."""
    own: dict[Buffer, Buffer] = {}
    for buffer in kernel.locals:
        if buffer.space == "resident":
            blocks = buffer.shape[0]
            assert isinstance(blocks, int)
            shape = (-(-blocks // kernel.resident), *buffer.shape[1:])
            own[buffer] = Buffer(buffer.name, buffer.dtype, shape, "shared")

    def blocks_in(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(of(stmt) for stmt in body)

    def of(stmt: Stmt) -> Stmt:
        if not isinstance(stmt, For) or stmt.kind == "thread":
            return stmt
        if stmt.kind != "block":
            return replace(stmt, body=blocks_in(stmt.body))
        turn, _ = turn_of(stmt, kernel.resident)

        def place(buffer: Buffer, index: tuple[DimLike, ...]) -> tuple[Buffer, tuple[DimLike, ...]]:
            return (own[buffer], (turn, *index[1:])) if buffer in own else (buffer, index)

        return replace(stmt, body=moved(stmt.body, place))

    if not own:
        return kernel
    return replace(kernel, body=blocks_in(kernel.body), locals=tuple(own.get(b, b) for b in kernel.locals))


__all__ = ["by_turns", "turn_name", "turn_of"]
