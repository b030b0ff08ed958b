"""`torch._tensor_str`: the text of a tensor's numbers, for libraries that print tensors of their own."""

from __future__ import annotations

from typing import Any

from .functional_host import host_array
from .printing import array_str, get_printoptions
from .tensor import Tensor


class _PrintOptions:
    """What `torch.set_printoptions` has set, by name."""

    def __getattr__(self, name: str) -> Any:
        options = get_printoptions()
        if name not in options:
            raise AttributeError(name)
        return options[name]


PRINT_OPTS = _PrintOptions()


def _tensor_str(self: Tensor, indent: int) -> str:
    """The numbers in brackets; lines after the first are indented."""
    return array_str(host_array(self.detach(), "_tensor_str()"), self.dtype.is_floating_point, indent)


__all__ = ["PRINT_OPTS", "_tensor_str"]
