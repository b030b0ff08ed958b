"""torch.jit as torch.compile, torch.multiprocessing, one-device nn.parallel, and what is refused by name."""

from __future__ import annotations

import warnings

import pytest

import vitrify as torch
from vitrify import multiprocessing as mp


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_script_and_trace_compile():
    @torch.jit.script
    def double(x):
        return x * 2

    assert double(torch.ones(2)).tolist() == [2.0, 2.0] and hasattr(double, "report")
    layer = torch.nn.Linear(3, 2)
    traced = torch.jit.trace(layer, torch.ones(1, 3))
    torch.testing.assert_close(traced(torch.ones(4, 3)), layer(torch.ones(4, 3)))
    torch.testing.assert_close(torch.jit.script(layer)(torch.ones(4, 3)), layer(torch.ones(4, 3)))
    assert torch.jit.script(torch.nn.Linear) is torch.nn.Linear


def test_marks_leave_code_as_it_is():
    class Model(torch.nn.Module):
        @torch.jit.export
        def one(self):
            return 1

        @torch.jit.ignore
        def two(self):
            return 2

        @torch.jit.ignore(drop=True)
        def three(self):
            return 3

        @torch.jit.unused
        def four(self):
            return 4

    model = Model()
    assert (model.one(), model.two(), model.three(), model.four()) == (1, 2, 3, 4)
    assert not torch.jit.is_scripting() and not torch.jit.is_tracing()
    assert torch.jit.annotate(list[int], [1]) == [1]
    assert issubclass(torch.jit.ScriptModule, torch.nn.Module)


def test_the_notice_comes_once():
    torch.jit._noticed.clear()
    with pytest.warns(UserWarning, match="torch.jit.script is torch.compile here"):
        torch.jit.script(lambda x: x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.jit.script(lambda x: x)


def test_files_are_refused():
    for call in (lambda: torch.jit.save(None, "x.pt"), lambda: torch.jit.load("x.pt")):
        with pytest.raises(RuntimeError, match="TorchScript's files are not supported"):
            call()
    with pytest.raises(ModuleNotFoundError, match="the package tensorboardX has the same SummaryWriter"):
        import vitrify.utils.tensorboard  # noqa: F401


def test_parallel_on_one_device():
    layer = torch.nn.Linear(3, 2)
    x = torch.ones(4, 3)
    wrapped = torch.nn.DataParallel(layer)
    assert torch.equal(wrapped(x), layer(x)) and wrapped.module is layer
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"]
    with pytest.raises(RuntimeError, match="DistributedDataParallel is not supported"):
        torch.nn.parallel.DistributedDataParallel(layer)


def _fail(index, number):
    if index == number:
        raise ValueError(f"process {index} says no")


def test_spawned_processes():
    assert mp.start_processes(_fail, args=(7,), nprocs=2, start_method="fork") is None
    with pytest.raises(mp.ProcessRaisedException, match="process 1 says no"):
        mp.start_processes(_fail, args=(1,), nprocs=2, start_method="fork")
    assert mp.get_context("fork").get_start_method() == "fork"
