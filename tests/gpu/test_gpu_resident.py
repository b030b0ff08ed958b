"""Scans as resident kernels: one launch whose blocks stay and meet between the kernels of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ptx_checks import PtxProgram, assemble, check, emitted, simulate

import vitrify as torch
from vitrify import nn
from vitrify.codegen.loops.nodes import Buffer, Const, For, Kernel, Store
from vitrify.codegen.loops.printer import print_program
from vitrify.codegen.loops.verify import LoopError, verify_kernel
from vitrify.codegen.target import GpuTarget
from vitrify.ir import dtypes, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import symbol
from vitrify.ir.types import TensorType
from vitrify.runtime.ptx_simulator.device import SimulatorDevice
from vitrify.runtime.ptx_simulator.errors import DivergentBarrier, LaunchError, Race


def recurrent(kind: str, steps: int, batch: int, hidden: int, reverse: bool = False):
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    F = GraphBuilder(kind)

    def given(name: str, *shape: int):
        return F.input(name, TensorType(shape, dtypes.f32))

    x = given("x", steps * batch, gates * hidden)
    states = [given("h", batch, hidden)] + ([given("c", batch, hidden)] if kind == "lstm" else [])
    weights = [given("w", gates * hidden, hidden)] + ([given("b", gates * hidden)] if kind == "gru" else [])
    attrs = {"batch_sizes": (batch,) * steps, "reverse": reverse}
    if kind == "rnn":
        attrs["activation"] = "tanh"
    return F.finish(getattr(F, kind)(x, *states, *weights, **attrs))


def numbers(graph, seed: int = 0) -> list[np.ndarray]:
    random = np.random.RandomState(seed)
    return [random.randn(*v.type.sizes).astype(np.float32) / 2 for v in graph.inputs]


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(("batch", "hidden"), [(3, 5), (2, 40)])
def test_steps_as_one_kernel_agree_with_the_interpreter(kind, batch, hidden):
    graph = recurrent(kind, 3, batch, hidden, reverse=batch == 3)
    made = check(graph, numbers(graph), scale=4.0, interpret=hidden == 5)
    (repeat,) = made.program.repeats
    assert made.at_once[repeat].resident
    assert f"for {repeat.var} in 0..3 {{" in print_program(made.program)


def test_what_it_means_in_the_loop_ir():
    made = emitted(recurrent("lstm", 2, 2, 20))
    (launch,) = made.at_once.values()
    kernel = launch.launch.kernel
    keeps, product, rest = kernel.block_loops
    assert kernel.body[0] is keeps and kernel.body[1].body == (product, rest)
    (kept,) = [b for b in kernel.locals if b.space == "resident"]
    assert kept.shape[0] == keeps.extent == product.extent and "weights" not in kernel.writes
    assert kernel.on_gpu and kernel.grid is None
    assert f"cost 1 resident {launch.grid} {{" in print_program(made.program)


def test_blocks_that_have_more_to_do_than_there_are_blocks(monkeypatch):
    named = GpuTarget.named
    monkeypatch.setattr(
        GpuTarget, "named", staticmethod(lambda name: replace(named(name), multiprocessors=2))
    )
    graph = recurrent("lstm", 3, 2, 14)  # 56 columns: 4 tiles for 2 blocks
    made = check(graph, numbers(graph), scale=4.0, interpret=False)
    (launch,) = made.at_once.values()
    assert launch.grid == 2 and launch.launch.kernel.block_loops[0].extent == 4


@pytest.mark.parametrize(
    ("arch", "batch", "hidden", "keeps"),
    [("sm_80", 16, 256, True), ("sm_90a", 32, 1024, True), ("sm_90a", 8, 2048, False)],
)
def test_it_assembles_and_keeps_the_weights_that_fit(arch, batch, hidden, keeps, tmp_path):
    made = emitted(recurrent("lstm", 100, batch, hidden), arch)
    (launch,) = made.at_once.values()
    found = assemble(made.text, arch, tmp_path)[launch.function]
    assert found.spilled == 0 and launch.grid <= 132
    assert any(b.space == "resident" for b in launch.launch.kernel.locals) is keeps
    assert launch.shared_bytes <= GpuTarget.named(arch).most_shared_bytes


def run_broken(edit: Callable[[str], str]) -> None:
    """The steps of an LSTM with changed PTX, in the simulator."""
    graph = recurrent("lstm", 3, 2, 16)
    made = emitted(graph)
    text = edit(made.text)
    assert text != made.text
    broken = PtxProgram(text, made.launches, made.program, made.target, made.llvm, made.at_once)
    arrays = numbers(graph)
    simulate(broken, arrays, interpreter.bind_symbols(graph, arrays))


def lines(text: str, edit: Callable[[list[str], int], None], marker: str) -> str:
    """The text after `edit` of its lines around each line with the marker."""
    found = text.split("\n")
    for at in reversed([n for n, line in enumerate(found) if marker in line]):
        edit(found, at)
    return "\n".join(found)


def test_a_block_that_does_not_wait_is_found():
    def edit(text: str) -> str:
        found = text.split("\n")
        for at in [n for n, line in enumerate(found) if "ld.acquire.gpu" in line]:
            jump = next(n for n in range(at, len(found)) if "bra" in found[n])
            found[jump] = ""  # back to the load
        return "\n".join(found)

    with pytest.raises(Race, match=r"did not wait for them|no barrier between"):
        run_broken(lambda text: edit(text).replace("ld.acquire.gpu.u32", "ld.relaxed.gpu.u32"))


def test_a_block_that_comes_while_its_threads_write_is_found():
    def no_barrier(found: list[str], at: int) -> None:
        before = max(n for n in range(at) if "bar.sync" in found[n])
        found[before] = ""

    with pytest.raises(Race, match=r"while its threads still write|no barrier between"):
        run_broken(lambda text: lines(text, no_barrier, "atom.add.acq_rel.gpu"))


def test_blocks_that_do_not_meet_race():
    def nothing(found: list[str], at: int) -> None:
        found[at] = (
            found[at].replace("atom.add.acq_rel.gpu.u32", "ld.relaxed.gpu.u32").replace("], %", "]; // %")
        )

    with pytest.raises((Race, DivergentBarrier)):
        run_broken(lambda text: lines(text, nothing, "atom.add.acq_rel.gpu"))


def test_waiting_for_blocks_that_never_come_is_found():
    def edit(found: list[str], at: int) -> None:
        found[at] = found[at].replace("atom.add.acq_rel", "atom.or.acq_rel")

    with pytest.raises(DivergentBarrier, match="nobody changes the word"):
        run_broken(lambda text: lines(text, edit, "atom.add.acq_rel.gpu"))


def test_the_rules_of_resident_kernels():
    x = Buffer("x", dtypes.f32, (64,))
    t = symbol("t", 0, 31)

    def kernel(*body: For, resident: int = 2) -> Kernel:
        return Kernel("k", (x,), frozenset({"x"}), body, resident=resident)

    kept = Buffer("kept", dtypes.f32, (2, 32), "resident")
    b = symbol("b", 0, 1)

    def keeps(index, rows: int = 2) -> Kernel:
        inner = For("t", 32, (Store(kept, (index, t), Const(0.0, dtypes.f32)),), "thread")
        return replace(kernel(For("b", rows, (inner,), "block")), locals=(kept,), writes=frozenset())

    verify_kernel(keeps(b))
    with pytest.raises(LoopError, match="must be the block's number, not 0"):
        verify_kernel(keeps(0))
    with pytest.raises(LoopError, match="of as many blocks as it has rows"):
        verify_kernel(keeps(symbol("b", 0, 0), rows=1))
    store = For("t", 32, (Store(x, (t,), Const(0.0, dtypes.f32)),), "thread")
    blocks = For("b", 1, (store,), "block")
    verify_kernel(kernel(For("i", 3, (blocks, blocks))))
    with pytest.raises(LoopError, match="do not stand inside each other"):
        verify_kernel(kernel(For("a", 2, (blocks,), "block")))
    with pytest.raises(LoopError, match="stands inside the block loop"):
        verify_kernel(kernel(store, blocks))
    with pytest.raises(LoopError, match="block loop must be the kernel's whole body"):
        verify_kernel(kernel(For("i", 3, (blocks,)), resident=0))


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_training_with_a_recurrent_layer(layer, cuda, monkeypatch):
    torch.manual_seed(0)
    with torch.device("cpu"):
        net, x, w = layer(5, 6), torch.randn(3, 2, 5), torch.randn(3, 2, 6)
    found: dict[str, list[np.ndarray]] = {}
    for device in ("cpu", "cuda"):
        net = net.to(device)
        net.zero_grad()
        weight = w.to(device)

        @torch.compile
        def step(x, weight=weight, net=net):
            loss = (net(x)[0] * weight).sum()
            loss.backward()
            return loss

        loss = step(x.to(device))
        found[device] = [loss.detach().cpu().numpy(), *(p.grad.cpu().numpy() for p in net.parameters())]
    for a, b in zip(found["cuda"], found["cpu"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_driver_is_asked_whether_all_blocks_fit(driver, monkeypatch):
    cooperative = 95  # CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH
    for batch, room in ((2, 1), (3, 0)):
        with torch.device("cpu"):
            net, x = nn.LSTM(5, 16), torch.randn(3, batch, 5)
        want, net, x = net(x)[0].detach(), net.cuda(), x.cuda()
        monkeypatch.setitem(driver.raw.attributes, cooperative, room)
        compiled = torch.compile(lambda x, net=net: net(x)[0])
        with torch.no_grad():
            for _ in range(4):  # the last ones are captured
                driver.raw.calls.clear()
                torch.testing.assert_close(compiled(x).cpu(), want)
                names = {call for call, _ in driver.raw.calls}
                if "cuGraphLaunch" not in names or "cuStreamBeginCapture_v2" in names:
                    assert ("cuLaunchCooperativeKernel" in names) is bool(room)
        assert "cuGraphLaunch" in names


def test_more_blocks_than_fit_are_refused():
    made = emitted(recurrent("lstm", 2, 2, 16))
    (launch,) = made.at_once.values()
    device = SimulatorDevice(multiprocessors=1)
    function = device.load(made.text).function(launch.function)
    most = device.most_together(function, launch.threads, launch.shared_bytes)
    with pytest.raises(LaunchError, match="do not fit on the device at once"):
        device.launch_together(function, most + 1, launch.threads, launch.shared_bytes, [])
