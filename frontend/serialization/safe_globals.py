"""What a file may ask for while nothing in it is to be executed (`weights_only=True`).

Classes of data and the functions that rebuild tensors, by PyTorch's names. Constructors that could be made to
allocate or to recurse without end stand here in a form that cannot.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from ..device import device
from ..ir import dtypes
from ..nn.parameter import Parameter
from ..size import Size
from ..tensor import Tensor
from ..torch_names import torch_name
from .rebuild import REBUILD, _rebuild_from_type_v2
from .storages import STORAGE_TYPES, UNTYPED

# Never allowed, whatever the user adds.
BLOCKED_MODULES = frozenset({"sys", "os", "posix", "nt"})
_user_globals: dict[str, Any] = {}

SafeGlobal = Callable[..., Any] | tuple[Callable[..., Any], str]


def _entry(value: Any) -> tuple[str, Any]:
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(
                f"Expected tuple of length 2 (global, str of callable full path), but got tuple of length: {len(value)}"
            )
        if type(value[1]) is not str:
            raise TypeError(
                f"Expected second item in tuple to be str of callable full path, but got: {type(value[1])}"
            )
        return value[1], value[0]
    module = value.__module__
    if module.partition(".")[0] == __package__.partition(".")[0]:
        module = torch_name(module)
    return f"{module}.{value.__qualname__}", value


def add_safe_globals(safe_globals: list[SafeGlobal]) -> None:
    """Let files loaded with `weights_only=True` use these classes and functions, from here on.

    An entry is the object, or a pair of the object and the name by which files know it.
    """
    _user_globals.update(map(_entry, safe_globals))


def get_safe_globals() -> list[SafeGlobal]:
    """What was added."""
    return [value if _entry_name(value) == name else (value, name) for name, value in _user_globals.items()]


def _entry_name(value: Any) -> str | None:
    return _entry(value)[0] if hasattr(value, "__qualname__") else None


def clear_safe_globals() -> None:
    """Take back all that was added."""
    _user_globals.clear()


class safe_globals:
    """`with safe_globals([Settings]):` allows them for the block."""

    def __init__(self, safe_globals: list[SafeGlobal]):
        self.safe_globals = safe_globals

    def __enter__(self) -> None:
        self._before = dict(_user_globals)
        add_safe_globals(self.safe_globals)

    def __exit__(self, *exc: object) -> None:
        _user_globals.clear()
        _user_globals.update(self._before)


def user_globals() -> dict[str, Any]:
    """What was added, by the name that a file asks for."""
    return _user_globals


# Hashing walks the whole of a tuple, by recursion in C: one that a file builds may be endless.
_MAX_KEY_NODES = 1000


def check_key(key: Any) -> Any:
    """The key, if it may be one; TypeError or ValueError otherwise."""
    if type(key) in _PLAIN_KEYS:
        return key
    pending, seen = [key], 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > _MAX_KEY_NODES:
            raise ValueError("a key in the file is nested too deeply")
        if isinstance(value, tuple):
            if len(value) > _MAX_KEY_NODES:
                raise ValueError("a key in the file is too long")
            pending.extend(value)
    hash(key)
    return key


_PLAIN_KEYS = frozenset({str, int, float, bool, bytes, type(None)})


def _pairs(entries: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    for entry in entries:
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise TypeError("a dict in the file is described by something other than pairs")
        yield check_key(entry[0]), entry[1]


def _ordered_dict(entries: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict(entries.items() if isinstance(entries, dict) else _pairs(entries))


def _counter(entries: Any = ()) -> Counter[Any]:
    return Counter(entries if isinstance(entries, dict) else list(map(check_key, entries)))


def _set(entries: Any = ()) -> set[Any]:
    return set(map(check_key, entries))


def _frozenset(entries: Any = ()) -> frozenset[Any]:
    return frozenset(map(check_key, entries))


def _size(entries: Any = ()) -> Size:
    if not isinstance(entries, list | tuple) or any(type(n) is not int for n in entries):
        raise TypeError("a torch.Size in the file holds something other than integers")
    return Size(entries)


def _bytes(data: Any = b"") -> bytes:
    return bytes(_bytearray(data))  # protocol 2 writes b"" as a call


def _bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
    if isinstance(data, str):
        return bytearray(_encode(data, encoding))
    if not isinstance(data, bytes | bytearray):  # a number would be a size to allocate
        raise TypeError("a bytearray in the file is made from something other than bytes")
    return bytearray(data)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise TypeError("bytes in the file are not written as text in an encoding that is known")
    return text.encode(encoding)


def _complex(real: Any = 0.0, imag: Any = 0.0) -> complex:
    if not isinstance(real, int | float) or not isinstance(imag, int | float):
        raise TypeError("a complex number in the file is not made of two numbers")
    return complex(real, imag)


@cache
def allowed_globals() -> dict[str, Any]:
    """What every file may use, by PyTorch's names."""
    found: dict[str, Any] = {
        "collections.OrderedDict": _ordered_dict,
        "collections.Counter": _counter,
        "builtins.set": _set,
        "builtins.frozenset": _frozenset,
        "builtins.bytes": _bytes,
        "builtins.bytearray": _bytearray,
        "builtins.complex": _complex,
        "_codecs.encode": _encode,
        "torch.Size": _size,
        "torch.device": device,
        "torch.Tensor": Tensor,
        "torch._tensor.Tensor": Tensor,
        "torch.nn.parameter.Parameter": Parameter,
        "torch._tensor._rebuild_from_type_v2": _rebuild_from_type_v2,
        "torch.storage.UntypedStorage": UNTYPED,
        "torch.UntypedStorage": UNTYPED,
    }
    found.update({f"torch.{d.torch_name}": d for d in dtypes.ALL})
    for name, kind in STORAGE_TYPES.items():
        found[f"torch.{name}"] = found[f"torch.cuda.{name}"] = kind
    # Tensors of PyTorch 0.1: a class, and the place in a storage as state.
    for dtype in dtypes.ALL:
        found[f"torch.{dtype.scalar_type}Tensor"] = found[f"torch.cuda.{dtype.scalar_type}Tensor"] = Tensor
    found.update({f"torch._utils.{name}": function for name, function in REBUILD.items()})
    return found


# What REDUCE may call; the rest of the table is data or a class that only stands for itself.
@cache
def callable_globals() -> frozenset[int]:
    """Identities of the allowed values that a file may call."""
    return frozenset(
        id(value)
        for value in allowed_globals().values()
        if value not in (Tensor, Parameter) and callable(value)
    )
