"""Many threads and processes at once, and what goes wrong half-way: state stays sound and the next call works."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify.codegen.llvm import compile as llvm_compile
from vitrify.runtime import disk_cache

STAGES = ("passes", "lower", "emit", "llvm")


def python(code: str, folder: Path, *words: str, status: int = 0) -> str:
    """What a fresh process prints, with its cache in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *words],
        env={**os.environ, "VITRIFY_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


# -- threads ------------------------------------------------------------------------------------------------------------


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """The results of `work(0)`, `work(1)` ..., all begun at the same moment in threads of their own."""
    gate = threading.Barrier(count)

    def begin(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_threads_share_the_first_call_of_a_function() -> None:
    @torch.compile
    def f(x: torch.Tensor) -> torch.Tensor:
        return (x * 3 + 1).tanh().sum(1)

    x = torch.randn(40, 30)
    wanted = (x * 3 + 1).tanh().sum(1)
    for found in at_once(8, lambda number: [f(x) for _ in range(20)]):
        assert all(torch.allclose(y, wanted, atol=1e-5) for y in found)


def test_threads_compile_functions_of_their_own() -> None:
    def work(number: int) -> float:
        f = torch.compile(lambda x: (x * number).exp().sum())
        return float(f(torch.full((1 + number,), 0.5)).item())

    wanted = [(1 + n) * float(np.exp(np.float32(0.5 * n))) for n in range(8)]
    np.testing.assert_allclose(at_once(8, work), wanted, rtol=1e-5)


def test_threads_train_models_of_their_own() -> None:
    def train(number: int) -> list[float]:
        generator = torch.Generator().manual_seed(number)
        x, y = torch.randn(16, 5, generator=generator), torch.randn(16, 1, generator=generator)
        model = nn.Linear(5, 1)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.full_like(p, 0.1 * number))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

        @torch.compile
        def step() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        return [step().item() for _ in range(10)]

    together = at_once(6, train)
    np.testing.assert_allclose(together, [train(n) for n in range(6)], rtol=1e-6)


def test_modules_that_other_threads_make_and_change_during_a_trace_are_no_changes_of_its_own() -> None:
    shared = nn.Linear(3, 3)

    def elsewhere() -> None:
        nn.Linear(2, 2)
        if not hasattr(shared, "mark"):
            shared.mark = True

    def step(x: torch.Tensor) -> torch.Tensor:
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        return shared(x)

    x = torch.ones(2, 3)
    assert torch.equal(torch.compile(step)(x), shared(x))


# -- processes ----------------------------------------------------------------------------------------------------------


@torch.compile
def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2 + x.sum()


def _in_child(values: list[float]) -> list[float]:
    return doubled(torch.tensor(values)).tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_run_what_the_parent_compiled(method: str) -> None:
    here = _in_child([1.0, 2.0])
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_in_child, [[1.0, 2.0], [3.0]]) == [here, [9.0]]


COMPILE = """
    import sys, vitrify as torch
    x = torch.arange(6.0).reshape(2, 3)
    f = torch.compile(lambda x: (x @ x.T).relu() + 1)
    print(f(x).tolist(), f.report().from_cache)
"""
RESULT = "[[6.0, 15.0], [15.0, 51.0]]"


def test_two_processes_share_an_empty_cache(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: python(COMPILE, tmp_path), range(2)))
    assert all(text.startswith(RESULT) for text in found)
    assert python(COMPILE, tmp_path) == f"{RESULT} True\n"


def test_a_process_killed_while_it_writes_the_cache(tmp_path: Path) -> None:
    killed = """
        import os, signal
        def die(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace = die
    """
    python(textwrap.dedent(killed) + textwrap.dedent(COMPILE), tmp_path, status=-signal.SIGKILL)
    assert any(p.is_file() for p in tmp_path.rglob("*")), "it was writing"
    assert python(COMPILE, tmp_path) == f"{RESULT} False\n"
    assert python(COMPILE, tmp_path) == f"{RESULT} True\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for it: writing fails half-way."""
    limited = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    """
    assert python(textwrap.dedent(limited) + textwrap.dedent(COMPILE), tmp_path) == f"{RESULT} False\n"
    assert python(COMPILE, tmp_path).startswith(RESULT)


# -- interruptions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_compile(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "load", lambda key: None)
    left = [stage]

    def progress(p: Any) -> None:
        if p.stage in left:
            left.clear()
            raise KeyboardInterrupt

    factor = 1.0 + STAGES.index(stage)  # a graph that no test has compiled before
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = (net(x) * factor).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    x = torch.ones(4, 3)
    before = [p.detach().clone() for p in net.parameters()]
    compiled = torch.compile(step, options={"progress": progress})
    with pytest.raises(KeyboardInterrupt):
        compiled(x)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before)), "nothing has happened"
    assert not left
    wanted = float((net(x) * factor).square().sum().item())
    assert compiled(x).item() == pytest.approx(wanted, rel=1e-5)
    assert not torch.equal(next(net.parameters()), before[0])


def test_signals_at_any_moment(tmp_path: Path) -> None:
    code = """
        import signal, vitrify as torch

        def interrupted(*args):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, interrupted)
        x = torch.arange(12.0).reshape(3, 4)
        hits = 0
        for number in range(30):
            net = torch.nn.Linear(4, 2)
            f = torch.compile(lambda x, n=number: (net(x) * n).exp().sum(0))
            signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.003 * number)
            try:
                f(x)
            except KeyboardInterrupt:
                hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            torch.testing.assert_close(f(x), (net(x) * number).exp().sum(0), rtol=1e-4, atol=1e-4)
        print(hits)
    """
    assert int(python(code, tmp_path)) > 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_the_memory_limit(tmp_path: Path) -> None:
    code = """
        import resource, vitrify as torch
        n = torch.Dim("n", 1, 1 << 20)
        f = torch.compile(lambda x: (x.unsqueeze(0) * x.unsqueeze(1)).softmax(1), dynamic_shapes={"x": {0: n}})
        small = torch.ones(3)
        expected = f(small).tolist()
        limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 28)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for size in (1 << 14, 1 << 16):
            try:
                f(torch.ones(size))
            except MemoryError as error:
                print("MemoryError", bool(str(error)))
            assert f(small).tolist() == expected
    """
    assert python(code, tmp_path) == "MemoryError True\n" * 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_the_memory_limit_while_compiling(tmp_path: Path) -> None:
    """LLVM ends the process where it gets no memory, and Python waits forever for a thread that cannot begin."""
    code = """
        import resource, vitrify as torch
        x = torch.ones(4, 4)
        torch.compile(lambda x: x + 1)(x)
        for number, megabytes in enumerate((0, 1, 2, 4, 8, 16)):
            f = torch.compile(lambda x: (x @ x).softmax(1) * number)
            size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + (megabytes << 20), -1))
            try:
                f(x)
                print("done")
            except MemoryError as error:
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
                print("MemoryError")
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
            assert torch.allclose(f(x), (x @ x).softmax(1) * number)
    """
    found = python(code, tmp_path).split()
    assert len(found) == 6 and set(found) <= {"done", "MemoryError"} and "MemoryError" in found


def test_compiling_without_room_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llvm_compile, "_ROOM", 1 << 60)
    with pytest.raises(
        MemoryError, match=r"compiling needs \d+ MiB of memory, which this process cannot have"
    ):
        llvm_compile.compile_module("define void @f() {\n  ret void\n}\n", llvm_compile.Target.host())
