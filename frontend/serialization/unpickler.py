"""A pickle machine that builds plain data and tensors, and nothing else.

Each opcode stands in a table, or is refused. What a file asks for by name comes from `safe_globals`; calls,
instance creation and instance state are limited to what is allowed there. Nothing is allocated that the bytes of
the file do not pay for: lengths are checked against what is left, and the memo is a dict.

The opcodes are those of https://github.com/python/cpython/blob/main/Lib/pickletools.py.
"""

from __future__ import annotations

import io
import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError, decode_long
from typing import Any, BinaryIO

from ..nn.parameter import Parameter
from ..tensor import Tensor
from .names import find_own
from .rebuild import _rebuild_tensor
from .safe_globals import BLOCKED_MODULES, allowed_globals, callable_globals, check_key, user_globals


class LegacyTensor:
    """A tensor of PyTorch 0.1: its class first, its place in a storage as state."""


class _Mark:
    pass


_MARK = _Mark()


class SafeUnpickler:
    """Reads one pickle from a file that `load` may trust as little as its author.

    `persistent_load` gets the ids of storages. `name` and the position in the file are in every error.
    """

    def __init__(
        self, file: BinaryIO, persistent_load: Callable[[Any], Any], name: str, encoding: str = "utf-8"
    ):
        self.file = file
        self.persistent_load = persistent_load
        self.name = name
        self.encoding = encoding
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.callable = callable_globals()
        self.position = 0
        here = file.tell()
        self.end = file.seek(0, io.SEEK_END)
        file.seek(here)

    def load(self) -> Any:
        """The object. UnpicklingError for a pickle that is damaged, or that asks for more than data."""
        while True:
            self.position = self.file.tell()
            code = self.file.read(1)
            if not code:
                raise EOFError(f"Ran out of input: {self.name} ends at byte {self.position}, inside a pickle")
            if code == pickle.STOP:
                return self.pop()
            run = _OPCODES.get(code)
            if run is None:
                raise self.error(f"Unsupported operand {code[0]}{_opcode_name(code)}")
            if run is _run_persistent:  # calls the caller's map_location: its errors are the caller's
                run(self)
                continue
            try:
                run(self)
            except (UnpicklingError, RuntimeError):
                raise
            except (
                TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, struct.error, MemoryError,
            ) as error:  # fmt: skip
                raise self.error(f"damaged data: {error}") from error

    def error(self, message: str) -> UnpicklingError:
        return UnpicklingError(f"{message} (byte {self.position} of {self.name})")

    # Reading

    def read(self, count: int) -> bytes:
        if count < 0 or count > self.end - self.file.tell():
            raise self.error("pickle data was truncated")
        return self.file.read(count)

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.read(struct.calcsize(layout)))[0]

    def line(self) -> str:
        line = self.file.readline(4096)
        if not line.endswith(b"\n"):
            raise self.error("pickle data was truncated")
        return line[:-1].decode()

    # The stack

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("unexpected end of the pickle's stack")
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(found := self.pop())
        return found

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("could not find MARK")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    # What a file asks for by name

    def find_global(self, module: str, name: str) -> Any:
        """The allowed object of that name."""
        if (module, name) in NAME_MAPPING:  # Python 2's names
            module, name = NAME_MAPPING[module, name]
        elif module in IMPORT_MAPPING:
            module = IMPORT_MAPPING[module]
        path = f"{module}.{name}"
        if module in BLOCKED_MODULES:
            raise self.error(
                f"the file asks for `{path}`, which weights_only=True does not allow: Trying to load unsupported "
                f"GLOBAL {path} whose module {module} is blocked."
            )
        table = allowed_globals()
        if path in table:
            return table[path]
        if path in user_globals():
            return user_globals()[path]
        if module.startswith("torch"):
            own = find_own(module, name)
            if own is not None and self.added(own):
                return own
        shown = path.removeprefix("builtins.")
        raise self.error(
            f"the file asks for `{path}`, which weights_only=True does not allow: Unsupported global: GLOBAL {shown} "
            f"was not an allowed global by default. Please use `torch.serialization.add_safe_globals([{shown}])` or "
            f"the `torch.serialization.safe_globals([{shown}])` context manager to allowlist this global if you "
            "trust this class/function."
        )

    def added(self, value: Any) -> bool:
        return any(value is other for other in user_globals().values())

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(arguments, tuple):
            raise self.error("the file calls something with arguments that are no tuple")
        if id(function) not in self.callable and not self.added(function):
            raise self.error(
                f"Trying to call reduce for unrecognized function {getattr(function, '__qualname__', type(function))}"
            )
        return function(*arguments)

    def new(self, cls: Any, arguments: Any) -> Any:
        if not isinstance(arguments, tuple):
            raise self.error("the file makes an object with arguments that are no tuple")
        if cls is Parameter:
            return Parameter(*arguments)
        if id(cls) in self.callable:  # the constructor of plain data
            return cls(*arguments)
        if cls is Tensor and not arguments:
            return LegacyTensor()
        if not self.added(cls):
            raise self.error(
                "Can only create new object for nn.Parameter or classes allowlisted via `add_safe_globals` but "
                f"got {getattr(cls, '__qualname__', type(cls))}"
            )
        return cls.__new__(cls, *arguments)

    def build(self, instance: Any, state: Any) -> Any:
        kind = type(instance)
        if kind is LegacyTensor:
            return _rebuild_tensor(*state)
        if kind is OrderedDict:
            if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
                raise self.error("the attributes of an OrderedDict are no dict of names")
            vars(instance).update(state)
            return instance
        if not self.added(kind):
            raise self.error(
                "Can only build Tensor, Parameter, OrderedDict or types allowlisted via `add_safe_globals`, but "
                f"got {kind}"
            )
        if hasattr(instance, "__setstate__"):
            instance.__setstate__(state)
            return instance
        slots = None
        if isinstance(state, tuple) and len(state) == 2:
            state, slots = state
        if state:
            vars(instance).update(state)
        for name, value in (slots or {}).items():
            setattr(instance, name, value)
        return instance

    def fill(self, entries: list[Any]) -> None:
        target = self.top()
        if type(target) not in (dict, OrderedDict, Counter):
            raise self.error(
                f"Can only SETITEMS for dict, collections.OrderedDict, collections.Counter, but got {type(target)}"
            )
        if len(entries) % 2:
            raise self.error("odd number of items for SETITEMS")
        for key, value in zip(entries[::2], entries[1::2]):
            target[check_key(key)] = value

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise self.error(f"Can only extend lists, but got {type(target)}")
        target.extend(items)

    def persistent(self, saved_id: Any) -> Any:
        if type(saved_id) is not tuple:
            raise self.error(f"persistent_load id must be tuple, but got {type(saved_id)}")
        if not saved_id or saved_id[0] not in ("storage", b"storage"):
            raise self.error("Only persistent_load of storage is allowed")
        return self.persistent_load(saved_id)

    def text(self, raw: bytes) -> Any:
        """A string of Python 2."""
        return raw if self.encoding == "bytes" else raw.decode(self.encoding)


