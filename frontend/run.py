"""Runs a script that was written for PyTorch: `vitrify run script.py`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType, TracebackType

from .alias import as_torch
from .tensor import Tensor
from .torch_names import is_torch_name, missing_message

_OWN_FILES = (__file__, os.path.join(os.path.dirname(__file__), "alias.py"))


def run_script(path: str, arguments: Sequence[str] = ()) -> int:
    """Run the file as `python path arguments...` would, with `import torch` meaning this package; the exit status.

    The script is `__main__`, its folder comes first on `sys.path`, `sys.argv` is its own; an uncaught error is printed
    with the script's frames only. None of that is undone: the process is the script's.
    """
    as_torch()
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        print(f"vitrify: can't open file {os.path.abspath(path)!r}: {error.strerror}", file=sys.stderr)
        return 2
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__, __spec__=None)
    sys.modules["__main__"] = main
    sys.argv[:] = [path, *arguments]
    sys.path[0:1] = [os.path.dirname(os.path.realpath(path))]
    try:
        _execute(compile(source, path, "exec", dont_inherit=True), main)
    except SystemExit:
        raise
    except BaseException as error:
        report(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _execute(code: CodeType, main: ModuleType) -> None:
    exec(code, main.__dict__)


def report(error: BaseException) -> None:
    """Print the error as Python does for a script: no frames of the runner, nor of the alias that refused a name."""
    name, obj = getattr(error, "name", None), getattr(error, "obj", None)
    if (
        isinstance(error, AttributeError)
        and isinstance(obj, Tensor)
        and is_torch_name("torch.Tensor", str(name))
    ):
        error.add_note(missing_message(f"torch.Tensor.{name}"))
    error.__traceback__ = _script_frames(error.__traceback__)
    sys.excepthook(type(error), error, error.__traceback__)


def _script_frames(traceback: TracebackType | None) -> TracebackType | None:
    frames = []
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename not in _OWN_FILES:
            frames.append(traceback)
        traceback = traceback.tb_next
    kept = None
    for frame in reversed(frames):
        kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept
