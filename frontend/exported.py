"""`vitrify.load_exported`: what `vitrify.export` wrote, called from Python without a compiler."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .runtime.exported import DimInfo, ExportedLibrary, TensorInfo
from .runtime.threads import get_num_threads
from .tensor import Tensor, wrap


class ExportedModel:
    """An exported model. A call takes tensors or NumPy arrays, in the order of `inputs`, and returns a tensor, or a
    tuple of them where the model has several outputs; NumPy arrays if all arguments were such.

    It may be called from several threads at once; each call shares its work among `torch.get_num_threads()` threads.
    """

    def __init__(self, library: ExportedLibrary):
        self._library = library

    @property
    def name(self) -> str:
        """What the library's functions begin with."""
        return self._library.name

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Name, dtype and shape of each input; dims by name."""
        return self._library.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The same of each output."""
        return self._library.outputs

    @property
    def dims(self) -> tuple[DimInfo, ...]:
        """The dims that differ from call to call, and their bounds."""
        return self._library.dims

    def __call__(self, *args: Any) -> Any:
        arrays = []
        for info, arg in zip(self.inputs, args):
            if isinstance(arg, Tensor):
                arg = arg.detach().numpy() if info.dtype.name != "bf16" else arg.detach()._array
            elif not isinstance(arg, np.ndarray):
                raise TypeError(
                    f"{self.name}: {info.name} is a tensor or a NumPy array, got {type(arg).__name__}"
                )
            arrays.append(arg)
        if len(args) != len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} inputs, got {len(args)}")
        results: list[Any] = self._library.run(arrays, get_num_threads())
        if any(isinstance(arg, Tensor) for arg in args) or not args:
            results = [wrap(array) for array in results]
        return results[0] if len(results) == 1 else tuple(results)

    def __repr__(self) -> str:
        return repr(self._library)


def load_exported(
    path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None
) -> ExportedModel:
    """Load a library that `vitrify.export` wrote; `weights` is the file of its weights, by default the one of the name
    it was written under, in the folder of the library.

    Raises OSError where the file is no such library or the weights are not its own. Loading a library runs its code:
    load only what you trust.
    """
    return ExportedModel(ExportedLibrary(path, weights))


__all__ = ["DimInfo", "ExportedModel", "TensorInfo", "load_exported"]
