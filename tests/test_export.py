"""Exported libraries: the numbers of the model, from C and from Python, without llvmlite; statuses of bad calls."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import digits, lenet

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F
from vitrify.__main__ import main
from vitrify.codegen.c_interface import (
    BAD_DIMS,
    NO_SUCH,
    NO_WEIGHTS,
    NULL_POINTER,
    SMALL_ARENA,
    STATUSES,
    WRONG_WEIGHTS,
)
from vitrify.codegen.library import bounded_dims
from vitrify.ir import dims
from vitrify.native_export import ExportError
from vitrify.torch_names import has

EXAMPLE = Path(__file__).parents[1] / "examples" / "export_c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_linker = pytest.mark.skipif(
    COMPILER is None and shutil.which("ld") is None,
    reason="no C compiler and no linker: export gives an object",
)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
pytestmark = needs_linker
BATCH = torch.Dim("batch", 1, 64)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 5)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Libraries of the MLP: `mlp.so` for this machine, `beside.so` with its weights in `beside.bin`."""
    path = tmp_path_factory.mktemp("export")
    shapes = {"input": {0: BATCH}}
    torch.export(mlp(), torch.zeros(2, 20), path / "mlp.so", dynamic_shapes=shapes)
    torch.export(
        mlp(), torch.zeros(2, 20), path / "beside.so", dynamic_shapes=shapes, weights=path / "beside.bin"
    )
    return path


# -- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mlp.so", "beside.so"])
def test_results_are_those_of_the_model(folder: Path, file: str) -> None:
    net, loaded = mlp(), torch.load_exported(folder / file)
    for batch in (1, 3, 64):
        x = torch.randn(batch, 20)
        wanted = net(x).detach().numpy()
        np.testing.assert_allclose(loaded(x).numpy(), wanted, atol=1e-6)
        given = loaded(x.numpy())
        assert type(given) is np.ndarray
        np.testing.assert_allclose(given, wanted, atol=1e-6)


@pytest.mark.parametrize("target", ["portable", "x86-64-avx2", "x86-64-sse2"])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="code for x86-64")
def test_every_level_of_instructions_gives_them(tmp_path: Path, target: str) -> None:
    net = lenet().eval()
    torch.export(net, digits(2)[0], tmp_path / "net.so", dynamic_shapes={"x": {0: BATCH}}, target=target)
    loaded = torch.load_exported(tmp_path / "net.so")
    x = digits(9)[0]
    np.testing.assert_allclose(loaded(x).numpy(), net(x).detach().numpy(), atol=1e-6)


def test_arguments_and_results_may_be_nested_and_handed_back(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)

    def model(x: Any, more: Any) -> Any:
        return {"product": x @ weight, "rest": [x, more["k"].sum(), None, x, weight]}

    torch.export(model, (torch.randn(2, 3), {"k": torch.arange(5)}), tmp_path / "f.so", name="nested")
    loaded = torch.load_exported(tmp_path / "f.so")
    assert [str(i) for i in loaded.inputs] == ["x: f32[2, 3]", "more.k: i64[5]"]
    assert [o.name for o in loaded.outputs] == [
        "output.product", "output.rest.0", "output.rest.1", "output.rest.3", "output.rest.4"
    ]  # fmt: skip
    x, k = torch.randn(2, 3), torch.arange(5)
    for found, wanted in zip(loaded(x, k), (x @ weight, x, k.sum(), x, weight)):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-6)


def test_narrow_dtypes_and_empty_batches(tmp_path: Path) -> None:
    def model(x: Any) -> Any:
        return x.half() * 2, x.bfloat16() * 3, x > 0

    n = torch.Dim("n", 0, 8)
    torch.export(model, torch.ones(2, 3), tmp_path / "f.so", dynamic_shapes={"x": {0: n}})
    loaded = torch.load_exported(tmp_path / "f.so")
    half, brain, positive = loaded(torch.ones(4, 3))
    assert (half.dtype, brain.dtype, positive.dtype) == (torch.float16, torch.bfloat16, torch.bool)
    assert (half == 2).all() and (brain == 3).all() and positive.all()
    assert [tuple(r.shape) for r in loaded(torch.ones(0, 3))] == [(0, 3)] * 3


