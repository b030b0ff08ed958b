"""`__torch_function__`: the functions of torch leave the work to their arguments' classes, and to modes.

The protocol is PyTorch's (https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-python-api): a
function that is called with a tensor of a subclass calls `cls.__torch_function__(func, types, args, kwargs)`, and
Tensor's own makes tensors of the class out of the results.

PyTorch asks at every call, which takes 2 to 7 % of a small one here. So nobody is asked until the first tensor of such
a class is made, or the first mode entered. Then the code of all public functions is exchanged for code that asks first:
the functions stay the objects that programs and handlers hold. Properties are put on the subclasses themselves.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeGuard

from .state import having, local
from .tensor import Tensor, told_of_classes

Function = Callable[..., Any]

# Functions that do not ask (PyTorch's `get_ignored_functions`), besides the private ones.
_SILENT = frozenset(
    {
        "as_subclass", "compile", "initial_seed", "is_storage", "is_tensor", "load", "manual_seed", "save", "seed",
        "typename", "use_deterministic_algorithms", "__init__", "__init_subclass__", "__iter__", "__new__",
        "__torch_function__",
    }
)  # fmt: skip
# Of torch itself, also these.
_SILENT_PREFIXES = ("get_", "set_", "is_autocast", "is_anomaly", "is_grad_", "is_inference_mode")
# What PyTorch's operators call themselves.
_OPERATORS = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add_", "__sub__": "sub", "__isub__": "sub_", "__mul__": "mul",
    "__rmul__": "mul", "__imul__": "mul_", "__truediv__": "div", "__itruediv__": "div_", "__matmul__": "matmul",
    "__neg__": "neg", "__pos__": "positive", "__abs__": "abs", "__invert__": "bitwise_not", "__lt__": "lt",
    "__le__": "le", "__gt__": "gt", "__ge__": "ge", "__eq__": "eq", "__ne__": "ne", "__mod__": "remainder",
}  # fmt: skip
_TENSOR_VALUED = ("H", "T", "data", "imag", "mH", "mT", "real")


def disabled_torch_function(func: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """The `__torch_function__` of classes whose operations give plain tensors, such as Parameter."""
    return func(*args, **(kwargs or {}))


# -- who is asked ----------------------------------------------------------------------------------------------------


def overrides(kind: type) -> bool:
    """Whether objects of the class are asked: it has a `__torch_function__`, as subclasses of Tensor have."""
    rule = getattr(kind, "__torch_function__", None)
    return rule is not None and kind is not Tensor and rule is not disabled_torch_function


def overriding(relevant: Iterable[Any]) -> list[Any]:
    """One argument of each class that is asked, in the order in which they are: a subclass before its bases."""
    found: list[Any] = []
    for arg in relevant:
        if overrides(type(arg)) and type(arg) not in map(type, found):
            above = (i for i, other in enumerate(found) if issubclass(type(arg), type(other)))
            found.insert(next(above, len(found)), arg)
    return found


_OVERRIDES, _SEQUENCE = 1, 2


class _Kinds(dict[type, int]):
    """What to do with arguments of each class: 0 is nothing."""

    def __missing__(self, cls: type) -> int:
        found = self[cls] = _OVERRIDES if overrides(cls) else 0
        return found


_kinds = _Kinds({list: _SEQUENCE, tuple: _SEQUENCE})


def _relevant(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments, and items of lists and tuples among them, whose classes are asked."""
    found: list[Any] = []
    for arg in (*args, *kwargs.values()):
        kind = _kinds[type(arg)]
        if kind == _OVERRIDES:
            found.append(arg)
        elif kind == _SEQUENCE:
            found += [item for item in arg if _kinds[type(item)] == _OVERRIDES]
    return found


