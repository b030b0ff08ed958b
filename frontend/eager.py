"""The eager backend: every op is computed at once, by its NumPy rule, and a view is a NumPy view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from .float_errors import restore, silence
from .ir.dtypes import DType
from .ir.op import Op
from .state import set_default_backend
from .tensor import Array, Tensor, view_of, wrap
from .views import ViewStep

# View ops whose result shares memory with the operand. The others (pad, concat, flip) copy, as in PyTorch.
ALIASING = frozenset(
    {
        "reshape", "permute", "expand", "slice", "unfold", "strided", "bitcast", "view_dtype", "view_as_real",
        "view_as_complex",
    }
)  # fmt: skip
# Families where NumPy itself refuses what the shape rule refuses; the rule then only words the error.
_NUMPY_CHECKS = frozenset({"pointwise", "view", "reduce", "constant"})
_NO_ARITHMETIC = frozenset({"view", "constant", "gather"})
# Large grouped ones, and additions of many rows, are computed by our own compiler's kernels. These modules bring the
# compiler with them: they are imported when they are needed, so that `import vitrify` stays short.
_NATIVE = frozenset({"conv", "convolution", "conv_input_grad", "conv_weight_grad"})

# Below this many elements NumPy adds rows in less than about a millisecond.
_MANY_ADDED = 1 << 17

_ndarray = np.ndarray


class EagerBackend:
    """Runs ops on NumPy arrays."""

    # Nobody listens: the values are where they are.
    on_grad_set: Any = None
    on_requires_grad_set: Any = None
    on_data_set: Any = None
    on_history_set: Any = None
    on_grad_read: Any = None
    capture: Any = None
    vmap: Any = None

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The results as tensors; results of view ops share the operand's memory."""
        arrays = [t._array for t in operands]
        lowering = op.lowering
        try:
            # NumPy orders and rounds complex numbers, which PyTorch refuses.
            if lowering not in _NUMPY_CHECKS or (arrays and arrays[-1].dtype.kind == "c"):  # type: ignore[union-attr]
                op.infer_types([t._type for t in operands], attrs)
            if lowering in _NO_ARITHMETIC:
                found = op.numpy(*arrays, **attrs)
            else:
                before = silence()
                try:
                    found = None
                    if op.name in _NATIVE and attrs.get("groups", 1) > 1:
                        found = import_module(".grouped", __package__).run(op.name, arrays, attrs)
                    elif op.name == "index_add" and arrays[2].size >= _MANY_ADDED:  # type: ignore[union-attr]
                        found = import_module(".row_sums", __package__).run(arrays, attrs["dim"])
                    if found is None:
                        found = op.numpy(*arrays, **attrs)
                finally:
                    restore(before)
        except Exception:
            _explain(op, operands, attrs)
            raise
        if op.name in ALIASING:
            return (_alias(op, operands[0], attrs, found),)
        if type(found) is tuple:
            return tuple([wrap(_own(a, arrays)) for a in found])
        return (wrap(_own(found, arrays)),)

    def write(self, target: Tensor, new: Tensor) -> None:
        """Replace the target's elements, in its memory."""
        array = target._array
        assert array is not None and new._array is not None
        if not array.flags.writeable:
            array = writeable(array)
        np.copyto(array, new._array, casting="unsafe")

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        """A 0-d tensor. Constants are shared: nothing writes to them."""
        if value == 0 or value != value:  # 0.0 == -0.0 and NaN != NaN: no keys for a cache
            return wrap(np.asarray(value, dtype.numpy))
        key = (value, dtype)
        found = _constants.get(key)
        if found is None:
            if len(_constants) >= 4096:
                _constants.clear()
            with np.errstate(all="ignore"):
                found = _constants[key] = wrap(np.asarray(value).astype(dtype.numpy))
            found._storage.epoch = 0  # it outlives an inference mode
        return found

    def scalar(self, tensor: Tensor) -> Any:
        """The one element as a Python number."""
        assert tensor._array is not None
        value = tensor._array.item()
        return value if isinstance(value, int | float | complex) else float(value)


def writeable(array: Any) -> Any:
    """The memory of an expanded view, which NumPy hands out read-only; RuntimeError where it is read-only
    itself. A device's memory as it is.
    """
    if not isinstance(array, _ndarray):
        return array
    alias = array.view()
    try:
        alias.flags.writeable = True
    except ValueError:
        raise RuntimeError(
            "cannot write to this tensor in place: its memory is read-only (it was made from a read-only NumPy "
            "array). Please clone() the tensor before performing the operation."
        ) from None
    return alias


_constants: dict[tuple[Any, DType], Tensor] = {}


def _own(found: Any, arrays: Sequence[Array | None]) -> Array:
    """The result as an array that shares no memory with the operands."""
    if type(found) is not _ndarray:
        return np.asarray(found)
    for array in arrays:
        if found is array:
            return found.copy()
    if found.base is not None:
        for array in arrays:
            if np.may_share_memory(found, array):
                return found.copy()
    return found


def _alias(op: Op, operand: Tensor, attrs: Mapping[str, Any], found: Array) -> Tensor:
    array = operand._array
    assert array is not None
    if op.name == "reshape":
        if not array.flags.c_contiguous and not np.may_share_memory(found, array):
            return wrap(found)  # no strides describe this shape over that memory: NumPy copied
    elif op.name == "expand" and found.size == array.size and not found.flags.writeable:
        found = array.reshape(found.shape)  # nothing is repeated: an ordinary, writable view
    return view_of(operand, ViewStep(op, attrs), found)


def _explain(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> None:
    """Raise the op's own error for operands that do not fit; return if its rule accepts them."""
    try:
        op.infer_types([t._type for t in operands], attrs)
    except Exception as error:
        raise error from None


EAGER = EagerBackend()
set_default_backend(EAGER)
