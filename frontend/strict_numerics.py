"""Strict numerics: eager ops computed by the kernels of compiled code, one op at a time.

Compiled and eager code agree but for rounding: NumPy and our kernels have other `exp`s and add up in another order.
With strict numerics they agree to the bit. A function compiled with `options={"numerics": "strict"}` keeps every sum in
a kernel of its own, and inside `numerics("strict")` eager code takes those same kernels, each compiled once for its op
and the types of its operands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .compile.call import Binding, as_bound
from .dispatch import use_backend
from .eager import EAGER, EagerBackend
from .ir.builder import GraphBuilder
from .ir.dtypes import DType
from .ir.op import Op
from .ir.types import TensorType
from .passes.host import is_host
from .passes.pipeline import PipelineOptions
from .runtime.compiled_graph import CompileOptions, compile_graph
from .runtime.threads import get_num_threads
from .state import local, strictly
from .tensor import Tensor, wrap

STRICT = CompileOptions(PipelineOptions(strict=True))
# What only moves elements.
_MOVES = frozenset({"view", "constant", "gather", "check"})
# Programs that are kept.
KEPT = 4096


@contextmanager
def numerics(mode: str) -> Iterator[None]:
    """Inside the block eager code of this thread computes with `mode` numerics.

    "strict": floating results are to the bit those of the same code compiled with `options={"numerics": "strict"}`, for
    any number of threads. Each new combination of an op and types is compiled when it is first met. "fast": NumPy, the
    default. What NumPy computes in compiled code too (linear algebra, FFT, complex numbers) is NumPy's either way, with
    no promise about its last bit; random numbers in compiled functions are another stream
    (`torch.random.counter_based`).
    """
    if mode not in ("strict", "fast"):
        raise ValueError(f"numerics are 'strict' or 'fast', not {mode!r}")
    if local.backend.capture is not None:
        raise RuntimeError(
            "numerics() inside a compiled function: give torch.compile options={'numerics': ...}"
        )
    strict = mode == "strict"
    with strictly(strict), use_backend(_BACKEND if strict else EAGER):
        yield


class StrictBackend(EagerBackend):
    """Runs floating-point ops by one-op programs, all else as the eager backend does."""

    def __init__(self) -> None:
        self._programs: dict[Any, Binding | None] = {}
        # Numbers in the code, by the id of their tensor, which is kept alive: compilers read them.
        self._numbers: dict[int, tuple[Tensor, Any]] = {}

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        found = super().constant(value, dtype)
        if len(self._numbers) >= KEPT:
            self._numbers.clear()
        self._numbers[id(found)] = (found, value)
        return found

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        if op.lowering in _MOVES:
            return super().apply(op, operands, attrs)
        types = tuple(t._type for t in operands)
        number = self._numbers.get(id(operands[1])) if op.name == "pow" else None
        key = (op, repr(sorted(attrs.items())), types, number and number[1], get_num_threads())
        if key not in self._programs:
            if len(self._programs) >= KEPT:
                self._programs.clear()
            self._programs[key] = _program(op, types, attrs, number and number[1])
        binding = self._programs[key]
        if binding is None:
            # NumPy too adds up in an order that depends on strides, of which compiled code has none.
            return super().apply(op, [_contiguous(t) for t in operands], attrs)
        given = operands[:1] if number else operands
        arrays = [as_bound(t._array, type_) for t, type_ in zip(given, types)]
        record = binding.take()
        made = binding.call(record, arrays)
        binding.give_back(record)
        assert made is not None
        return tuple(map(wrap, made))


def _contiguous(tensor: Tensor) -> Tensor:
    array = tensor._array
    assert array is not None
    return tensor if array.flags.c_contiguous else wrap(np.ascontiguousarray(array))


def _program(
    op: Op, types: Sequence[TensorType], attrs: Mapping[str, Any], exponent: float | None
) -> Binding | None:
    """The op as a compiled program; None where nothing is rounded."""
    results = op.infer_types(types, attrs)
    floating = any(t.dtype.kind == "float" for t in (*types, *results))
    if not floating or is_host(op, (*types, *results)) or any(t.numel == 0 for t in (*types, *results)):
        return None
    build = GraphBuilder(op.name)
    values = [build.input(f"x{i}", t) for i, t in enumerate(types if exponent is None else types[:1])]
    inputs = len(values)
    if exponent is not None:
        values.append(build.constant(exponent, types[1].dtype))
    found = build.apply(op, values, attrs)
    outputs = found if isinstance(found, tuple) else (found,)
    compiled = compile_graph(build.finish(outputs), STRICT)
    return Binding(compiled, {}, list(enumerate(types[:inputs])), range(len(outputs)))


_BACKEND = StrictBackend()
