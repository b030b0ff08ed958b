"""`nn.Module`: a tree of submodules, parameters and buffers, with a forward function and hooks around it."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, Self

from ...autograd.grad_mode import no_grad
from ...creation import empty_like
from ...ir import dtypes
from ...ir.dtypes import DType
from ...placement import where_to
from ...state import local
from ...tensor import Tensor
from ..parameter import Buffer, Parameter, UninitializedBuffer, is_lazy, typename
from . import paths
from . import state_dict as state_io
from . import tree as _tree
from .hooks import (
    GLOBAL_BACKWARD_HOOKS,
    GLOBAL_BACKWARD_PRE_HOOKS,
    GLOBAL_BUFFER_HOOKS,
    GLOBAL_FORWARD_HOOKS,
    GLOBAL_FORWARD_PRE_HOOKS,
    GLOBAL_MODULE_HOOKS,
    GLOBAL_PARAMETER_HOOKS,
    HookRegistration,
    as_registered,
    call_with_hooks,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from .paths import current_module_path, tracked_module_paths
from .structure import Birth, CountedDict, changed, structure_version
from .tree import ModuleTree

_BUFFERS = (Buffer, UninitializedBuffer)
_PLAIN = (bool, int, float, str, type(None))


_HOOK_TABLES = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def _check_name(kind: str, name: Any, owner: Module, table: Mapping[str, Any]) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{kind} name should be a string. Got {typename(name)}")
    if kind == "module" and hasattr(owner, name) and name not in table:
        raise KeyError(f"attribute '{name}' already exists")
    if "." in name:
        got = f", got: {name}" if kind == "module" else ""
        raise KeyError(f'{kind} name can\'t contain "."{got}')
    if name == "":
        raise KeyError(f'{kind} name can\'t be empty string ""')
    if hasattr(owner, name) and name not in table:
        raise KeyError(f"attribute '{name}' already exists")


_IncompatibleKeys = state_io.IncompatibleKeys
# Functions that PyTorch has as builtins, which are no methods of a class they are put in: `act = torch.tanh`.
_UNBOUND: set[FunctionType] = set()


def never_bind(values: Iterable[Any]) -> None:
    """Those of the values that are functions are called without self where they are attributes of a module's class."""
    _UNBOUND.update(value for value in values if isinstance(value, FunctionType))


