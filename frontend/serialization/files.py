"""`torch.save` and `torch.load`: PyTorch's own files, readable both ways between the two libraries."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from ..device import device
from .legacy_format import load_legacy, save_legacy
from .locations import restorer
from .names import find_global
from .safetensors_files import load_file
from .unpickler import SafeUnpickler
from .zip_format import Archive, Unpickle, load_zip, root_name, save_zip

FileLike = str | os.PathLike[str] | Any
# What `map_location` may be, for annotations.
MAP_LOCATION = Callable[[Any, str], Any] | device | str | dict[str, str] | None
DEFAULT_PROTOCOL = 2
_TAR_MARK = slice(257, 262)

_UNSAFE_MESSAGE = (
    "In PyTorch 2.6, we changed the default value of the `weights_only` argument in `torch.load` from `False` to "
    "`True`. Re-running `torch.load` with `weights_only` set to `False` will likely succeed, but it can result in "
    "arbitrary code execution. Do it only if you got the file from a trusted source."
)


def save(
    obj: Any,
    f: FileLike,
    pickle_module: Any = pickle,
    pickle_protocol: int = DEFAULT_PROTOCOL,
    _use_new_zipfile_serialization: bool = True,
    _disable_byteorder_record: bool = False,
) -> None:
    """Write an object to a path or a file that is open for writing, in PyTorch's format.

    Tensors that share memory share it in the file. PyTorch reads what consists of tensors, numbers, text and
    containers of these, and modules whose classes it has.
    """
    if pickle_module is not pickle:
        raise NotImplementedError("torch.save: pickle_module other than pickle is not supported")
    path = f if isinstance(f, str | os.PathLike) else None
    if path is None and not hasattr(f, "write"):
        raise AttributeError(
            "expected 'f' to be string, path, or a file-like object with a 'write' attribute"
        )
    with _opened(f, "wb") as file:
        if _use_new_zipfile_serialization:
            save_zip(obj, file, root_name(path), pickle_protocol, not _disable_byteorder_record)
        else:
            save_legacy(obj, file, pickle_protocol)
        if hasattr(file, "flush"):
            file.flush()


def load(
    f: FileLike,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """The object in a file that `torch.save` wrote, here or in PyTorch, in any version since 0.4.

    Nothing in the file is executed: it may hold tensors, plain data and what `serialization.add_safe_globals`
    allowed. `weights_only=False` lifts that; do it only for files whose author you trust. `mmap=True` leaves the
    tensors in the file until they are used.

    pickle.UnpicklingError: the file asks for more than data, or its pickle is damaged. RuntimeError: the file is
    damaged otherwise, or was saved from CUDA and `map_location` does not say that the CPU is meant.
    """
    weights_only = pickle_module is None if weights_only is None else weights_only
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    if pickle_load_args and weights_only and set(pickle_load_args) != {"encoding"}:
        warnings.warn("pickle_load_args only works if `weights_only=False`.", stacklevel=2)
    if pickle_module not in (None, pickle):
        raise NotImplementedError("torch.load: pickle_module other than pickle is not supported")
    path = f if isinstance(f, str | os.PathLike) else None
    if path is not None and os.fspath(path).endswith(".safetensors"):
        if map_location is not None and not isinstance(map_location, str | device):
            raise RuntimeError(
                f"Loading safetensors file with {'dict' if isinstance(map_location, dict) else 'callable'} "
                "map_location is not supported. Use a device string or torch.device instead."
            )
        return load_file(path, device="cpu" if map_location is None else map_location)
    if mmap and path is None:
        raise ValueError("f must be a file path in order to use the mmap argument")
    name = os.path.basename(os.fspath(path)) if path is not None else getattr(f, "name", "the file")
    pickle_load_args.setdefault("encoding", "utf-8")
    restore = restorer(map_location)
    unpickle = _safe(pickle_load_args["encoding"]) if weights_only else _full(pickle_load_args)
    with _opened(f, "rb") as file:
        start = file.read(_TAR_MARK.stop)
        file.seek(-len(start), io.SEEK_CUR)
        try:
            if start.startswith(b"PK\3\4"):
                return load_zip(Archive(file, str(name), bool(mmap)), restore, unpickle)
            if mmap:
                raise RuntimeError(
                    "mmap can only be used with files saved with `torch.save(_use_new_zipfile_serialization=True), "
                    "please torch.save your checkpoint with this option in order to use mmap."
                )
            if start[_TAR_MARK] == b"ustar":
                raise RuntimeError(
                    f"{name} is in the .tar format of PyTorch 0.1, which is not supported. Load and save it again with "
                    "a newer PyTorch."
                )
            return load_legacy(file, str(name), restore, unpickle)
        except pickle.UnpicklingError as error:
            raise _explained(error, weights_only) from error


def _explained(error: pickle.UnpicklingError, weights_only: bool) -> pickle.UnpicklingError:
    message = str(error)
    if not weights_only or "asks for" not in message:
        return error
    return pickle.UnpicklingError(
        "Weights only load failed. This file can still be loaded, to do so you have two options, do those steps "
        f"only if you trust the source of the checkpoint.\n\t(1) {_UNSAFE_MESSAGE}\n\t(2) Alternatively, to load with "
        "`weights_only=True` please check the recommended steps in the following error message.\n\t"
        f"WeightsUnpickler error: {message}"
    )


def _safe(encoding: str) -> Unpickle:
    def unpickle(file: BinaryIO, persistent_load: Callable[[Any], Any], name: str) -> Any:
        return SafeUnpickler(file, persistent_load, name, encoding).load()

    return unpickle


def _full(arguments: dict[str, Any]) -> Unpickle:
    """Python's own machine, which runs what the file says."""

    def unpickle(file: BinaryIO, persistent_load: Callable[[Any], Any], name: str) -> Any:
        machine = _TorchUnpickler(file, **arguments)
        machine.persistent_load = persistent_load  # type: ignore[method-assign]
        return machine.load()

    return unpickle


class _TorchUnpickler(pickle.Unpickler):
    """PyTorch's names mean our objects."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" or module.startswith("torch."):
            return find_global(module, name)
        return super().find_class(module, name)


@contextmanager
def _opened(f: FileLike, mode: str) -> Iterator[BinaryIO]:
    if isinstance(f, str | os.PathLike):
        with open(f, mode) as file:
            yield cast(BinaryIO, file)
        return
    if "r" in mode:
        for attribute in ("read", "readline", "seek", "tell"):
            if not hasattr(f, attribute):
                raise AttributeError(
                    f"'{type(f).__name__}' object has no attribute '{attribute}'. You can only torch.load from a file "
                    "that is seekable. Please pre-load the data into a buffer like io.BytesIO and try to load from "
                    "it instead."
                )
    yield f
