"""Random programs, longer than the tests run them: `make fuzz`, or `python tests/fuzz.py --examples 500 [NAME ...]`.

Graphs are run by the interpreter at every stage of the pipeline and by compiled code, with one thread and with two, for
each instruction set of this machine (`vitrify.runtime.bisect`); as PTX, in the simulator; and with strict numerics,
where compiled and eager code agree to the bit. Modules are called and trained, eagerly and compiled; damaged IR files go
through `vitrify ir`. Hypothesis makes the choices, so a program that fails is shrunk; it is printed with where it
fails, and becomes a test in `test_fuzz_finds.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import platform
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from graphs import random_graph, random_inputs
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from random_modules import RandomModule, draw_module
from strict_graphs import not_the_same_bits
from test_untrusted_ir import LARGE, changed, filled, texts, values

import vitrify as torch
from vitrify.__main__ import main as main_of_vitrify
from vitrify.codegen.lower import LowerOptions, lower_graph
from vitrify.codegen.target import Target
from vitrify.compile.trace_error import TraceError
from vitrify.ir import dtypes, interpreter
from vitrify.ir.graph import Graph, IRError
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.passes.text import PASSES
from vitrify.runtime.agreement import Reference
from vitrify.runtime.bisect import examine
from vitrify.runtime.compiled_graph import CompileOptions
from vitrify.runtime.execute import compile_program, run_program
from vitrify.runtime.gpu import device as devices
from vitrify.runtime.gpu.arrays import Gpu, empty, from_host
from vitrify.runtime.gpu.compiled import compile_gpu_graph
from vitrify.runtime.ptx_simulator.device import SimulatorDevice

Arrays = list[np.ndarray[Any, Any]]
# Small works shared among threads as large ones are.
SHARED = LowerOptions(serial_below=8, reduce_chunks=4)


def machines() -> list[Target]:
    """This machine, and the lesser x86-64 ones that it can stand in for."""
    host = Target.host()
    if platform.machine() not in ("x86_64", "AMD64"):
        return [host]
    lesser = [Target.named(f"x86-64-{isa}") for isa in ("avx512", "avx2", "sse2")]
    return [host, *(t for t in lesser if t.vector_bytes <= host.vector_bytes)]


choices = st.randoms(note_method_calls=False, use_true_random=False)
options = st.builds(
    lambda lower, target: CompileOptions(lower=lower, target=target),
    st.sampled_from([LowerOptions(), SHARED]),
    st.sampled_from(machines()),
)
floats = st.sampled_from([dtypes.f32, dtypes.f64, dtypes.bf16, dtypes.f16])
GPUS = {capability: Gpu(0, SimulatorDevice(capability=capability)) for capability in ((9, 0), (8, 0), (7, 0))}


def must_agree(graph: Graph, inputs: Arrays, how: CompileOptions) -> None:
    """No stage parts from the traced graph, and the text form says all there is to say."""
    assert parse(to_text(graph)) == graph
    found = examine(graph, inputs, how)
    if found.fault is not None:
        note(f"inputs: {[a.tolist() for a in inputs]}")
        note(str(found.fault))
        raise AssertionError(f"{found.fault}\n{to_text(graph)}")


@given(choices, st.integers(1, 16), st.integers(0, 99), floats, options)
def graphs(rng: random.Random, nodes: int, seed: int, dtype: dtypes.DType, how: CompileOptions) -> None:
    """Graphs of ops that neither overflow nor magnify rounding."""
    graph = random_graph(rng, nodes=nodes, tame=True, dtype=dtype)
    must_agree(graph, random_inputs(graph, seed), how)


@given(choices, st.integers(1, 12), st.integers(0, 99), st.integers(1, 9), options)
def symbolic(rng: random.Random, nodes: int, seed: int, batch: int, how: CompileOptions) -> None:
    """Graphs with a symbolic batch."""
    graph = random_graph(rng, nodes=nodes, tame=True, symbolic=True)
    must_agree(graph, random_inputs(graph, seed, batch), how)


@given(choices, st.integers(1, 10), st.integers(0, 99), options)
def gradients(rng: random.Random, nodes: int, seed: int, how: CompileOptions) -> None:
    """Graphs with their gradients."""
    graph = random_graph(rng, nodes=nodes, tame=True)
    joint = with_gradients(graph)
    must_agree(joint, random_inputs(joint, seed), how)


def with_gradients(graph: Graph) -> Graph:
    """The graph with the gradients of what is floating."""
    floats = tuple(v.name for v in graph.inputs if v.type.dtype.is_floating_point)
    outputs = tuple(i for i, v in enumerate(graph.outputs) if v.type.dtype.is_floating_point)
    assume(floats and outputs)
    return Autodiff(wrt=floats, outputs=outputs, seed="ones").run(graph)


@given(choices, st.integers(1, 12), st.integers(0, 99))
def threads(rng: random.Random, nodes: int, seed: int) -> None:
    """The bits do not depend on the number of threads."""
    graph = random_graph(rng, nodes=nodes, tame=True)
    inputs = random_inputs(graph, seed)
    fused = run_pipeline(graph, default_pipeline())[-1]
    loaded = compile_program(program := lower_graph(fused, Target.host(), SHARED))
    bound = interpreter.bind_symbols(graph, inputs)
    results = [run_program(program, inputs, bound, count, loaded=loaded) for count in (1, 2, 3)]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes(), to_text(graph)


@given(
    choices,
    st.integers(1, 12),
    st.integers(0, 99),
    st.sampled_from(sorted(GPUS, reverse=True)),
    st.sampled_from([dtypes.f32, dtypes.f64, dtypes.bf16]),
    st.booleans(),
    st.booleans(),
)
def simulated(
    rng: random.Random,
    nodes: int,
    seed: int,
    capability: tuple[int, int],
    dtype: dtypes.DType,
    symbolic: bool,
    differentiated: bool,
) -> None:
    """Graphs and their gradients as PTX, in the simulator, which also looks for races and accesses out of bounds."""
    graph = random_graph(rng, nodes=nodes, tame=True, symbolic=symbolic, dtype=dtype)
    if differentiated:
        graph = with_gradients(graph)
    inputs = random_inputs(graph, seed)
    bindings = interpreter.bind_symbols(graph, inputs)
    note(to_text(graph))
    note(f"inputs: {[a.tolist() for a in inputs]}")
    results = simulate(graph, inputs, GPUS[capability])
    reference = Reference(graph, inputs, bindings)
    for value, result in zip(graph.outputs, results, strict=True):
        apart = reference.apart(value, result)
        assert apart is None, f"%{value.name} differs by {apart:.3g} on sm_{capability[0]}{capability[1]}"


def simulate(graph: Graph, inputs: Arrays, gpu: Gpu) -> Arrays:
    """The graph's results by its program for the GPU."""
    bindings = interpreter.bind_symbols(graph, inputs)
    compiled = compile_gpu_graph(graph, gpu, CompileOptions(cache=False))
    given = [from_host(gpu, a) for a in inputs]
    types = [v.type.bind(bindings) for v in graph.outputs]
    made = [empty(gpu, t.sizes, t.dtype.numpy) for t in types]
    compiled.run([a.address for a in given], [a.address for a in made], bindings)
    return [a.to_host() for a in made]