def _opcode_name(code: bytes) -> str:
    import pickletools

    found = next((op.name for op in pickletools.opcodes if op.code.encode("latin1") == code), None)
    return "" if found is None else f" ({found})"


def _run_mark(u: SafeUnpickler) -> None:
    u.marks.append(len(u.stack))


def _run_tuple(count: int) -> Callable[[SafeUnpickler], None]:
    def run(u: SafeUnpickler) -> None:
        u.push(tuple([u.pop() for _ in range(count)][::-1]))

    return run


def _run_global(u: SafeUnpickler) -> None:
    u.push(u.find_global(u.line(), u.line()))


def _run_stack_global(u: SafeUnpickler) -> None:
    name, module = u.pop(), u.pop()
    if type(name) is not str or type(module) is not str:
        raise u.error("STACK_GLOBAL requires str")
    u.push(u.find_global(module, name))


def _run_reduce(u: SafeUnpickler) -> None:
    arguments, function = u.pop(), u.pop()
    u.push(u.call(function, arguments))


def _run_new(u: SafeUnpickler) -> None:
    arguments, cls = u.pop(), u.pop()
    u.push(u.new(cls, arguments))


def _run_build(u: SafeUnpickler) -> None:
    state, instance = u.pop(), u.pop()
    built = u.build(instance, state)
    if built is not instance:
        for index, value in u.memo.items():
            if value is instance:
                u.memo[index] = built
    u.push(built)


def _run_persistent(u: SafeUnpickler) -> None:
    u.push(u.persistent(u.pop()))


def _run_append(u: SafeUnpickler) -> None:
    item = u.pop()
    u.extend([item])


def _run_set_item(u: SafeUnpickler) -> None:
    value, key = u.pop(), u.pop()
    u.fill([key, value])


def _run_dict(u: SafeUnpickler) -> None:
    entries = u.pop_mark()
    u.push({})
    u.fill(entries)


def _run_add_items(u: SafeUnpickler) -> None:
    items = u.pop_mark()
    target = u.top()
    if type(target) is not set:
        raise u.error(f"Can only add items to sets, but got {type(target)}")
    target.update(map(check_key, items))