def test_weights_are_packed_by_the_first_runs_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(70, 90).eval(), torch.randn(48, 70)
    torch.export(model, x, tmp_path / "inside.so")
    torch.export(model, x, tmp_path / "outside.so", weights=tmp_path / "outside.bin", target="portable")
    for name in ("inside.so", "outside.so"):
        run = torch.load_exported(tmp_path / name)
        with ThreadPoolExecutor(4) as pool:  # the first runs, all at once
            found = list(pool.map(run, [x] * 16))
        for each in [*found, run(x)]:
            assert torch.equal(each, found[0])
        torch.testing.assert_close(found[0], model(x).detach())


def test_callers_in_several_threads_do_not_disturb_each_other(folder: Path) -> None:
    loaded, net = torch.load_exported(folder / "mlp.so"), mlp()
    inputs = [torch.randn(1 + i % 64, 20) for i in range(100)]
    wanted = [net(x).detach().numpy() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(lambda x: loaded(x.numpy()), inputs), wanted):
            np.testing.assert_allclose(found, right, atol=1e-6)


def test_a_library_written_anew_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "f.so"
    found = []
    for factor in (2.0, 3.0, 5.0):
        torch.export(lambda x, factor=factor: x * factor, torch.ones(2), path)
        found.append(torch.load_exported(path))
    found.append(torch.load_exported(path))
    assert [run(torch.ones(2)).tolist()[0] for run in found] == [2.0, 3.0, 5.0, 5.0]


