"""PyTorch's public names, and which of them are here."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from .tensor import Tensor

_PACKAGE = __package__ or "vitrify"


@cache
def torch_names() -> dict[str, dict[str, bool]]:
    """Namespace (`torch.nn`, `torch.Tensor`) to its public names, and whether each is a module; as of the PyTorch that
    the list was made with."""
    text = (Path(__file__).parent / "torch_names.txt").read_text(encoding="utf-8")
    found: dict[str, dict[str, bool]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, *module = line.split()
            where, _, name = name.rpartition(".")
            found.setdefault(where, {})[name] = bool(module)
    return found


def is_torch_name(where: str, name: str) -> bool:
    """Whether PyTorch has the public name. A namespace that the list does not hold counts as having every name."""
    known = torch_names().get(where)
    return known is None or name in known


def own_name(name: str) -> str:
    """Where the namespace that PyTorch calls `torch` or `torch.…` lies here."""
    return _PACKAGE + name.removeprefix("torch")


def torch_name(name: str) -> str:
    """The name under which PyTorch's users know one of our namespaces."""
    return "torch" + name.removeprefix(_PACKAGE)


def missing_message(name: str) -> str:
    return f"{name} is not in vitrify yet; docs/coverage.md lists what is"


def namespace(where: str) -> object | None:
    """Our module or class for one of PyTorch's namespaces, or None."""
    if where == "torch.Tensor":
        return Tensor
    try:
        return importlib.import_module(own_name(where))
    except ImportError:
        return None


def has(where: str, name: str) -> bool:
    """Whether PyTorch's name exists here, as an attribute or as a module to import."""
    holder = namespace(where)
    if hasattr(holder, name):
        # A file of ours may be called what in PyTorch is a class, a function what there is a package (`export`).
        return torch_names()[where][name] is isinstance(getattr(holder, name), ModuleType)
    return torch_names()[where][name] and namespace(f"{where}.{name}") is not None
