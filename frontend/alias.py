"""`import torch` gives vitrify, where a program asks for it.

`as_torch()` puts a finder on `sys.meta_path` that answers for `torch` and `torch.*` with the modules of this package:
the same objects, so `torch.nn is vitrify.nn`. Without the call an installed PyTorch is what `import torch` gives. A name
that is not here fails at the line that uses it, under PyTorch's name for it.
"""

from __future__ import annotations

import dis
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

from .torch_names import is_torch_name, missing_message, own_name, torch_name
from .torch_version import TorchVersion

_PACKAGE = __package__ or "vitrify"
_TORCH_VERSION = "2.13.0"
_SAME_LAYOUT = ("autograd", "cuda", "nn", "optim", "random", "utils")


class _TorchFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `torch` and `torch.*` in this package. Comes first on `sys.meta_path`."""

    def __init__(self) -> None:
        self._own_spec: importlib.machinery.ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch" and not fullname.startswith("torch."):
            return None
        try:
            found = importlib.util.find_spec(own_name(fullname))
        except ImportError:
            found = None
        if found is None:
            raise ModuleNotFoundError(missing_message(fullname), name=fullname)
        return importlib.machinery.ModuleSpec(
            fullname, self, origin=found.origin, is_package=found.submodule_search_locations is not None
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(own_name(spec.name))
        # The import system now puts `spec` on the module, which has one of its own.
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec
        _refuse_what_is_missing(module)


class _MissingFinder(importlib.abc.MetaPathFinder):
    """Comes last on `sys.meta_path`: refuses what nobody found.

    `from torch import fft` looks for `vitrify.fft`, because that is what the module calls itself; the import statement
    would go on to complain about a name that the program does not contain.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        parent, _, name = fullname.rpartition(".")
        if parent == _PACKAGE or parent.startswith(f"{_PACKAGE}."):
            raise _import_error(torch_name(parent), name)


class _Refusal:
    """A module's `__getattr__`: what to say about a name that the module has not got."""

    def __init__(self, where: str):
        self.where = where

    def __call__(self, name: str) -> NoReturn:
        frame = sys._getframe(1)
        # `from torch.nn.functional import glu` asks the module directly, and words an AttributeError anew.
        if dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM":
            raise _import_error(self.where, name)
        if name.startswith("_") or not is_torch_name(self.where, name):
            raise AttributeError(f"module {self.where!r} has no attribute {name!r}", name=name)
        raise AttributeError(missing_message(f"{self.where}.{name}"), name=name)


def _refuse_what_is_missing(module: ModuleType) -> None:
    vars(module).setdefault("__getattr__", _Refusal(torch_name(module.__name__)))


def _classes_of_torch() -> Iterator[type]:
    """The classes that programs print and pickle by their module, which here has the name it has in PyTorch."""
    for name, module in list(sys.modules.items()):
        package, *part = name.split(".")
        if package == _PACKAGE and (not part or part[0] in _SAME_LAYOUT):
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == name:
                    yield value
            # Where `inspect` looks for a class's source.
            sys.modules[torch_name(name)] = module
            _refuse_what_is_missing(module)


def _import_error(where: str, name: str) -> ImportError:
    if is_torch_name(where, name):
        return ModuleNotFoundError(missing_message(f"{where}.{name}"), name=f"{where}.{name}")
    file = getattr(sys.modules.get(own_name(where)), "__file__", None)
    return ImportError(f"cannot import name {name!r} from {where!r} ({file})", name=where, path=file)


class TorchAlias:
    """What `as_torch()` put in place. As a context manager it takes it away again at the end of the block."""

    def __init__(self) -> None:
        present = sys.modules.get("torch")
        self._owner = present is not sys.modules[_PACKAGE]
        self._finders = _TorchFinder(), _MissingFinder()
        if not self._owner:
            return
        if present is not None:
            raise RuntimeError(
                f"as_torch(): torch is already imported, from {getattr(present, '__file__', None)}. "
                "Call it before anything imports torch."
            )
        first, last = self._finders
        sys.meta_path.insert(0, first)
        sys.meta_path.append(last)
        package: Any = importlib.import_module("torch")
        self._version = package.__version__
        package.__name__, package.torch = "torch", package
        # Programs compare it with the releases they know.
        package.__version__ = TorchVersion(f"{_TORCH_VERSION}+vitrify.{self._version}")
        self._classes = set(_classes_of_torch())  # some have two names
        for cls in self._classes:
            cls.__module__ = torch_name(cls.__module__)

    def close(self) -> None:
        """`import torch` means again what it did before."""
        if not self._owner:
            return
        self._owner = False
        for finder in self._finders:
            sys.meta_path.remove(finder)
        for cls in self._classes:
            cls.__module__ = own_name(cls.__module__)
        for name in [n for n in sys.modules if n == "torch" or n.startswith("torch.")]:
            module = sys.modules.pop(name)
            if isinstance(vars(module).get("__getattr__"), _Refusal):
                del module.__getattr__
        package: Any = sys.modules[_PACKAGE]
        package.__name__, package.__version__ = _PACKAGE, self._version
        del package.torch

    def __enter__(self) -> TorchAlias:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def as_torch() -> TorchAlias:
    """From here on `import torch`, and `import torch.nn` and so on, give this package.

    `with vitrify.as_torch():` does so for a block. RuntimeError when a PyTorch has been imported already: its objects
    and ours would mix. `vitrify run script.py` does this before it starts the script.
    """
    return TorchAlias()


__all__ = ["TorchAlias", "as_torch"]