def test_loading_needs_no_compiler(folder: Path) -> None:
    code = (
        "import sys, numpy as np, vitrify\n"
        f"m = vitrify.load_exported({str(folder / 'mlp.so')!r})\n"
        "assert m(np.zeros((3, 20), np.float32)).shape == (3, 5)\n"
        "print([n for n in sys.modules if 'llvmlite' in n or n.startswith('vitrify.codegen.l')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- C ----------------------------------------------------------------------------------------------------------------


@needs_compiler
def test_the_example_in_c(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    for name in ("main.c", "Makefile", "make_model.py"):
        shutil.copy(EXAMPLE / name, tmp_path)
    flags = "-O1 -Wall -Wextra -Wpedantic -Werror -std=c99"
    done = subprocess.run(
        ["make", "run", f"PYTHON={sys.executable}", f"CC={COMPILER}", f"CFLAGS={flags}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "input input [batch, 1, 32, 32]" in done.stdout
    assert "7 images, 4 threads" in done.stdout
    assert "small arena:  the arena is null" in done.stdout


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")
def test_it_needs_libc_only_and_shows_its_interface_only(folder: Path) -> None:
    def names(*flags: str) -> set[str]:
        text = subprocess.run(
            ["nm", *flags, folder / "beside.so"], capture_output=True, text=True, check=True
        )
        return {line.split()[-1].partition("@")[0] for line in text.stdout.splitlines()}

    system = {"getpid", "pthread_create", "pthread_detach", "pthread_sigmask", "sched_yield", "syscall"}
    system |= {"sched_getcpu", "clock_gettime", "mmap", "munmap", "madvise"}
    system |= {f"pthread_attr_{name}" for name in ("init", "setstacksize", "destroy")}
    maths = {"memcpy", "memset", "memmove", "fmod", "fmodf"}
    weak = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
    assert names("-u", "-D") <= system | maths | weak
    shown = names("-D", "--defined-only")
    assert {n for n in shown if not n.startswith("beside_")} == {"vitrify_exported_name"}
    assert {"beside_run", "beside_arena_bytes", "beside_set_weights", "beside_error"} <= shown
    header = (folder / "beside.h").read_text()
    assert all(f"{n}(" in header for n in shown if n.startswith("beside_"))


@needs_compiler
def test_objects_of_two_models_fit_into_one_program(tmp_path: Path) -> None:
    for name in ("one", "two"):
        files = torch.export(mlp(), torch.zeros(2, 20), tmp_path / f"{name}.o").files
        assert [f.name for f in files] == [f"{name}.o", f"{name}.h"]
    assert COMPILER is not None
    both = tmp_path / "both.so"
    subprocess.run(
        [COMPILER, "-shared", "-o", both, tmp_path / "one.o", tmp_path / "two.o", "-lpthread"], check=True
    )
    library = ctypes.CDLL(str(both))
    assert library.one_input_count() == library.two_input_count() == 1


class Native:
    """The C functions of a library, and arguments that a run accepts."""

    def __init__(self, path: Path):
        self.name = path.stem
        self.library = ctypes.CDLL(str(path))
        self.dims = (ctypes.c_int64 * 1)(3)
        self.x, self.y = np.ones((3, 20), np.float32), np.empty((3, 5), np.float32)
        self["arena_bytes"].restype = ctypes.c_int64
        self.arena = np.empty(self["arena_bytes"](self.dims) + 1, np.uint8)
        self.arguments: dict[str, Any] = {
            "inputs": (ctypes.c_void_p * 1)(self.x.ctypes.data),
            "outputs": (ctypes.c_void_p * 1)(self.y.ctypes.data),
            "dims": self.dims,
            # As odd an address as can be: any will do.
            "arena": ctypes.c_void_p(self.arena.ctypes.data + 1),
            "arena_bytes": ctypes.c_int64(self.arena.nbytes - 1),
            "threads": 2,
        }

    def __getitem__(self, function: str) -> Any:
        return getattr(self.library, f"{self.name}_{function}")

    def run(self, **changed: Any) -> int:
        return int(self["run"](*(self.arguments | changed).values()))


@pytest.mark.parametrize(
    "changed, status",
    [
        ({}, 0),
        ({"threads": 0}, 0),
        ({"inputs": None}, NULL_POINTER),
        ({"outputs": None}, NULL_POINTER),
        ({"dims": None}, NULL_POINTER),
        ({"inputs": (ctypes.c_void_p * 1)(None)}, NULL_POINTER),
        ({"outputs": (ctypes.c_void_p * 1)(None)}, NULL_POINTER),
        ({"dims": (ctypes.c_int64 * 1)(0)}, BAD_DIMS),
        ({"dims": (ctypes.c_int64 * 1)(65)}, BAD_DIMS),
        ({"dims": (ctypes.c_int64 * 1)(-(1 << 63))}, BAD_DIMS),
        ({"arena": None}, SMALL_ARENA),
        ({"arena_bytes": ctypes.c_int64(10)}, SMALL_ARENA),
        ({"arena_bytes": ctypes.c_int64(-1)}, SMALL_ARENA),
    ],
)  # fmt: skip
def test_a_bad_call_gets_a_status(folder: Path, changed: dict[str, Any], status: int) -> None:
    native = Native(folder / "mlp.so")
    assert native.run(**changed) == status
    native["error"].restype = ctypes.c_char_p
    assert native["error"](status).decode() == STATUSES[status][1]
    assert native["error"](-99) == b"unknown status"


def test_questions_about_what_is_not_there(folder: Path) -> None:
    native = Native(folder / "mlp.so")
    shape = (ctypes.c_int64 * 2)()
    native["input_info"].restype = native["dim_info"].restype = ctypes.c_void_p
    assert native["input_info"](1) is native["input_info"](-1) is native["dim_info"](1) is None
    assert native["output_shape"](0, native.dims, shape) == 0 and list(shape) == [3, 5]
    assert native["output_shape"](1, native.dims, shape) == NO_SUCH
    assert native["output_shape"](0, native.dims, None) == NULL_POINTER
    assert native["output_shape"](0, None, shape) == NULL_POINTER
    assert native["arena_bytes"]((ctypes.c_int64 * 1)(65)) == BAD_DIMS
    assert native["arena_bytes"](None) == NULL_POINTER


def test_checks_of_the_program_have_a_text(tmp_path: Path) -> None:
    n = torch.Dim("n", 1, 9)
    arguments = torch.randn(2, 5), torch.zeros(2, dtype=torch.int64)
    shapes = {"input": {0: n}, "target": {0: n}}
    torch.export(F.nll_loss, arguments, tmp_path / "f.so", dynamic_shapes=shapes)
    loaded = torch.load_exported(tmp_path / "f.so")
    with pytest.raises(IndexError, match="Target is out of bounds"):
        loaded(arguments[0], torch.tensor([0, 9]))


def test_dims_stop_where_sizes_would_overflow() -> None:
    (a, b) = (dims.symbols(torch.Dim(n))[0] for n in "ab")
    size = dims.symbol("a", a.low, a.high) * dims.symbol("b", b.low, b.high) * 4
    low, high = bounded_dims((a, b), [size])
    assert (low.high, high.high) == (1 << 29, 1 << 29)


# -- weights ----------------------------------------------------------------------------------------------------------


def test_weights_beside_the_library(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "beside.so", tmp_path / "moved.so")
    with pytest.raises(OSError, match=r"cannot be read from .*beside\.bin"):
        torch.load_exported(tmp_path / "moved.so")
    torch.load_exported(tmp_path / "moved.so", weights=folder / "beside.bin")
    with pytest.raises(ValueError, match="holds its weights itself"):
        torch.load_exported(folder / "mlp.so", weights=folder / "beside.bin")


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"X" + b[1:], lambda b: b[:8] + bytes(8) + b[16:]]
)
def test_other_files_are_not_its_weights(
    folder: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(spoil((folder / "beside.bin").read_bytes()))
    with pytest.raises(OSError, match="not the weights that belong"):
        torch.load_exported(folder / "beside.so", weights=bad)


def test_a_run_without_weights_gets_a_status(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "beside.so", tmp_path / "again.so")
    shutil.copy(folder / "beside.h", tmp_path)
    native = Native.__new__(Native)
    native.__dict__.update(Native(folder / "mlp.so").__dict__)
    native.name, native.library = "beside", ctypes.CDLL(str(tmp_path / "again.so"))
    assert native.run() == NO_WEIGHTS
    data = np.zeros(1 << 14, np.uint8)
    start = -data.ctypes.data % 64
    take = native["set_weights"]
    assert take(None, ctypes.c_int64(0)) == NULL_POINTER
    assert take(ctypes.c_void_p(data.ctypes.data + start), ctypes.c_int64(64)) == WRONG_WEIGHTS


def test_other_files_are_no_libraries(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "mlp.so").read_bytes()
    for size in (0, 3, 63, 64, 1000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "part.so").write_bytes(whole[:size])
        with pytest.raises(OSError, match=r"is cut off|not a shared library"):
            torch.load_exported(tmp_path / "part.so")
    with pytest.raises(FileNotFoundError, match="no library"):
        torch.load_exported(tmp_path / "none.so")
    (tmp_path / "text.so").write_text("hello")
    with pytest.raises(OSError, match="not a shared library"):
        torch.load_exported(tmp_path / "text.so")


# -- what is refused --------------------------------------------------------------------------------------------------


def changing(x: Any) -> Any:
    return x.add_(1)


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda x: torch.sort(x)[0] + torch.linalg.inv(x), r"(?s)no Python.*sort at test_export.*linalg_inv at"),
        (lambda x: x[x > 0], r"nonzero \(the size of its result depends on data\) at test_export.py:\d+"),
        (lambda x: F.dropout(x), r"draws random numbers \(at test_export.py:\d+\)"),
        (changing, "changes x, and an exported model keeps nothing"),
        (lambda x: x if x.sum() > 0 else -x, r"(?s)which way it goes depends on data.*at test_export.py:\d+"),
        (lambda x: (x, 3), r"returns 3 \(output.1\)"),
        (lambda x: None, "returns no tensor"),
        (nn.Linear(3, 3), "Linear is in training mode"),
    ],
)  # fmt: skip
def test_what_needs_python_is_refused(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        torch.export(model, torch.randn(3, 3), tmp_path / "f.so")
    assert not list(tmp_path.iterdir())


def test_bad_arguments(tmp_path: Path, folder: Path) -> None:
    x, path = torch.randn(3, 20), tmp_path / "f.so"
    with pytest.raises(ValueError, match="must be a name in C"):
        torch.export(mlp(), x, path, name="1st")
    with pytest.raises(ValueError, match=r"there are .*portable"):
        torch.export(mlp(), x, path, target="z80")
    if os.uname().machine == "x86_64":
        with pytest.raises(ExportError, match="has tile registers, for which a process must ask"):
            torch.export(mlp(), x, path, target="x86-64-amx")
    with pytest.raises(ValueError, match="that is the library itself"):
        torch.export(mlp(), x, path, weights=path)
    with pytest.raises(TypeError, match="a Module or a function"):
        torch.export(3, x, path)  # type: ignore[arg-type]
    loaded = torch.load_exported(folder / "mlp.so")
    with pytest.raises(TypeError, match="takes 1 inputs, got 2"):
        loaded(x, x)
    with pytest.raises(TypeError, match="input is a tensor or a NumPy array, got list"):
        loaded([1.0])
    with pytest.raises(ValueError, match=r"takes input: f32\[batch, 20\].*float32\[3, 21\]"):
        loaded(torch.zeros(3, 21))
    with pytest.raises(ValueError, match="float64"):
        loaded(x.double())
    with pytest.raises(ValueError, match="batch = 65, not 1 to 64"):
        loaded(torch.zeros(65, 20))


def test_without_a_compiler_the_linker_does_and_without_both_there_is_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linker = shutil.which("ld")
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("CC", raising=False)
    exported = torch.export(mlp(), torch.zeros(2, 20), tmp_path / "f.so")
    assert exported.library is None and exported.object == tmp_path / "f.o"
    assert [f.name for f in exported.files] == ["f.o", "f.h"]
    if linker is not None:
        (tools / "ld").symlink_to(linker)
        torch.export(mlp(), torch.zeros(2, 20), tmp_path / "g.so")
        assert torch.load_exported(tmp_path / "g.so")(torch.zeros(2, 20)).shape == (2, 5)


# -- names and the command line ---------------------------------------------------------------------------------------


def test_it_is_not_torch_export() -> None:
    assert not has("torch", "export")
    assert torch.compiler.export is torch.export
    with torch.as_torch():
        import torch as alias

        assert alias.compiler.export
        with pytest.raises(AttributeError, match=r"torch\.export is not in vitrify"):
            alias.export  # noqa: B018
        with pytest.raises(ModuleNotFoundError, match=r"torch\.export is not in vitrify"):
            __import__("torch.export")


SCRIPT = """import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.Dropout(), torch.nn.Linear(32, 5))
def shuffled(x): return torch.rand_like(x) + x
"""


def run_main(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vitrify", "compile", *words], capture_output=True, text=True, check=False
    )


def test_the_command_line(tmp_path: Path) -> None:
    script, library = tmp_path / "model.py", tmp_path / "net.so"
    script.write_text(SCRIPT)
    done = run_main(f"{script}:net", "f32[batch=1:64, 20]", "-o", str(library), "--name", "my_net")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(library), str(library.with_suffix(".h"))]
    loaded = torch.load_exported(library)
    assert (loaded.name, str(loaded.inputs[0])) == ("my_net", "input: f32[batch, 20]")
    assert loaded(torch.zeros(9, 20)).shape == (9, 5)
    done = run_main(f"{script}:shuffled", "f32[3]", "-o", str(library))
    assert done.returncode == 1 and "draws random numbers (at model.py:4)" in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["nothing"], "is not SCRIPT:NAME"),
        (["none.py:net"], "can't open file 'none.py'"),
        (["FILE:net", "f33[2]"], "is not a type"),
        (["FILE:net", "f32[2;3]"], "is not a size"),
        (
            ["FILE:net", "f32[2, 21]"],
            "mat1 and mat2 shapes cannot be multiplied (2x21 and 20x32)\n  while compiling x",
        ),
        (["FILE:net", "f32[a=1:2]", "f32[a=1:3]"], "a has other bounds"),
    ],
)
def test_bad_words_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "model.py").write_text(SCRIPT)
    words = [w.replace("FILE", str(tmp_path / "model.py")) for w in words]
    with torch.as_torch():  # the command leaves it in place for good
        assert main(["compile", *words, "-o", str(tmp_path / "x.so")]) == 1
    assert message in capsys.readouterr().err


def test_a_size_may_be_a_multiple_of_a_dim(tmp_path: Path) -> None:
    n = torch.Dim("n", 1, 6)
    torch.export(
        lambda x: x.reshape(-1, 4).sum(1),
        torch.ones(2, 8),
        tmp_path / "f.so",
        dynamic_shapes={"x": {1: 4 * n}},
    )
    run = torch.load_exported(tmp_path / "f.so")
    assert str(run.inputs[0]) == "x: f32[2, 4*n]" and run(torch.ones(2, 20)).tolist() == [4.0] * 10
    with pytest.raises(ValueError, match="takes x"):
        run(torch.ones(2, 9))
    with pytest.raises(ValueError, match="n = 7, not 1 to 6"):
        run(torch.ones(2, 28))
