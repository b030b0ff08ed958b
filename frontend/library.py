"""`torch.library`: functions of a program's own, as ops with a name.

A custom op here is the function with its gradient: it runs as it is, and `torch.compile` traces into it, so that a fake
implementation, which PyTorch's compiler needs to know the result's shape, is accepted and not called. After
https://docs.pytorch.org/docs/stable/library.html.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from .autograd.function import Function

_OPS: dict[str, CustomOpDef] = {}


class _Ops(SimpleNamespace):
    """`torch.ops`: the ops by namespace."""

    def load_library(self, path: str | os.PathLike[str]) -> None:
        """OSError: a library of compiled ops is made for PyTorch's own tensors. torchvision's operators (`_C` in a
        folder `torchvision`) are provided instead, by `torchvision_ops.py`."""
        file = Path(path)
        if file.parent.name != "torchvision" or file.name.partition(".")[0] != "_C":
            raise OSError(f"{path}: compiled ops for PyTorch cannot be loaded into vitrify")
        provided = import_module(".torchvision_ops", __package__)
        for fn in provided.OPERATORS:
            _define(_ProvidedOp(f"torchvision::{fn.__name__}", fn))
        for name in provided.ABSENT:
            _define(_ProvidedOp(f"torchvision::{name}", functools.partial(_absent, name)))


class _PyTorchOp:
    """The name of an op of PyTorch's own (`torch.ops.aten.add.Tensor`), which libraries make tables by:
    NotImplementedError where it is called. The same name is the same object."""

    def __init__(self, name: str):
        self.__name__ = self.__qualname__ = name

    def __getattr__(self, name: str) -> _PyTorchOp:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self.__dict__[name] = _PyTorchOp(f"{self.__name__}.{name}")
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"torch.ops.{self.__name__}: PyTorch's own ops are not in vitrify under these names; call torch's functions"
        )

    def __repr__(self) -> str:
        return self.__name__


ops = _Ops(aten=_PyTorchOp("aten"))


class CustomOpDef:
    """What `custom_op` makes of a function."""

    def __init__(self, name: str, fn: Callable[..., Any]):
        self._qualname = name
        self._fn = fn
        self._function: type[Function] | None = None
        functools.update_wrapper(self, fn)

    @property
    def default(self) -> CustomOpDef:
        """The op itself, which has one overload."""
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            return self._fn(*args, **kwargs)
        return self._by_place(args, kwargs) if kwargs else self._function.apply(*args)

    def _by_place(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The gradient's function takes its arguments by place."""
        bound = inspect.signature(self._fn).bind(*args, **kwargs)
        bound.apply_defaults()
        assert self._function is not None
        return self._function.apply(*bound.args, *bound.kwargs.values())

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"

    def register_fake(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function unchanged: shapes come from the op itself."""
        return fn

    def register_autograd(
        self, backward: Callable[..., Any], /, *, setup_context: Callable[..., Any] | None = None
    ) -> None:
        """`backward(ctx, *grads)` gives the gradients of the arguments; `setup_context(ctx, inputs, output)` keeps what
        it will read."""
        fn = self._fn

        def forward(*args: Any) -> Any:
            return fn(*args)

        def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if setup_context is not None:
                setup_context(ctx, inputs, output)

        parts = {"forward": forward, "setup_context": setup, "backward": backward}
        members: dict[str, Any] = {name: staticmethod(part) for name, part in parts.items()}
        self._function = type(self._qualname.replace("::", "_"), (Function,), members)

    def register_kernel(
        self, device_types: Any, fn: Callable[..., Any] | None = None, /
    ) -> Callable[..., Any]:
        """What computes the op on a kind of device, or on all (None); NotImplementedError for one of several."""
        if device_types not in (None, "cpu", ["cpu"], ("cpu",)):
            raise NotImplementedError(
                f"{self._qualname}: kernels for {device_types!r} alone are not in vitrify; write the op over tensors of "
                "any device"
            )

        def take(fn: Callable[..., Any]) -> Callable[..., Any]:
            self._fn = fn
            return fn

        return take if fn is None else take(fn)


class _ProvidedOp(CustomOpDef):
    """An op of a compiled library that vitrify has itself, with its gradient: what the library registers for its own
    is accepted and not used."""

    def register_autograd(self, backward: Callable[..., Any], /, *, setup_context: Any = None) -> None:
        """Nothing."""


def _absent(name: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise NotImplementedError(f"torch.ops.torchvision.{name} is not in vitrify")


def _define(op: CustomOpDef) -> CustomOpDef:
    namespace, _, own = op._qualname.partition("::")
    _OPS[op._qualname] = op
    setattr(vars(ops).setdefault(namespace, SimpleNamespace()), own, op)
    return op


class Library:
    """Ops of one namespace, as older programs and libraries define them: `kind` is "DEF", "FRAGMENT" or "IMPL".

    What computes an op is registered for the key "CPU" or a composite one; ops' shapes come from what computes them, so
    that "Meta" is accepted and not used. Automatic casts of an op that vitrify provides are its own."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = ""):
        if kind not in ("DEF", "FRAGMENT", "IMPL"):
            raise ValueError(f"Unsupported kind: {kind}")
        self.ns, self.kind, self.dispatch_key = ns, kind, dispatch_key

    def define(self, schema: str, alias_analysis: str = "", *, tags: Any = ()) -> str:
        """The op of this schema, `name(arguments) -> results`, which `impl` is to compute; its name."""
        name = schema.partition("(")[0].strip()
        _define(CustomOpDef(f"{self.ns}::{name}", functools.partial(_not_implemented, f"{self.ns}::{name}")))
        return name

    def impl(
        self,
        op_name: str | CustomOpDef,
        fn: Callable[..., Any],
        dispatch_key: str = "",
        *,
        with_keyset: bool = False,
        allow_override: bool = False,
    ) -> None:
        """What computes the op; NotImplementedError for the keys of other devices and of gradients."""
        key = dispatch_key or self.dispatch_key or "CompositeImplicitAutograd"
        op = _named(
            op_name if isinstance(op_name, CustomOpDef) else f"{self.ns}::{op_name.rpartition('::')[2]}"
        )
        if key == "Meta" or isinstance(op, _ProvidedOp):
            return
        if key not in ("CPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd"):
            raise NotImplementedError(f"{op._qualname}: implementations for {key} are not in vitrify")
        op._fn = fn


def _not_implemented(name: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise NotImplementedError(f"{name}: nothing computes it; register an implementation for CPU")


def custom_op(
    name: str,
    fn: Callable[..., Any] | None = None,
    /,
    *,
    mutates_args: str | Iterable[str] = (),
    device_types: Any = None,
    schema: str | None = None,
    tags: Any = None,
) -> Any:
    """The function as the op `namespace::name`, which is `torch.ops.namespace.name` too; without a function a decorator.

    ValueError for another form of name. A function that changes its arguments is traced as any other code does, so
    `mutates_args` need not be told here."""
    namespace, colons, own = name.partition("::")
    if not colons or not namespace.isidentifier() or not own.isidentifier():
        raise ValueError(
            f"torch.library.custom_op: expected `name` to be of the form 'namespace::name', got {name!r}"
        )

    def define(fn: Callable[..., Any]) -> CustomOpDef:
        return _define(CustomOpDef(name, fn))

    return define if fn is None else define(fn)


def _named(op: str | CustomOpDef) -> CustomOpDef:
    if isinstance(op, CustomOpDef):
        return op
    if op not in _OPS:
        raise RuntimeError(f"torch.library: no custom op {op!r} was defined")
    return _OPS[op]


def register_fake(op: str | CustomOpDef, func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """The function unchanged, as `CustomOpDef.register_fake`; without a function a decorator. Since it is not called,
    the op may be one of another library's compiled ops, which are not here."""
    return (lambda fn: fn) if func is None else func


def register_autograd(
    op: str | CustomOpDef,
    backward: Callable[..., Any],
    /,
    *,
    setup_context: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    """`CustomOpDef.register_autograd` of an op by name."""
    _named(op).register_autograd(backward, setup_context=setup_context)


def register_kernel(op: str | CustomOpDef, device_types: Any, func: Any = None, /, **options: Any) -> Any:
    """`CustomOpDef.register_kernel` of an op by name."""
    return _named(op).register_kernel(device_types, func)


__all__ = ["CustomOpDef", "Library", "custom_op", "register_autograd", "register_fake", "register_kernel"]
