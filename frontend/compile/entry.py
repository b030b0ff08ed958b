"""`torch.compile`."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from ..nn.modules.module import Module
from ..runtime.compiled_graph import CompileOptions
from .compiled import CompiledFunction, DynamicShapes
from .compiled_module import CompiledModule
from .options import check_hints, of_mode


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str | None = None,
    mode: str | None = None,
    options: CompileOptions | Mapping[str, Any] | None = None,
    disable: bool = False,
    dynamic_shapes: DynamicShapes | None = None,
    dump: str | os.PathLike[str] | None = None,
) -> Any:
    """Compile a function or a Module; also a decorator, with or without arguments.

    https://docs.pytorch.org/docs/stable/generated/torch.compile.html

    dynamic: None compiles the first two sizes of an axis on their own, and at the third one program for all sizes; True
    does so at once, False never.
    dynamic_shapes: `{"argument": {axis: Dim("batch", 1, 256)}}`: one compile serves every size within the bounds.
    dump: a folder that receives a text file for every stage (also the environment variable VITRIFY_DUMP).
    Results are new tensors, also where eager code would return a view. A result whose history was consumed by a
    `backward()` inside the function comes back without one.
    options: `{"check_finite": True}` tests what the kernels compute, and raises an error that names the op, the line
    and the first index where a number is NaN or infinite ("nan": where one is NaN); the parameters then stay as before.
    `{"prepare": False}` has inference pack its weights in every call: else the packed ones are kept while the weights
    stay as they are, which takes as much memory again (3×3 convolutions four times as much).
    `{"progress": callback}` calls it with a `Progress` at each step of compiling (`runtime/progress.py`); a terminal is
    shown a line where compiling takes longer than two seconds.
    `{"tune": True}` measures, at the first compilation, which of the ways to compute a kernel is the fastest here, where
    the cost models find several about as good; for at most about `"tune_seconds"` (30) a graph. What was found is kept
    on disk, logged (logger `vitrify`, level INFO) and shown by `explain()`. Not with strict numerics.
    fullgraph: a call is one graph either way; code that cannot be captured raises a TraceError at its line, also where
    PyTorch would break the graph.
    mode: "max-autotune" and "max-autotune-no-cudagraphs" are `{"tune": True}`. Other modes and `backend` are what
    PyTorch's scripts say ("reduce-overhead"; "inductor", ...) and change nothing: there is one compiler. disable: the
    model or function comes back as it is.
    """
    check_hints(backend, mode, options)
    options = of_mode(mode, options)
    if model is None:
        return functools.partial(
            compile,
            fullgraph=fullgraph,
            dynamic=dynamic,
            options=options,
            disable=disable,
            dynamic_shapes=dynamic_shapes,
            dump=dump,
        )
    if disable:
        return model
    if isinstance(model, Module):
        return CompiledModule(
            model, dynamic_shapes=dynamic_shapes, options=options, dump=dump, dynamic=dynamic
        )
    if not callable(model):
        raise TypeError(f"torch.compile takes a function or a Module, got {type(model).__name__}")
    return CompiledFunction(model, dynamic_shapes, options, dump, dynamic=dynamic)