class Module(ModuleTree, HookRegistration):
    """The base class of all networks; the same contract, names and messages as `torch.nn.Module`."""

    _version: int = 1
    training: bool
    call_super_init: bool = False
    dump_patches: bool = False
    _compiled_call_impl: Callable[..., Any] | None = None
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in tuple(vars(cls).items()):
            if isinstance(value, FunctionType) and value in _UNBOUND:
                setattr(cls, name, staticmethod(value))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            name = type(self).__name__
            if kwargs:
                raise TypeError(
                    f"{name}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'"
                )
            if args:
                raise TypeError(
                    f"{name}.__init__() takes 1 positional argument but {len(args) + 1} were given"
                )
        fields = self.__dict__
        fields["training"] = True
        birth = Birth()
        for table in ("_parameters", "_buffers", "_modules"):
            fields[table] = CountedDict()
            fields[table].birth = birth
        fields["_non_persistent_buffers_set"] = set()
        fields["_is_full_backward_hook"] = None
        for table in _HOOK_TABLES:
            fields[table] = {}
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def _forward_unimplemented(self, *input: Any) -> Any:
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    forward: Callable[..., Any] = _forward_unimplemented

    # Attributes

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but not a parameter; not saved if not persistent."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        _check_name("buffer", name, self, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or None "
                "required)"
            )
        if GLOBAL_BUFFER_HOOKS:
            tensor = as_registered(GLOBAL_BUFFER_HOOKS, self, name, tensor)
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None in its place; KeyError for a name that is taken, empty or has a dot."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        _check_name("parameter", name, self, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{typename(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                f"explicitly. To express '{name}' as a function of another Tensor, compute the value in the "
                "forward() method."
            )
        if GLOBAL_PARAMETER_HOOKS:
            param = as_registered(GLOBAL_PARAMETER_HOOKS, self, name, param)
        self._parameters[name] = param

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule, or None in its place; KeyError for a name that is taken, empty or has a dot."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{typename(module)} is not a Module subclass")
        _check_name("module", name, self, self._modules)
        if GLOBAL_MODULE_HOOKS:
            module = as_registered(GLOBAL_MODULE_HOOKS, self, name, module)
        self._modules[name] = module

    register_module = add_module

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__
        for table in ("_parameters", "_buffers", "_modules"):
            found = fields.get(table)
            if found is not None and name in found:
                return found[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def _forget(self, name: str, *tables: Any) -> None:
        for table in tables:
            if isinstance(table, dict):
                table.pop(name, None)
            else:
                table.discard(name)

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        params = fields.get("_parameters")
        if isinstance(value, Parameter):
            if params is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, fields, self._buffers, self._modules, self._non_persistent_buffers_set)
            self.register_parameter(name, value)
            return
        if params is not None and name in params:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as parameter '{name}' (torch.nn.Parameter or None "
                    "expected)"
                )
            self.register_parameter(name, value)
            return
        modules = fields.get("_modules")
        if isinstance(value, Module):
            if modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, fields, self._parameters, self._buffers, self._non_persistent_buffers_set)
            modules[name] = as_registered(GLOBAL_MODULE_HOOKS, self, name, value)
            return
        if modules is not None and name in modules:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{typename(value)}' as child module '{name}' (torch.nn.Module or None "
                    "expected)"
                )
            modules[name] = as_registered(GLOBAL_MODULE_HOOKS, self, name, value)
            return
        buffers = fields.get("_buffers")
        if isinstance(value, _BUFFERS) or (buffers is not None and name in buffers):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{typename(value)}' as buffer '{name}' "
                    "(torch.nn.Buffer, torch.Tensor or None expected)"
                )
            if isinstance(value, _BUFFERS):
                persistent = value.persistent
                fields.pop(name, None)
            else:
                persistent = name not in self._non_persistent_buffers_set
            self.register_buffer(name, value, persistent)
            return
        if name in fields:
            # Setting what is there already (net.train() each epoch) is no change; only plain values are
            # compared.
            old = fields[name]
            if old is value or (type(old) is type(value) and isinstance(value, _PLAIN) and old == value):
                return
        super().__setattr__(name, value)
        if params is not None:  # else it is no module yet
            changed(getattr(params, "birth", None))

    def __delattr__(self, name: str) -> None:
        if name in self._parameters:
            del self._parameters[name]
        elif name in self._buffers:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self._modules:
            del self._modules[name]
        else:
            super().__delattr__(name)
            changed(getattr(self._parameters, "birth", None))

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers]
        return sorted({name for name in names if not name[0].isdigit()})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_compiled_call_impl"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = self.__dict__
        fields.update(state)
        # A module from a file that PyTorch wrote, perhaps one of its older versions.
        for table in ("_parameters", "_buffers", "_modules"):
            if not isinstance(fields[table], CountedDict):
                fields[table] = CountedDict(fields[table])
        for table in _HOOK_TABLES:
            fields.setdefault(table, {})
        fields.setdefault("_non_persistent_buffers_set", set())
        fields.setdefault("_is_full_backward_hook", None)

    # Calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is not None and local.backend.capture is None:
            return self._compiled_call_impl(*args, **kwargs)
        if paths.recording[0] and paths.enter(self):
            try:
                return self._call_impl(*args, **kwargs)
            finally:
                paths.leave()
        return self._call_impl(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        if (
            self._forward_hooks
            or self._forward_pre_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or GLOBAL_FORWARD_HOOKS
            or GLOBAL_FORWARD_PRE_HOOKS
            or GLOBAL_BACKWARD_HOOKS
            or GLOBAL_BACKWARD_PRE_HOOKS
        ):
            return call_with_hooks(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """From here on a call runs compiled, as by `torch.compile(module)`, whose arguments these are."""
        # The compiler is half of what there is to import, and stands above this package.
        compiler: Any = importlib.import_module("...compile.entry", __package__)
        self.__dict__["_compiled_call_impl"] = compiler.compile(self._call_impl, *args, **kwargs)

    # State

    get_extra_state = state_io.get_extra_state
    set_extra_state = state_io.set_extra_state
    _save_to_state_dict = state_io.save_own
    _load_from_state_dict = state_io.load_own

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name, detached unless `keep_vars`."""
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead. Refer to "
                "https://pytorch.org/docs/main/generated/torch.nn.Module.html#torch.nn.Module.state_dict"
                " for details.",
                FutureWarning,
                stacklevel=2,
            )
            given = dict(zip(("destination", "prefix", "keep_vars"), args))
            destination = given.get("destination") if destination is None else destination
            prefix = given.get("prefix", prefix)
            keep_vars = given.get("keep_vars", keep_vars)
        return state_io.collect_state(self, destination, prefix, keep_vars)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> state_io.IncompatibleKeys:
        """Copy the values in by name. RuntimeError lists every mismatch; `strict` also reports missing and
        unexpected keys, `assign` puts the tensors themselves in instead of copying."""
        return state_io.load_state(self, state_dict, strict, assign)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if recurse:
            for module in self.children():
                module._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            with no_grad():
                param.data = fn(param)
                if param.grad is not None:
                    param.grad.data = fn(param.grad)
        for key, buffer in self._buffers.items():
            if buffer is None:
                continue
            if is_lazy(buffer):  # it stays one that waits for its shape
                buffer.data = fn(buffer)
            else:
                self._buffers[key] = fn(buffer)
        changed()
        return self

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every submodule, children first, then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(tensor)`: floating parameters and buffers
        change. `non_blocking` and `memory_format` are wishes."""
        device, dtype, _, _ = where_to(args, kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )

        def convert(tensor: Tensor) -> Tensor:
            wanted = dtype if tensor.dtype.is_floating_point or tensor.dtype.is_complex else None
            if tensor.is_meta and device is not None and device.type != "meta":
                raise NotImplementedError(
                    "Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of "
                    "torch.nn.Module.to() when moving module from meta to a different device."
                )
            return tensor.to(device=device, dtype=wanted or tensor.dtype)

        return self._apply(convert)

    def _to_floating(self, dtype: DType) -> Self:
        return self._apply(lambda t: t.to(dtype=dtype) if t.dtype.is_floating_point else t)

    def type(self, dst_type: DType) -> Self:
        """All parameters and buffers to a dtype, in place."""
        return self._apply(lambda t: t.to(dtype=dst_type))

    def float(self) -> Self:
        """Floating-point parameters and buffers to float32, in place."""
        return self._to_floating(dtypes.f32)

    def double(self) -> Self:
        """Floating-point parameters and buffers to float64, in place."""
        return self._to_floating(dtypes.f64)

    def half(self) -> Self:
        """Floating-point parameters and buffers to float16, in place."""
        return self._to_floating(dtypes.f16)

    def bfloat16(self) -> Self:
        """Floating-point parameters and buffers to bfloat16, in place."""
        return self._to_floating(dtypes.bf16)

    def cpu(self) -> Self:
        """All parameters and buffers to the CPU, in place."""
        return self._apply(lambda t: t.to(device="cpu"))

    def cuda(self, device: Any = None) -> Self:
        """All parameters and buffers to a CUDA device, in place."""
        return self._apply(lambda t: t.to(device="cuda" if device is None else device))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """New memory for all parameters and buffers, without their values."""
        return self._apply(lambda t: empty_like(t, device=device), recurse)

    def share_memory(self) -> Self:
        """Memory that other processes can share, for all parameters and buffers."""
        return self._apply(lambda t: t.share_memory_())

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or with False evaluation mode, here and in all submodules. Dropout and batch
        normalization go by it."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Whether gradients are computed for the parameters, in place."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        changed()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with `set_to_none=False` fill them with zeros."""
        clear_gradients(self.parameters(), set_to_none)


def clear_gradients(parameters: Iterable[Tensor], set_to_none: bool) -> None:
    """Forget the gradients, or set their elements to zero."""
    for param in parameters:
        if set_to_none:
            param.grad = None  # without looking: a compiled function need not depend on what was there
            continue
        grad = param.grad
        if grad is not None:
            if grad.grad_fn is not None:
                grad.detach_()
            else:
                grad.requires_grad_(False)
            grad.zero_()


vars(_tree)["Module"] = Module  # for `typing.get_type_hints` of a module's class
_EXTRA_STATE_KEY_SUFFIX = state_io.EXTRA_STATE  # by this name other libraries know it

__all__ = [
    "Module", "clear_gradients", "current_module_path", "register_module_backward_hook",
    "register_module_buffer_registration_hook", "register_module_forward_hook", "register_module_forward_pre_hook",
    "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook", "register_module_parameter_registration_hook", "structure_version",
    "tracked_module_paths",
]  # fmt: skip
