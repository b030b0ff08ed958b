"""The thread pool: every iteration exactly once, whatever threads come, late or not at all."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from vitrify.codegen.llvm import thread_pool
from vitrify.codegen.loops.nodes import Buffer, Const, For, Kernel, Launch, Load, Program, Store
from vitrify.codegen.scalar import SCALAR as S
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.runtime import loading
from vitrify.runtime.execute import compile_program, run_program

ROWS = dims.Dim("rows", 0, 1 << 20)
WIDTH = 64


def increments(launches: int) -> Program:
    """counts += 1, `launches` times: an iteration that is left out or done twice shows."""
    x, y = Buffer("x", dtypes.i64, (ROWS, WIDTH)), Buffer("counts", dtypes.i64, (ROWS, WIDTH))
    i, j, v = dims.symbol("i", 0, (1 << 20) - 1), dims.symbol("j", 0, 7), dims.symbol("v", 0, 7)
    at = (i, 8 * j + v)

    def kernel(value: object) -> Kernel:
        vector = For("v", 8, (Store(y, at, value),), "vector", 8)  # type: ignore[arg-type]
        loop = For("i", ROWS, (For("j", 8, (vector,)),), "parallel")
        return Kernel("count", (x, y), frozenset({"counts"}), (loop,), dims.symbols(ROWS), (), 4096)

    first = Launch(kernel(S.add(Load(x, at), Const(1, dtypes.i64))), (x, y))
    again = Launch(kernel(S.add(Load(y, at), Const(1, dtypes.i64))), (x, y))
    return Program("counting", (x,), (y,), (), (first, *[again] * (launches - 1)), dims.symbols(ROWS))


@pytest.fixture(scope="module")
def counting() -> tuple[Program, loading.LoadedProgram]:
    program = increments(50)
    return program, compile_program(program)


def count(counting: tuple[Program, loading.LoadedProgram], rows: int, threads: int) -> None:
    program, native = counting
    (got,) = run_program(program, [np.zeros((rows, WIDTH), np.int64)], {"rows": rows}, threads, loaded=native)
    assert (got == 50).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [0, 1, 2, 17, 300])
def test_every_iteration_runs_once(counting, rows: int, threads: int) -> None:  # type: ignore[no-untyped-def]
    for _ in range(5):
        count(counting, rows, threads)


def test_workers_are_started_when_they_are_first_needed(counting) -> None:  # type: ignore[no-untyped-def]
    count(counting, 40, 4)
    assert 3 <= loading.pool_workers() <= thread_pool.MAX_WORKERS


def test_python_threads_may_run_at_the_same_time(counting) -> None:  # type: ignore[no-untyped-def]
    failures: list[BaseException] = []

    def body() -> None:
        try:
            for _ in range(30):
                count(counting, 64, 2)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def _in_child(counting, queue, children) -> None:  # type: ignore[no-untyped-def]
    before = loading.pool_workers()
    count(counting, 64, 2)
    queue.put((before, loading.pool_workers()))
    if children:
        child = multiprocessing.get_context("fork").Process(
            target=_in_child, args=(counting, queue, children - 1)
        )
        child.start()
        child.join(timeout=60)
        assert child.exitcode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_workers_of_its_own(counting) -> None:  # type: ignore[no-untyped-def]
    count(counting, 64, 3)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(counting, queue, 1))
    child.start()
    counts = [queue.get(timeout=60) for _ in range(2)]
    child.join(timeout=60)
    assert child.exitcode == 0
    assert counts == [(0, 1), (0, 1)]  # the child's and its child's
    count(counting, 64, 3)


AFFINITIES = """
import os, sys
import vitrify
from vitrify.runtime import loading

if sys.argv[1:]:
    os.sched_setaffinity(0, {int(sys.argv[1])})
vitrify.set_num_threads(2)  # of NumPy's BLAS library, too, which may start one at once
before = set(os.listdir("/proc/self/task"))
x = vitrify.rand(512, 512)
product = vitrify.compile(lambda x: x @ x)
for _ in range(20):
    product(x)
assert loading.pool_workers() == 1
print(*({len(os.sched_getaffinity(int(t))) for t in set(os.listdir("/proc/self/task")) - before}))
"""


def _affinities(*arguments: int) -> str:
    words = [sys.executable, "-c", AFFINITIES, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux's affinities")
def test_workers_keep_off_their_callers_cpu() -> None:
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one CPU")
    # While a caller lends its CPU, that is all a worker may use.
    assert _affinities() in {str(len(allowed) - 1), "1"}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux's affinities")
def test_one_cpu_is_shared() -> None:
    assert _affinities(min(os.sched_getaffinity(0))) == "1"


def test_there_is_a_pool_for_both_architectures() -> None:
    for name in ("x86-64-avx2", "aarch64-neon"):
        assert thread_pool.POOL_RUN in thread_pool.pool_module(Target.named(name))
