"""The loop IR of GPU kernels: what the verifier refuses and says, where barriers stand, the PTX of two kernels."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llvmlite.binding import llvm_version_info
from lowering import f32, graph_of
from ptx_checks import emitted

from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.barriers import barriers
from vitrify.codegen.loops.nodes import (
    Apply,
    Buffer,
    CopyAsync,
    CopyWait,
    Expr,
    For,
    If,
    Index,
    Kernel,
    LaneReduce,
    Load,
    MultiplyGroup,
    MultiplyTile,
    Shuffle,
    Stmt,
    Store,
)
from vitrify.codegen.loops.printer import print_kernel
from vitrify.codegen.loops.verify import LoopError, verify_kernel
from vitrify.codegen.scalar import SCALAR as S
from vitrify.ir import dims, dtypes
from vitrify.ir.types import TensorType

GOLDEN = Path(__file__).parent.parent / "golden"
F32 = dtypes.f32
X, Y = Buffer("x", F32, (2, 64)), Buffer("y", F32, (2, 64))
TILE = Buffer("tile", F32, (64,), "shared")
ACC, OTHER = Buffer("acc", F32, (64, 2), "thread"), Buffer("other", F32, (64, 2), "thread")
B, T, U = dims.symbol("b", 0, 1), dims.symbol("t", 0, 63), dims.symbol("u", 0, 1)


def kernel(*body: Stmt, **changes: object) -> Kernel:
    grid = For("b", 2, body, "block")
    made = Kernel("k", (X, Y), frozenset({"y"}), (grid,), (), (TILE, ACC, OTHER))
    return replace(made, **changes)  # type: ignore[arg-type]


def each(*body: Stmt, extent: int = 64, var: str = "t") -> For:
    return For(var, extent, body, "thread")


def put(value: Expr) -> Store:
    return Store(Y, (B, T), value)


ZERO = S.cast(Index(0), F32)
KEEP = Store(ACC, (T, 0), Load(X, (B, T)))

REFUSED = {
    "thread loop outside": (
        kernel(body=(each(Store(Y, (0, T), ZERO)),), locals=()),
        "a thread loop stands inside the block loop",
    ),
    "nested": (kernel(each(each(put(ZERO), var="s"))), "it is inside the thread loop t"),
    "extents": (kernel(each(put(ZERO)), each(put(ZERO), extent=32)), "one extent: 32, 64"),
    "symbolic": (
        kernel(For("t", dims.symbol("b", 0, 1), (), "thread")),
        "a block has 1 to 1024 threads, a known number, not b",
    ),
    "store outside": (kernel(Store(Y, (B, 0), ZERO), each(put(ZERO))), "stores inside thread loops only"),
    "vector": (
        kernel(each(For("v", 2, (put(ZERO),), "vector", 2))),
        "a GPU kernel has no vector loops",
    ),
    "lanes": (
        kernel(each(put(LaneReduce("add", "v", 2, ZERO)))),
        "a GPU kernel has no lane reductions",
    ),
    "stack": (
        kernel(each(put(ZERO)), locals=(Buffer("s", F32, (4,), "stack"),)),
        "must be in one of the spaces shared, thread",
    ),
    "another's register": (
        kernel(each(KEEP), each(put(Load(ACC, (T + 1, 0))))),
        "the first index of acc must be the thread's number, not t+1",
    ),
    "moving register": (
        kernel(each(For("i", 2, (Store(ACC, (T, dims.symbol("i", 0, 1)), ZERO),)))),
        "its index i must be a constant once unrolled",
    ),
    "shuffle of what is written": (
        kernel(each(KEEP, Store(OTHER, (T, 0), Shuffle(Load(ACC, (T, 0)), 1)))),
        "a shuffle of acc, which the same thread loop stores to",
    ),
    "shuffle beyond the warp": (
        kernel(each(KEEP), each(put(Shuffle(Load(ACC, (T, 0)), 32)))),
        "a shuffle by 32 among 64 threads",
    ),
    "shuffle of memory": (
        kernel(each(put(Shuffle(Load(X, (B, T)), 1)))),
        "a shuffle reads registers of other threads",
    ),
    "shuffle in a branch": (
        kernel(each(KEEP), each(If(S.lt(Index(T), 3), (put(Shuffle(Load(ACC, (T, 0)), 1)),)))),
        "a shuffle where not all threads need be",
    ),
    "fragment": (
        kernel(each(MultiplyTile(Load(ACC, (T, 0)), Load(OTHER, (T, 0)), Load(OTHER, (T, 0))))),
        "no fragment of 4 f32 in registers",
    ),
    "group of float32": (
        kernel(
            each(KEEP), each(MultiplyGroup(Load(ACC, (T, 0)), Load(OTHER, (T, 0)), Load(TILE, (0,)), 8, 16))
        ),
        "warpgroups multiply f16 and bf16 here, not f32 by f32",
    ),
    "operation of GPUs": (
        kernel(each(Store(ACC, (T, 0), Apply("exp2_fast", (Index(T),), F32)))),
        "exp2_fast is an operation of GPUs on f32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_refused(name):
    made, message = REFUSED[name]
    with pytest.raises(LoopError, match=re.escape(message)):
        verify_kernel(made)


def test_a_shuffle_reads_what_was_there_before():
    """Neighbours exchange: in threads' order, the second would otherwise read what the first has just written."""
    exchange = each(Store(OTHER, (T, 0), Shuffle(Load(ACC, (T, 0)), 1)))
    made = kernel(each(KEEP), exchange, each(put(Load(OTHER, (T, 0)))))
    verify_kernel(made)
    x, y = np.arange(128, dtype=np.float32).reshape(2, 64), np.zeros((2, 64), np.float32)
    assert interpreter.run_kernel(made, [x, y]) == 0
    np.testing.assert_array_equal(y, x.reshape(2, 32, 2)[:, :, ::-1].reshape(2, 64))