def _run_protocol(u: SafeUnpickler) -> None:
    version = u.number("<B")
    if version > pickle.HIGHEST_PROTOCOL:
        raise u.error(f"unsupported pickle protocol: {version}")


def _run_get(layout: str) -> Callable[[SafeUnpickler], None]:
    def run(u: SafeUnpickler) -> None:
        index = u.number(layout)
        if index not in u.memo:
            raise u.error(f"Memo value not found at index {index}")
        u.push(u.memo[index])

    return run


def _run_put(layout: str) -> Callable[[SafeUnpickler], None]:
    def run(u: SafeUnpickler) -> None:
        u.memo[u.number(layout)] = u.top()

    return run


def _run_memoize(u: SafeUnpickler) -> None:
    u.memo[len(u.memo)] = u.top()


def _bytes(layout: str) -> Callable[[SafeUnpickler], bytes]:
    def read(u: SafeUnpickler) -> bytes:
        return u.read(u.number(layout))

    return read


def _pushes(make: Callable[[SafeUnpickler], Any]) -> Callable[[SafeUnpickler], None]:
    def run(u: SafeUnpickler) -> None:
        u.push(make(u))

    return run


def _unicode(layout: str) -> Callable[[SafeUnpickler], None]:
    return _pushes(lambda u: str(u.read(u.number(layout)), "utf-8", "surrogatepass"))


_OPCODES: dict[bytes, Callable[[SafeUnpickler], None]] = {
    pickle.PROTO: _run_protocol,
    pickle.FRAME: lambda u: u.number("<Q"),
    pickle.GLOBAL: _run_global,
    pickle.STACK_GLOBAL: _run_stack_global,
    pickle.REDUCE: _run_reduce,
    pickle.NEWOBJ: _run_new,
    pickle.BUILD: _run_build,
    pickle.BINPERSID: _run_persistent,
    # Containers
    pickle.MARK: _run_mark,
    pickle.EMPTY_TUPLE: _pushes(lambda u: ()),
    pickle.TUPLE: _pushes(lambda u: tuple(u.pop_mark())),
    pickle.TUPLE1: _run_tuple(1),
    pickle.TUPLE2: _run_tuple(2),
    pickle.TUPLE3: _run_tuple(3),
    pickle.EMPTY_LIST: _pushes(lambda u: []),
    pickle.LIST: _pushes(lambda u: u.pop_mark()),
    pickle.APPEND: _run_append,
    pickle.APPENDS: lambda u: u.extend(u.pop_mark()),
    pickle.EMPTY_DICT: _pushes(lambda u: {}),
    pickle.DICT: _run_dict,
    pickle.SETITEM: _run_set_item,
    pickle.SETITEMS: lambda u: u.fill(u.pop_mark()),
    pickle.EMPTY_SET: _pushes(lambda u: set()),
    pickle.ADDITEMS: _run_add_items,
    pickle.FROZENSET: _pushes(lambda u: frozenset(map(check_key, u.pop_mark()))),
    # Plain values
    pickle.NONE: _pushes(lambda u: None),
    pickle.NEWTRUE: _pushes(lambda u: True),
    pickle.NEWFALSE: _pushes(lambda u: False),
    pickle.BININT: _pushes(lambda u: u.number("<i")),
    pickle.BININT1: _pushes(lambda u: u.number("<B")),
    pickle.BININT2: _pushes(lambda u: u.number("<H")),
    pickle.LONG1: _pushes(lambda u: decode_long(u.read(u.number("<B")))),
    pickle.BINFLOAT: _pushes(lambda u: u.number(">d")),
    pickle.BINUNICODE: _unicode("<I"),
    pickle.SHORT_BINUNICODE: _unicode("<B"),
    pickle.BINUNICODE8: _unicode("<Q"),
    pickle.SHORT_BINSTRING: _pushes(lambda u: u.text(u.read(u.number("<B")))),
    pickle.BINSTRING: _pushes(lambda u: u.text(u.read(u.number("<i")))),
    pickle.SHORT_BINBYTES: _pushes(_bytes("<B")),
    pickle.BINBYTES: _pushes(_bytes("<I")),
    pickle.BINBYTES8: _pushes(_bytes("<Q")),
    pickle.BYTEARRAY8: _pushes(lambda u: bytearray(u.read(u.number("<Q")))),
    # The memo
    pickle.BINGET: _run_get("<B"),
    pickle.LONG_BINGET: _run_get("<I"),
    pickle.BINPUT: _run_put("<B"),
    pickle.LONG_BINPUT: _run_put("<I"),
    pickle.MEMOIZE: _run_memoize,
}
