"""Names of a package whose module is imported when they are first asked for: `import vitrify` is to take a moment."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class Lazy:
    """An attribute of a package's class: a module, or a name in it.

    A descriptor with `__set__`, so that it comes before the package's own namespace, where the import system puts a
    subpackage of the same name."""

    def __init__(self, module: str, name: str = ""):
        """`module` is absolute; without a `name` the attribute is the module itself."""
        self.module = module
        self.name = name
        self._given: Any = None

    def __get__(self, package: Any, cls: type | None = None) -> Any:
        if package is None:
            return self
        if self._given is not None:
            return self._given
        module = importlib.import_module(self.module)
        return getattr(module, self.name) if self.name else module

    def __set__(self, package: Any, value: Any) -> None:
        if not isinstance(value, ModuleType):  # a program that puts something of its own in the place
            self._given = value


class Own(Lazy):
    """A name of this package that in PyTorch means something else: there is no such name while `import torch` gives the
    package."""

    def __get__(self, package: Any, cls: type | None = None) -> Any:
        if package is not None and sys.modules.get("torch") is package:
            raise AttributeError(self.name)
        return super().__get__(package, cls)
