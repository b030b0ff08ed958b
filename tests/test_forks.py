"""What a process that compiles may do meanwhile: fork, end; what is made once where several threads ask first."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from vitrify.codegen import forks
from vitrify.codegen.llvm.process import Door

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def python(code: str, folder: Path) -> str:
    """What a fresh process prints, with its cache in `folder`."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        env={**os.environ, "VITRIFY_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


CHILD = """
    import os, signal, threading, time
    import vitrify as torch

    def in_child(work):
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a child that waits for a lock of a thread it does not have ends by this
            work()
            os._exit(0)
        return os.waitpid(child, 0)[1]
"""


def test_a_child_compiles_that_was_forked_while_threads_did(tmp_path: Path) -> None:
    """Without `process.Door` one child in twenty waits forever."""
    code = """
    from vitrify.codegen.llvm.compile import compile_module
    from vitrify.codegen.target import Target

    target, stop = Target.host(), threading.Event()
    body = "".join(f"  %x{n + 1} = mul i64 %x{n}, %x{n // 2}\\n" for n in range(40))
    text = "define i64 @f(i64 %x0) {\\n" + body + "  ret i64 %x40\\n}\\n"
    wanted = compile_module(text, target)

    def compiling():
        while not stop.is_set():
            assert compile_module(text, target) == wanted

    def once():
        assert compile_module(text, target) == wanted

    threads = [threading.Thread(target=compiling) for _ in range(3)]
    for thread in threads:
        thread.start()
    print([in_child(once) for _ in range(15)])
    stop.set()
    """
    assert python(CHILD + code, tmp_path) == f"{[0] * 15}\n"


def test_a_child_compiles_that_was_forked_during_a_trace(tmp_path: Path) -> None:
    code = """
    inside, go = threading.Event(), threading.Event()

    def slow(x):
        inside.set()
        go.wait()
        return x + 1

    thread = threading.Thread(target=lambda: torch.compile(slow)(torch.ones(3)))
    thread.start()
    inside.wait()

    def work():
        assert torch.compile(lambda x: x * 2)(torch.ones(3)).tolist() == [2, 2, 2]

    print(in_child(work))
    go.set()
    """
    assert python(CHILD + code, tmp_path) == "0\n"


def test_a_process_ends_while_a_thread_compiles(tmp_path: Path) -> None:
    code = """
    def compiling():
        for number in range(1000):
            torch.compile(lambda x: (x * number).exp().sum())(torch.ones(5))

    for _ in range(2):
        threading.Thread(target=compiling, daemon=True).start()
    time.sleep(0.3)
    print("end")
    """
    assert python(CHILD + code, tmp_path) == "end\n"


def test_what_runs_at_the_end_of_a_process_compiles(tmp_path: Path) -> None:
    code = """
    import atexit

    def at_the_end():
        print(torch.compile(lambda x: x.softmax(0) @ x)(torch.ones(4)).item())

    atexit.register(at_the_end)
    torch.compile(lambda x: x + 1)(torch.ones(2))
    """
    assert python(CHILD + code, tmp_path) == "1.0\n"


def test_a_door_is_shut_when_all_are_out() -> None:
    door, events = Door(), []
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with door.passed():
            inside.set()
            leave.wait()
            with door.passed():  # who is inside need not wait
                events.append("out")

    def late() -> None:
        with door.passed():
            events.append("late")

    first, second = threading.Thread(target=work), threading.Thread(target=late)
    first.start()
    inside.wait()
    threading.Timer(0.05, leave.set).start()
    door.shut()
    events.append("shut")
    second.start()
    time.sleep(0.05)
    with door.passed():  # nor who has shut it
        events.append("own")
    door.open()
    second.join()
    first.join()
    assert events == ["out", "shut", "own", "late"]


def test_a_door_does_not_wait_forever() -> None:
    door, inside, leave = Door(), threading.Event(), threading.Event()

    def work() -> None:
        with door.passed():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    door.shut(patience=0.01)
    leave.set()
    door.open()
    thread.join()


def test_threads_that_ask_first_get_one_answer() -> None:
    calls, gate = [], threading.Barrier(6)

    @forks.once
    def made() -> object:
        calls.append(1)
        time.sleep(0.02)
        return object()

    found = []

    def work() -> None:
        gate.wait()
        found.append(made())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1] and len({id(f) for f in found}) == 1


def test_a_lock_is_free_in_a_child_unless_it_is_its_own() -> None:
    lock, taken, done = forks.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        lock.__enter__()
        taken.set()
        done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    lock.renew()  # what a child does
    with lock, lock:
        own = lock._lock
        lock.renew()
        assert lock._lock is own
    done.set()
    thread.join()