@given(choices, st.integers(1, 12), st.integers(0, 99), floats, st.booleans())
def strict(rng: random.Random, nodes: int, seed: int, dtype: dtypes.DType, differentiated: bool) -> None:
    """With strict numerics a graph gives the bits of its ops one after the other, for any number of threads."""
    graph = random_graph(rng, nodes=nodes, tame=True, dtype=dtype)
    if differentiated:
        graph = with_gradients(graph)
    different = not_the_same_bits(graph, random_inputs(graph, seed))
    assert not different, f"{different}\n{to_text(graph)}"


@given(choices, st.integers(1, 6), st.booleans(), st.booleans())
def modules(rng: random.Random, length: int, train: bool, training: bool) -> None:
    """Modules and training steps, in calls of compiled code and stage by stage."""
    torch.manual_seed(0)
    net, x = draw_module(rng, length)
    net.train(training)
    note(f"{net}\nof {tuple(x.shape)}")
    eager = copy.deepcopy(net)
    call, expected = (step_of(m, train) for m in (net, eager))
    compiled = torch.compile(call)
    report = compiled.check(x)
    assert report.ok, str(report)
    with torch.random.counter_based():
        for i in range(3):
            given = x * (1.0 + i) if i else x
            net.load_state_dict(eager.state_dict())
            torch.manual_seed(i)
            want = expected(given)
            torch.manual_seed(i)
            try:
                got = compiled(given)
            except TraceError as error:
                assume("equal up to rounding" not in str(error))
                raise
            close(want, got)
            for a, b in zip(eager.state_dict().values(), net.state_dict().values(), strict=True):
                close(a, b)


