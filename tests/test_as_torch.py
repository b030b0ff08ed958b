"""`import torch` gives vitrify on request, only then, and `vitrify run` runs a script as Python would."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import vitrify
from vitrify.__main__ import main


@pytest.fixture
def alias():
    with vitrify.as_torch() as alias:
        yield alias


def load(name):
    return importlib.import_module(name)


def test_torch_and_its_submodules_are_the_same_objects(alias):
    assert load("torch") is vitrify
    assert load("torch.nn.functional") is vitrify.nn.functional
    assert load("torch.utils.data") is vitrify.utils.data
    assert load("torch.nn.modules.linear").Linear is vitrify.nn.Linear
    assert isinstance(load("torch").zeros(2), vitrify.Tensor)
    assert callable(load("torch").compile)
    assert vitrify.nn.__spec__.name == "vitrify.nn"


def test_programs_see_pytorchs_names(alias):
    assert str(type(vitrify.zeros(1))) == "<class 'torch.Tensor'>"
    assert str(vitrify.nn.Linear) == "<class 'torch.nn.modules.linear.Linear'>"
    assert type(vitrify.float32).__module__ == vitrify.Size.__module__ == "torch"
    assert vitrify.__version__.startswith("2.13.0+vitrify.")
    layer = vitrify.nn.Linear(2, 1)
    again = pickle.loads(pickle.dumps(layer))
    assert type(again) is vitrify.nn.Linear and again.weight.equal(layer.weight)


def test_nothing_is_left_behind():
    finders = list(sys.meta_path)
    with vitrify.as_torch():
        load("torch.nn")
        with vitrify.as_torch():
            pass
        assert "torch" in sys.modules
    assert not [n for n in sys.modules if n.split(".")[0] == "torch"]
    assert sys.meta_path == finders
    assert vitrify.nn.Linear.__module__ == "vitrify.nn.modules.linear"
    assert "__getattr__" not in vars(vitrify.nn)
    assert "2.13" not in vitrify.__version__


def test_an_imported_pytorch_is_not_shadowed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    with pytest.raises(RuntimeError, match="torch is already imported"):
        vitrify.as_torch()


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("torch.package", AttributeError, "torch.package is not in vitrify yet; docs/coverage.md lists what is"),
        ("torch.nn.CrossMapLRN2d", AttributeError, "torch.nn.CrossMapLRN2d is not in vitrify yet"),
        ("torch.no_such_thing", AttributeError, "module 'torch' has no attribute 'no_such_thing'"),
        ("torch.nn.Liner", AttributeError, "module 'torch.nn' has no attribute 'Liner'"),
        ("import torch.package", ModuleNotFoundError, "torch.package is not in vitrify yet"),
        ("from torch import package", ModuleNotFoundError, "torch.package is not in vitrify yet"),
        ("from torch import nnn", ImportError, "cannot import name 'nnn' from 'torch'"),
        ("from torch.utils.tensorboard import X", ImportError, "torch.utils.tensorboard is not in vitrify yet"),
        ("from torch.nn.functional import scaled_mm as d", ModuleNotFoundError, "torch.nn.functional.scaled_mm is"),
        ("from torch.nn.functional import rleu", ImportError, "cannot import name 'rleu' from 'torch.nn.functional'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_as_the_program_names_it(alias, code, error, message):
    with pytest.raises(error, match=message):
        exec(code, {"torch": load("torch"), "nn": load("torch.nn"), "F": load("torch.nn.functional")})


def test_probing_for_a_name_is_no_error(alias):
    assert not hasattr(load("torch"), "package")
    assert not hasattr(load("torch"), "_prims")


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "vitrify", "script.py", *arguments], cwd=folder, capture_output=True, text=True
    )


def test_a_script_is_main_and_has_its_own_arguments(tmp_path):
    (tmp_path / "helper.py").write_text("import torch\ntwo = torch.ones(2)\n")
    done = run(
        tmp_path,
        "import sys, pickle, torch, helper\n"
        "class Mine: pass\n"
        "print(__name__, __file__, sys.argv, helper.two, type(pickle.loads(pickle.dumps(Mine()))))\n"
        "sys.exit(7)\n",
        "--lr", "0.1", "-h",
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == (
        "__main__ script.py ['script.py', '--lr', '0.1', '-h'] tensor([1., 1.]) <class '__main__.Mine'>\n"
    )
    assert done.returncode == 7


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    raise ValueError('no')\n\nf()\n",
        "x = 1\ny = = 2\n",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e\n",
    ],
)
def test_an_error_is_shown_as_python_shows_it(tmp_path, text):
    ours = run(tmp_path, text)
    plain = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert ours.stderr.replace('"script.py"', f'"{tmp_path}/script.py"') == plain.stderr.replace(
        '"script.py"', f'"{tmp_path}/script.py"'
    )
    assert ours.returncode == plain.returncode == 1


def test_a_missing_name_fails_at_the_scripts_line(tmp_path):
    done = run(tmp_path, "import torch\nfrom torch import package\n")
    assert done.stderr.splitlines() == [
        "Traceback (most recent call last):",
        '  File "script.py", line 2, in <module>',
        "    from torch import package",
        "ModuleNotFoundError: torch.package is not in vitrify yet; docs/coverage.md lists what is",
    ]
    done = run(tmp_path, "import torch\nprint(torch.nn.CrossMapLRN2d)\n")
    assert "AttributeError: torch.nn.CrossMapLRN2d is not in vitrify yet" in done.stderr
    done = run(tmp_path, "import torch\ntorch.ones(2).coalesce()\n")
    assert done.stderr.endswith(
        "torch.Tensor.coalesce is not in vitrify yet; docs/coverage.md lists what is\n"
    )


def test_a_script_that_is_not_there(capsys, monkeypatch, tmp_path):
    with vitrify.as_torch():
        assert main(["run", str(tmp_path / "nothing.py")]) == 2
    assert "can't open file" in capsys.readouterr().err


def test_a_word_that_is_neither_command_nor_file():
    done = subprocess.run([sys.executable, "-m", "vitrify", "trace", "x.py"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("vitrify: 'trace' is no file and no command; commands are run, ")


def test_the_command_line_explains_itself(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    assert "run a script that imports torch" in capsys.readouterr().out