def test_a_block_does_not_see_the_shared_memory_of_another():
    first = If(S.lt(Index(B), 1), (each(Store(TILE, (T,), ZERO)),))
    with pytest.raises(LoopError, match="is read before it is written"):
        interpreter.run_kernel(
            kernel(first, each(put(Load(TILE, (T,))))), [np.zeros((2, 64), np.float32) for _ in range(2)]
        )


def test_barriers_stand_where_memory_is_passed_on():
    fill = each(Store(TILE, (T,), Load(X, (B, T))))
    use = each(Store(ACC, (T, 0), Load(TILE, (63 - T,))))
    own = each(Store(OTHER, (T, 0), Load(ACC, (T, 0))))
    assert barriers(kernel(fill, own, use, own)) == {id(use)}
    assert barriers(kernel(own, own)) == set()
    # Around a loop: the next turn overwrites what this one reads.
    assert barriers(kernel(For("i", 4, (fill, use)))) == {id(fill), id(use)}


def test_copies_are_read_behind_the_wait_for_them():
    copy = each(CopyAsync(Load(TILE, (T,)), Load(X, (B, T)), 4))
    wait, use = each(CopyWait(0)), each(Store(ACC, (T, 0), Load(TILE, (63 - T,))))
    assert barriers(kernel(copy, wait, use)) == {id(use)}
    # What is read before the wait are other elements, such as those of the stage before.
    assert barriers(kernel(copy, use, wait)) == set()
    # The next copy waits for those that read, whether it is made or not; then what came before it is there, too.
    more = If(S.lt(Index(B), 1), (copy,))
    assert barriers(kernel(copy, For("i", 4, (wait, more, use)))) == {id(more)}
    # A loop waits as a whole.
    turns = For("u", 2, (use,), "unroll")
    assert barriers(kernel(copy, wait, turns)) == {id(turns)}


WEIGHT = TensorType((64, 64), dtypes.bf16)
PTX = {
    "bias_relu": (
        "sm_80",
        lambda: graph_of(lambda F, x, b: F.relu(F.add(x, b)), f32(8, 64), f32(64)),
    ),
    "row_sum": ("sm_80", lambda: graph_of(lambda F, x: F.sum(x, dims=(1,), keepdim=False), f32(4, 32))),
    "warpgroups": ("sm_90a", lambda: graph_of(lambda F, a, b: F.matmul(a, b), WEIGHT, WEIGHT)),
}


@pytest.mark.parametrize("name", PTX)
def test_golden_ptx(name, request):
    """What LLVM makes of some kernels: a change of the emitter shows here. Another LLVM may write another text."""
    arch, make = PTX[name]
    made = emitted(make(), arch)
    version = ".".join(map(str, llvm_version_info))
    kernels = "\n".join(print_kernel(x.kernel) for x in made.program.launches)
    text = f"# LLVM {version}\n{kernels}\n{made.text}"
    path = GOLDEN / f"{name}.ptx"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    stored = path.read_text()
    if not stored.startswith(f"# LLVM {version}\n"):
        pytest.skip(f"{path.name} was written with another LLVM than {version}")
    if text != stored:
        difference = "".join(difflib.unified_diff(stored.splitlines(True), text.splitlines(True)))
        pytest.fail(f"{path.name}:\n{difference}\nIf this is meant: pytest --update-golden", pytrace=False)