@given(choices, st.integers(1, 6), st.booleans())
def strict_modules(rng: random.Random, length: int, train: bool) -> None:
    """With strict numerics a module's results, gradients and updated parameters are eager code's, to the bit."""
    torch.manual_seed(0)
    net, x = draw_module(rng, length)
    note(f"{net}\nof {tuple(x.shape)}")
    eager = copy.deepcopy(net)
    with torch.random.counter_based():
        torch.manual_seed(1)
        with torch.numerics("strict"):
            want = step_of(eager, train)(x)
        torch.manual_seed(1)
        got = torch.compile(step_of(net, train), options={"numerics": "strict"})(x)
    assert torch.equal(want, got) or bool(want.isnan().any())
    for name, value in eager.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


@given(choices, st.integers(1, 4), st.booleans())
def device_modules(rng: random.Random, length: int, train: bool) -> None:
    """Modules and training steps on a simulated GPU give what they give on the CPU, eagerly and compiled."""
    torch.manual_seed(0)
    net, x = draw_module(rng, length)
    note(f"{net}\nof {tuple(x.shape)}")
    assume("dropout" not in net.names)  # a device draws other numbers
    before = devices.install([SimulatorDevice()])
    torch.backends.cudnn.allow_tf32 = False
    try:
        copies = [copy.deepcopy(net).cuda() for _ in range(2)]
        want = step_of(net, train)(x)
        for made, there in zip(
            (step_of(copies[0], train), torch.compile(step_of(copies[1], train))), copies, strict=True
        ):
            close(want, made(x.cuda()).cpu())
            for a, b in zip(net.state_dict().values(), there.state_dict().values(), strict=True):
                close(a, b.cpu())
    finally:
        devices.install(before)


def step_of(net: RandomModule, train: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """A call of the module, or a step of training it."""
    parameters = list(net.parameters())
    if not train or not parameters:
        return lambda x: net(x).detach()
    optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=0.01)

    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@given(choices, st.integers(0, 99), st.sampled_from([None, *PASSES, "decompose, simplify, fusion"]))
def ir_files(rng: random.Random, seed: int, passes: str | None) -> None:
    """Changed texts of graphs through `vitrify ir`: they run or are refused in a few lines, and nothing crashes."""
    text = changed(rng.choice(texts()), rng)
    with tempfile.TemporaryDirectory() as folder:
        file, arrays = Path(folder, "g.ir"), Path(folder, "x.npz")
        file.write_text(text, encoding="utf-8")
        try:
            graph = parse(text)
        except IRError:
            commands = [["verify", str(file)]]
        else:
            assume(
                sum(float(np.prod([max(1.0, int(d)) for d in v.type.shape])) for v in values(graph)) <= LARGE
            )
            numbers = np.random.default_rng(seed)
            np.savez(arrays, **{v.name: filled(v, numbers) for v in graph.inputs})  # type: ignore[arg-type]
            run = ["run", str(file), "--inputs", str(arrays)]
            commands = [run, [*run, "--native"], ["opt", str(file), *(["-p", passes] if passes else [])]]
        for words in commands:
            said = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
                status = main_of_vitrify(["ir", *words])
            lines = said.getvalue().splitlines()
            # An error in a graph is shown with the nodes around it.
            assert status == 0 or (lines[0].startswith("vitrify: ") and len(lines) < 9), "\n".join(
                [text, *lines]
            )


def close(want: torch.Tensor, got: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4, equal_nan=True)


KINDS = {
    f.__name__: f
    for f in (
        graphs,
        symbolic,
        gradients,
        threads,
        simulated,
        strict,
        modules,
        strict_modules,
        device_modules,
        ir_files,
    )
}


def main() -> int:
    """0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500, help="of each kind (default: %(default)s)")
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=f"of {', '.join(KINDS)} (default: all)")
    given_options = parser.parse_args()
    status = 0
    for name in given_options.kinds:
        start = time.monotonic()
        run = settings(
            max_examples=given_options.examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(KINDS[name])
        try:
            run()
            found = "nothing found"
        except Exception:
            status, found = 1, "FOUND"
            traceback.print_exc()
        print(
            f"{name}: {given_options.examples} examples, {time.monotonic() - start:.0f} s, {found}",
            flush=True,
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