def ask(public: Function, relevant: Iterable[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the first of these arguments' classes makes of the call; NotImplemented where none does anything."""
    asked = overriding(relevant)
    kinds = tuple(map(type, asked))
    for arg in asked:
        result = arg.__torch_function__(public, kinds, args, kwargs)
        if result is not NotImplemented:
            return result
    return NotImplemented


def nobody(public: Function, relevant: Iterable[Any]) -> TypeError:
    """The error where all that were asked have returned NotImplemented."""
    kinds = list(dict.fromkeys(map(type, relevant)))
    module = getattr(public, "__module__", "torch")
    name = name_of(public) or f"{module}.{public.__name__}"
    return TypeError(
        f"no implementation found for '{name}' on types that implement __torch_function__: {kinds}"
    )


def without_asking(modes: bool = True) -> AbstractContextManager[None]:
    """A block in which no class is asked; nor are modes, unless `modes`."""
    return having(asks_classes=False, function_modes=local.function_modes if modes else ())


def library_code() -> AbstractContextManager[None]:
    """A block, which runs code of ours, in which no class is asked, but in what `program_code` encloses."""
    return having(asks_classes=False, asks_outside=local.asks_classes)


def program_code() -> AbstractContextManager[None]:
    """A block in which classes are asked as outside the `library_code` around it."""
    return having(asks_classes=local.asks_classes or local.asks_outside)


def entered(mode: Any) -> AbstractContextManager[None]:
    """A block in which the mode is asked first, at each call of a function of torch."""
    _exchange_code()
    return having(function_modes=(*local.function_modes, mode))


def asking(function: Function, public: Function) -> Function:
    """The function behind a question to modes and classes, which are told of `public`."""
    # Where all decline an operator, Python asks the other operand.
    is_operator = function.__name__.startswith("__")

    @functools.wraps(function)
    def asked(*args: Any, **kwargs: Any) -> Any:
        relevant = _relevant(args, kwargs) if local.asks_classes else []
        modes = local.function_modes
        if not (relevant or modes):
            return function(*args, **kwargs)
        local.function_modes = modes[:-1]  # the modes around the innermost are asked by what it calls
        try:
            result: Any = NotImplemented
            if modes:
                kinds = tuple(map(type, overriding(relevant)))
                result = modes[-1].__torch_function__(public, kinds, args, kwargs)
            if result is NotImplemented:
                result = ask(public, relevant, args, kwargs)
            if result is NotImplemented and not (is_operator and relevant):
                raise nobody(public, relevant or modes[-1:])
            return result
        finally:
            local.function_modes = modes

    return asked


# -- that functions ask ----------------------------------------------------------------------------------------------


def public_functions() -> Iterator[tuple[str, types.FunctionType, Function]]:
    """The functions that ask: the namespace, the function, and what handlers know it by."""
    torch = sys.modules[__package__ or ""]
    for space, owner in (
        ("torch", torch), ("torch.nn.functional", torch.nn.functional), ("torch.linalg", torch.linalg),
        ("torch.special", torch.special), ("torch.fft", torch.fft),
    ):  # fmt: skip
        silent = _SILENT_PREFIXES if owner is torch else ()
        for name in getattr(owner, "__all__", tuple(vars(owner))):
            function = getattr(owner, name)
            if _asks(name, function) and not name.startswith(("_", *silent)):
                yield space, function, function
    yield "torch.autograd", torch.autograd.grad, torch.autograd.grad
    for name, method in tuple(vars(Tensor).items()):
        if _asks(name, method) and (not name.startswith("_") or name.startswith("__")):
            yield "torch.Tensor", method, getattr(Tensor, _OPERATORS.get(name, name))


def _asks(name: str, function: Any) -> bool:
    return _is_plain(function) and name not in _SILENT


def _is_plain(function: Any) -> TypeGuard[types.FunctionType]:
    """Whether it is a function in Python, and makes no generator: contexts compute nothing."""
    return isinstance(function, types.FunctionType) and not inspect.isgeneratorfunction(function)


# Whether functions ask.
begun = [False]


def name_of(function: Function) -> str | None:
    """As in `torch.nn.functional.relu`; None for a function that does not ask."""
    return next((f"{space}.{f.__name__}" for space, f, _ in public_functions() if f is function), None)


def _exchange_code() -> None:
    """Have all public functions ask, and the functions behind those that are wrappers."""
    if begun[0]:
        return
    begun[0] = True
    found: dict[types.FunctionType, Function] = {}
    behind: dict[types.FunctionType, Function] = {}
    for _, function, public in public_functions():
        found.setdefault(function, public)
        inner = inspect.unwrap(function)
        if _is_plain(inner):
            behind.setdefault(inner, public)
    for function, public in (behind | found).items():
        _ask_first(function, public)


def _ask_first(function: types.FunctionType, public: Function) -> None:
    code, closure = function.__code__, function.__closure__
    own = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    own.__kwdefaults__ = function.__kwdefaults__
    own.__dict__.update(function.__dict__)
    for name in ("__doc__", "__module__", "__qualname__"):
        setattr(own, name, getattr(function, name))
    new = _code(len(closure or ()))
    used = own, asking(own, public), _kinds.__getitem__, local
    constants = tuple(used if c == _PLACE else c for c in new.co_consts)
    function.__code__ = new.replace(co_consts=constants, co_name=code.co_name)
    function.__dict__["__wrapped__"] = own  # whose signature it has


_PLACE = "what is used"
_PLACE_IN_TRACES = os.path.join(os.path.dirname(__file__), "<asks first>")
_ASKED = f"""
def enclosing({{variables}}):
    def asked(*args, **kwargs):
        function, asking, kind, local = {_PLACE!r}
        if not kwargs and not local.function_modes:
            for arg in args:
                if kind(type(arg)) != 0:
                    break
            else:
                return function(*args)
        return asking(*args, **kwargs)
        ({{variables}})
    return asked
"""


@functools.cache
def _code(variables: int) -> types.CodeType:
    """The code of a function that asks where it has to, with the constant `_PLACE` for what it uses; with so many
    variables of enclosing functions, as the function has whose code it replaces."""
    names = ", ".join(f"v{i}" for i in range(variables))
    space: dict[str, Any] = {}
    exec(compile(_ASKED.format(variables=names), _PLACE_IN_TRACES, "exec"), space)
    found: types.CodeType = space["enclosing"](*range(variables)).__code__
    return found


def _begin(cls: type) -> None:
    """A tensor of the class is about to be made."""
    if not overrides(cls):
        return
    _exchange_code()
    default = Tensor.__torch_function__.__func__  # type: ignore[attr-defined]
    is_default = getattr(cls.__torch_function__, "__func__", None) is default  # type: ignore[attr-defined]
    for name, found in list(vars(Tensor).items()):
        if (
            not isinstance(found, property)
            or name.startswith("_")
            or (is_default and name not in _TENSOR_VALUED)
        ):
            continue
        if inspect.getattr_static(cls, name, None) is found:
            assert found.fget is not None
            public = found.__get__
            setattr(cls, name, property(asking(found.fget, public), found.fset, found.fdel, found.__doc__))


def is_wrapped(func: Function) -> bool:
    """Whether Tensor's own `__torch_function__` makes tensors of the subclass of what the function gives: but for
    `.grad`, which it gives as it is."""
    return getattr(func, "__self__", None) is not vars(Tensor)["grad"]


told_of_classes.append(_begin)
