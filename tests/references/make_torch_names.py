"""Writes frontend/torch_names.txt: PyTorch's public names, one a line, and which are modules. Run with PyTorch 2.13.0.

Public is what `__all__` lists; where there is none (or it is not complete), every name without an underscore that is
torch's own: no imports from elsewhere, no helpers of the documentation.
"""

from __future__ import annotations

import importlib
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import torch

NAMESPACES = (
    "torch",
    "torch.Tensor",
    "torch.amp",
    "torch.autograd",
    "torch.autograd.forward_ad",
    "torch.autograd.functional",
    "torch.autograd.graph",
    "torch.distributions",
    "torch.fft",
    "torch.func",
    "torch.linalg",
    "torch.nn",
    "torch.nn.functional",
    "torch.nn.init",
    "torch.nn.parameter",
    "torch.nn.attention",
    "torch.nn.utils",
    "torch.nn.utils.parametrizations",
    "torch.nn.utils.parametrize",
    "torch.nn.utils.prune",
    "torch.nn.utils.rnn",
    "torch.optim",
    "torch.optim.lr_scheduler",
    "torch.optim.swa_utils",
    "torch.random",
    "torch.signal.windows",
    "torch.special",
    "torch.testing",
    "torch.utils",
    "torch.utils.checkpoint",
    "torch.utils.data",
)

HELPERS = (
    "torch._jit_internal",
    "torch.overrides",
    "torch._torch_docs",
    "torch._linalg_utils",
    "torch._awaits",
)


# Files rather than namespaces: what they import is not theirs.
FILES = frozenset(
    {
        "torch.autograd.forward_ad", "torch.autograd.graph", "torch.nn.attention", "torch.nn.utils.parametrizations",
        "torch.nn.utils.parametrize", "torch.nn.utils.prune", "torch.optim.swa_utils", "torch.testing",
        "torch.utils.checkpoint",
    }
)  # fmt: skip


def namespace(name: str) -> Any:
    return torch.Tensor if name == "torch.Tensor" else importlib.import_module(name)


def is_public(holder: Any, name: str, where: str) -> bool:
    value = getattr(holder, name)
    if name.startswith("_") or type(value).__name__ == "pybind11_type":  # the script compiler's insides
        return False
    if name in getattr(holder, "__all__", ()):
        return True
    if isinstance(value, str | dict) or (name.isupper() and not isinstance(value, type)):
        return False
    if isinstance(value, types.ModuleType):
        return value.__name__ == f"{where}.{name}"
    if where in ("torch.autograd", "torch.optim.lr_scheduler", "torch.func"):
        return False
    if value is torch.Tensor and where != "torch":
        return False
    made_in = getattr(value, "__module__", None) or where
    if where in FILES:
        return made_in == where
    return made_in.split(".")[0] == "torch" and not made_in.startswith(HELPERS)


def names() -> Iterator[str]:
    for where in NAMESPACES:
        holder = namespace(where)
        for name in sorted(dir(holder)):
            if is_public(holder, name, where):
                is_module = isinstance(getattr(holder, name), types.ModuleType)
                yield f"{where}.{name}{' module' * is_module}"


def main() -> None:
    path = pathlib.Path(__file__).parents[2] / "frontend" / "torch_names.txt"
    text = f"# The public names of PyTorch {torch.__version__.split('+')[0]}, by tests/references/make_torch_names.py\n"
    path.write_text(text + "\n".join(names()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
