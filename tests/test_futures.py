"""`torch.futures`: results that come later."""

import threading

import pytest

import vitrify as torch
from vitrify.futures import Future, collect_all, wait_all


def test_results_are_waited_for_and_followed() -> None:
    first: Future[int] = torch.Future()
    following = first.then(lambda f: f.wait() + 1)
    assert not first.done()
    with pytest.raises(RuntimeError, match="not completed"):
        first.value()
    thread = threading.Thread(target=lambda: first.set_result(3))
    thread.start()
    assert (first.wait(), following.wait(), first.value()) == (3, 4, 3)
    thread.join()
    with pytest.raises(RuntimeError, match="only be marked completed once"):
        first.set_result(4)


def test_several_are_collected() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    gathered = collect_all(futures)
    for i, future in enumerate(futures):
        assert not gathered.done()
        future.set_result(i)
    assert [f.value() for f in gathered.wait()] == wait_all(futures) == [0, 1, 2]
    assert collect_all([]).wait() == []


def test_exceptions_are_raised_where_one_waits() -> None:
    failed: Future[int] = Future()
    following = failed.then(lambda f: f.wait())
    failed.set_exception(ValueError("no"))
    for future in (failed, following):
        with pytest.raises(ValueError, match="no"):
            future.wait()
