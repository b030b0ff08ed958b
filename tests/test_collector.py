"""The collector of cycles rests while functions are compiled, and goes on as it was after that."""

from __future__ import annotations

import gc
import os
import threading

import pytest

import vitrify as torch
from vitrify.runtime.collector import paused_collector


def test_it_is_off_inside_and_as_before_outside():
    seen = []

    def f(x):
        seen.append(gc.isenabled())
        return x + 1

    assert gc.isenabled()
    torch.compile(f)(torch.ones(3))
    assert seen == [False] and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        torch.compile(lambda x: x / (1 // 0))(torch.ones(3))
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_last_thread_to_leave_turns_it_on():
    inside, go = threading.Event(), threading.Event()

    def other():
        with paused_collector():
            inside.set()
            go.wait()

    thread = threading.Thread(target=other)
    with paused_collector():
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    child = os.fork()
    if not child:  # in it the other thread is gone
        os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    thread.join()
    assert gc.isenabled()
