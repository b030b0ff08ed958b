"""`torch.jit`: programs that were written for TorchScript run, compiled by `torch.compile`.

`script` and `trace` give a compiled callable, and say so once. What marks code for the TorchScript compiler (`ignore`,
`export`, `annotate` ...) has no meaning here and leaves the code as it is. TorchScript's files are not read or written.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from ..autograd.grad_mode import no_grad
from ..compile.entry import compile as _compile
from ..nn import Module
from .container_types import is_instance as isinstance

T = TypeVar("T")
_noticed: set[str] = set()


def _notice(name: str) -> None:
    if name not in _noticed:
        _noticed.add(name)
        warnings.warn(f"torch.jit.{name} is torch.compile here: there is no TorchScript", stacklevel=3)


def script(
    obj: Any,
    optimize: Any = None,
    _frames_up: int = 0,
    _rcb: Any = None,
    example_inputs: Any = None,
) -> Any:
    """The function or module compiled; a class, or an object that is no function, as it is."""
    if isinstance(obj, type):
        return obj
    if isinstance(obj, Module) or callable(obj):
        _notice("script")
        return _compile(obj)
    return obj


def trace(
    func: Any,
    example_inputs: Any = None,
    optimize: Any = None,
    check_trace: bool = True,
    check_inputs: Any = None,
    check_tolerance: float = 1e-5,
    strict: bool = True,
    _force_outplace: bool = False,
    _module_class: Any = None,
    _compilation_unit: Any = None,
    example_kwarg_inputs: dict[str, Any] | None = None,
    _store_inputs: bool = True,
) -> Any:
    """The function or module compiled for inputs like the examples (a tuple of arguments, or one tensor).

    Other than a traced function of PyTorch's, it is compiled anew for inputs for which the code goes another way.
    """
    _notice("trace")
    compiled = _compile(func)
    arguments = () if example_inputs is None else example_inputs
    with no_grad():
        compiled(
            *(arguments if isinstance(arguments, list | tuple) else (arguments,)),
            **(example_kwarg_inputs or {}),
        )
    return compiled


def trace_module(mod: Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """The module compiled; `inputs` has example arguments by method, of which only `forward` can be compiled."""
    other = [name for name in inputs if name != "forward"]
    if other:
        raise NotImplementedError(
            f"torch.jit.trace_module: only forward is compiled here, not {', '.join(other)}"
        )
    return trace(mod, inputs["forward"])


def _files(name: str) -> NoReturn:
    raise RuntimeError(
        f"torch.jit.{name}: TorchScript's files are not supported. Keep the weights with torch.save(model.state_dict(), "
        "...) and load them into the model's class; torch.compile makes it fast"
    )


def save(m: Any, f: Any, _extra_files: Any = None) -> NoReturn:
    """RuntimeError: there is no TorchScript to save."""
    _files("save")


def load(
    f: Any, map_location: Any = None, _extra_files: Any = None, _restore_shapes: bool = False
) -> NoReturn:
    """RuntimeError: there is no TorchScript to load."""
    _files("load")


# Marks for the TorchScript compiler


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """`@ignore` and `@ignore(drop=True)`: the function as it is."""
    return drop if callable(drop) else lambda function: function


def unused(fn: T) -> T:
    """The function as it is."""
    return fn


def _overload(fn: T) -> T:
    """The declaration as it is: the definition that follows takes its name."""
    return fn


_overload_method = _overload


def export(fn: T) -> T:
    """The function as it is."""
    return fn


def interface(obj: T) -> T:
    """The class as it is."""
    return obj


def script_method(fn: T) -> T:
    """The function as it is."""
    return fn


def script_if_tracing(fn: T) -> T:
    """The function as it is."""
    return fn


_script_if_tracing = script_if_tracing


def annotate(the_type: Any, the_value: T) -> T:
    """The value."""
    return the_value


class Attribute(NamedTuple):
    """A value with a type for TorchScript."""

    value: Any
    type: Any


def is_scripting() -> bool:
    """False: code always runs as Python."""
    return False


def is_tracing() -> bool:
    """False: what `torch.compile` does is not TorchScript's tracing."""
    return False


class ScriptModule(Module):
    """A base class of modules; here it adds nothing."""


class ScriptFunction:
    """What `torch.jit.script` of a function gives in PyTorch; nothing here is an instance."""


RecursiveScriptModule = ScriptModule
TopLevelTracedModule = ScriptModule
Error = RuntimeError


# Optimizations, which `torch.compile` does by itself


def freeze(mod: T, preserved_attrs: Any = None, optimize_numerics: bool = True) -> T:
    return mod


def optimize_for_inference(mod: T, other_methods: Any = None) -> T:
    return mod


def run_frozen_optimizations(mod: Any, optimize_numerics: bool = True, preserved_methods: Any = None) -> None:
    """Nothing to do."""


@contextlib.contextmanager
def optimized_execution(should_optimize: bool) -> Iterator[None]:
    yield


@contextlib.contextmanager
def fuser(name: str) -> Iterator[None]:
    yield


def set_fusion_strategy(strategy: Any) -> list[tuple[str, int]]:
    """Nothing to set; the strategy before, which is none."""
    return []


def enable_onednn_fusion(enabled: bool) -> None:
    """Nothing to switch."""


def onednn_fusion_enabled() -> bool:
    return False


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result, at once."""
    return func(*args, **kwargs)


def wait(future: T) -> T:
    """What `fork` gave."""
    return future


__all__ = [
    "Attribute", "Error", "Final", "RecursiveScriptModule", "ScriptFunction", "ScriptModule",
    "TopLevelTracedModule", "_overload", "_overload_method", "annotate", "enable_onednn_fusion", "export",
    "fork", "freeze", "fuser", "ignore", "interface", "is_scripting", "is_tracing", "load",
    "onednn_fusion_enabled", "optimize_for_inference", "optimized_execution", "run_frozen_optimizations",
    "save", "script", "script_if_tracing", "script_method", "set_fusion_strategy", "trace", "trace_module",
    "unused", "wait",
]  # fmt: skip
