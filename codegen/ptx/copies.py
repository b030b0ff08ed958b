"""Copies from global to shared memory that a thread asks for and does not wait for (PTX ISA, "Asynchronous Copy")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ir import dtypes
from ..loops.nodes import CopyAsync, CopyWait
from .warpgroup import swizzled_place

if TYPE_CHECKING:
    from .emit import PtxEmitter


def copy_async(e: PtxEmitter, stmt: CopyAsync) -> None:
    """cp.async of 16 bytes, of which none are read where the condition does not hold."""
    w = e.w
    size, source = "16", e.address(stmt.source)
    if stmt.condition is not None:
        holds = e.expressions.value(stmt.condition)
        if holds.text != "true":
            size = w.pure(f"select {holds}, i32 16, i32 0", holds.level, dtypes.i32).text
            source = e.memory.guarded_pointer(source, holds)
    if stmt.target.buffer in e.swizzled:
        place = swizzled_place(e, stmt.target)
        cast = f"inttoptr i32 {place.text} to ptr addrspace(3)"
        target = w.pure(cast, place.level, dtypes.i64, cheap=True).text
    else:
        target = e.in_space(e.address(stmt.target), 3)
    name = "@llvm.nvvm.cp.async.cg.shared.global.16.s"
    w.declare(name, f"declare void {name}(ptr addrspace(3), ptr addrspace(1), i32)")
    w.line(
        f"call void {name}(ptr addrspace(3) {target}, ptr addrspace(1) {e.in_space(source, 1)}, i32 {size})"
    )


def commit_copies(e: PtxEmitter) -> None:
    """Those asked for since the last commit are one group."""
    e.call("@llvm.nvvm.cp.async.commit.group")


def wait_for_copies(e: PtxEmitter, stmt: CopyWait) -> None:
    """Until no more than so many groups are under way."""
    e.call("@llvm.nvvm.cp.async.wait.group", f"i32 {stmt.pending}")
    if e.swizzled:  # warpgroups read past what orders other accesses
        e.w.line(
            'call void asm sideeffect "fence.proxy.async.shared::cta;", "~{memory}"() convergent nounwind'
        )
