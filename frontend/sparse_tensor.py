"""Sparse tensors in coordinate format: the places of some elements, and what is there.

A `SparseTensor` holds two dense tensors, `indices[sparse dims, nnz]` and `values[nnz, dense dims...]`; what can be done
with one is written over these, so that autograd and `torch.compile` see dense code. It has no elements of its own: other
functions refuse it and name `to_dense()`. https://docs.pytorch.org/docs/stable/sparse.html
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from .arguments import wrap_dim
from .creation import as_tensor, zeros
from .formats import layout, sparse_coo
from .functional_elements import unique
from .functional_host import nonzero
from .functional_indexing import index_add, index_select
from .functional_shape import cat, stack
from .ir import dtypes
from .ir.dtypes import DType
from .ir.types import TensorType
from .tensor import Storage, Tensor, _fresh_autograd, scalar_type_name
from .torch_function import disabled_torch_function


class _NoElements:
    """What a sparse tensor has in the place of memory."""

    def __init__(self, type_: TensorType):
        self.shape, self.dtype, self.ndim = type_.shape, type_.dtype.numpy, len(type_.shape)
        self.size = math.prod(type_.shape)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "this function does not take sparse tensors: call to_dense() first, or torch.sparse's functions"
        )

    __array__ = __array_ufunc__ = __array_function__ = __getitem__ = __setitem__ = __len__ = __iter__ = (
        _refuse
    )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


def _of_each(name: str) -> Callable[[SparseTensor], SparseTensor]:
    """A method for a function that is 0 at 0."""

    def method(self: SparseTensor) -> SparseTensor:
        same = self.coalesce()
        return same.with_values(getattr(same._values_of, name)())

    method.__name__, method.__doc__ = name, f"`{name}` of each element; that of 0 is 0."
    return method


class SparseTensor(Tensor):
    """Sizes, and the elements that are there. Nothing writes to one in place."""

    __torch_function__ = staticmethod(disabled_torch_function)

    _indices_of: Tensor
    _values_of: Tensor
    _coalesced: bool

    # What it is

    is_sparse = True

    @property
    def layout(self) -> layout:
        """`torch.sparse_coo`."""
        return sparse_coo

    @property
    def device(self) -> Any:
        """Where the values are."""
        return self._values_of.device

    @property
    def requires_grad(self) -> bool:
        """Whether the values take part in autograd."""
        return self._values_of.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not self.requires_grad:
            raise NotImplementedError(
                "a sparse tensor has no gradient of its own: make it from values that require grad"
            )
        if not value and self.requires_grad:
            raise RuntimeError("call detach() for a sparse tensor that does not require grad")

    @property
    def grad_fn(self) -> Any:
        """That of the values."""
        return self._values_of.grad_fn

    @property
    def is_leaf(self) -> bool:
        """Whether the values are a leaf."""
        return self._values_of.is_leaf

    def requires_grad_(self, requires_grad: bool = True) -> SparseTensor:
        """As setting `requires_grad`."""
        self.requires_grad = requires_grad
        return self

    def sparse_dim(self) -> int:
        """How many dims the indices are for."""
        return int(self._indices_of.shape[0])

    def dense_dim(self) -> int:
        """How many dims each value has."""
        return self._values_of.ndim - 1

    def _nnz(self) -> int:
        return int(self._indices_of.shape[1])

    def _indices(self) -> Tensor:
        return self._indices_of

    def _values(self) -> Tensor:
        return self._values_of

    def is_coalesced(self) -> bool:
        """Whether the indices are in order, none twice."""
        return self._coalesced

    def indices(self) -> Tensor:
        """int64[sparse dims, nnz] of a coalesced tensor."""
        return self._need_coalesced("indices")._indices_of

    def values(self) -> Tensor:
        """The elements [nnz, dense dims...] of a coalesced tensor."""
        return self._need_coalesced("values")._values_of

    def _need_coalesced(self, what: str) -> SparseTensor:
        if not self._coalesced:
            raise RuntimeError(f"Cannot get {what} on an uncoalesced tensor, please call .coalesce() first")
        return self

    # The same in another form

    def coalesce(self) -> SparseTensor:
        """Indices in order, none twice; what was at the same place is summed."""
        if self._coalesced:
            return self
        places, inverse = unique(self._places(), return_inverse=True)
        start = zeros(places.shape[0], *self._values_of.shape[1:], dtype=self.dtype)
        values = index_add(start, 0, inverse, self._values_of)
        found, rest = [], places
        for size in reversed(self._sparse_sizes()):
            found.append(rest % size)
            rest = rest // size
        return sparse_tensor(stack(found[::-1]), values, self.shape, True)

    def _sparse_sizes(self) -> tuple[int, ...]:
        return tuple(self.shape[: self.sparse_dim()])

    def _places(self) -> Tensor:
        """The indices as one number each, in the order of a dense tensor."""
        place = self._indices_of[0]
        for row, size in zip(self._indices_of[1:], self._sparse_sizes()[1:]):
            place = place * size + row
        return place

    def to_dense(self, dtype: DType | None = None, *, masked_grad: bool | None = None) -> Tensor:
        """All elements, 0 where there is none."""
        sizes = self._sparse_sizes()
        flat = zeros(math.prod(sizes), *self._values_of.shape[1:], dtype=self.dtype)
        dense = index_add(flat, 0, self._places(), self._values_of).reshape(*self.shape)
        return dense if dtype is None else dense.to(dtype)

    def to_sparse(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """The tensor itself; NotImplementedError for another layout than coordinates."""
        _check_form(args, kwargs)
        return self

    def with_values(self, values: Tensor) -> SparseTensor:
        """Other values at the same places."""
        return sparse_tensor(self._indices_of, values, self.shape, self._coalesced)

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """Another dtype; NotImplementedError for another device."""
        kwargs.pop("memory_format", None)
        values = self._values_of.to(*args, **kwargs)
        if values.device != self._indices_of.device:
            raise NotImplementedError("sparse tensors are on the CPU only")
        return self if values is self._values_of else self.with_values(values)

    def float(self) -> SparseTensor:
        """As float32."""
        return self.to(dtypes.f32)

    def double(self) -> SparseTensor:
        """As float64."""
        return self.to(dtypes.f64)

    def half(self) -> SparseTensor:
        """As float16."""
        return self.to(dtypes.f16)

    def clone(self, *, memory_format: Any = None) -> SparseTensor:
        """Copies of the indices and values."""
        return sparse_tensor(self._indices_of.clone(), self._values_of.clone(), self.shape, self._coalesced)

    def detach(self) -> SparseTensor:
        """Without history."""
        return self.with_values(self._values_of.detach())

    def cpu(self) -> SparseTensor:
        """The tensor itself."""
        return self

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        """Two sparse dims exchanged."""
        a, b = (wrap_dim(dim, self.ndim) for dim in (dim0, dim1))
        if max(a, b) >= self.sparse_dim():
            raise RuntimeError("sparse transpose: transposed dimensions must be sparse")
        order = list(range(self.ndim))
        order[a], order[b] = order[b], order[a]
        rows = [self._indices_of[i] for i in order[: self.sparse_dim()]]
        sizes = [self.shape[i] for i in order]
        return sparse_tensor(stack(rows), self._values_of, sizes, a == b and self._coalesced)

    def t(self) -> SparseTensor:
        """The transpose of a matrix."""
        if self.ndim > 2:
            raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {self.ndim}D")
        return self.transpose(0, 1) if self.ndim == 2 else self

    # Arithmetic

    def matmul(self, other: Tensor) -> Tensor:
        """matrix[m, k] times a dense matrix[k, n] or vector[k], dense."""
        if self.ndim != 2 or self.sparse_dim() != 2:
            raise RuntimeError(f"sparse products are those of matrices, not of tensors of {self.ndim} dims")
        if isinstance(other, SparseTensor):
            other = other.to_dense()
        if other.ndim not in (1, 2) or other.shape[0] != self.shape[1]:
            raise RuntimeError(
                f"mat1 and mat2 shapes cannot be multiplied ({list(self.shape)} and {list(other.shape)})"
            )
        if other.dtype is not self.dtype:
            raise RuntimeError(
                f"expected both of one dtype, but got: {scalar_type_name(self.dtype)} and "
                f"{scalar_type_name(other.dtype)}"
            )
        rows, columns = self._indices_of
        values = self._values_of if other.ndim == 1 else self._values_of.unsqueeze(1)
        start = zeros(self.shape[0], *other.shape[1:], dtype=self.dtype)
        return index_add(start, 0, rows, index_select(other, 0, columns) * values)

    mm = __matmul__ = matmul

    def __rmatmul__(self, other: Tensor) -> Tensor:
        return self.t().matmul(other.t()).t()

    def add(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Sparse with another sparse tensor of the same sizes, dense with a dense one."""
        if not isinstance(other, SparseTensor):
            return self.to_dense() + (other if alpha == 1 else other * alpha)
        if tuple(self.shape) != tuple(other.shape) or self.sparse_dim() != other.sparse_dim():
            raise RuntimeError(
                f"add: expected sizes of 'self' and 'other' to match, but {list(self.shape)} != {list(other.shape)}"
            )
        other = other if alpha == 1 else other * alpha
        indices = cat([self._indices_of, other._indices_of], 1)
        return sparse_tensor(indices, cat([self._values_of, other._values_of]), self.shape, False).coalesce()

    __add__ = __radd__ = add

    def __sub__(self, other: Any) -> Tensor:
        return self.add(-other)

    def __rsub__(self, other: Any) -> Tensor:
        return (-self).add(other)

    def mul(self, other: Any) -> SparseTensor:
        """Times a number, or elementwise a dense tensor of the same sizes."""
        if isinstance(other, SparseTensor):
            other = other.to_dense()
        if isinstance(other, Tensor) and other.ndim:
            if tuple(other.shape) != tuple(self.shape):
                raise RuntimeError("a sparse tensor is multiplied by numbers and by tensors of its sizes")
            same = self.coalesce()
            return same.with_values(same._values_of * other[tuple(same._indices_of)])
        return self.with_values(self._values_of * other)

    __mul__ = __rmul__ = multiply = mul

    def div(self, other: Any) -> SparseTensor:
        """Divided by a number."""
        if isinstance(other, Tensor) and other.ndim:
            raise RuntimeError("Sparse division requires a scalar or zero-dim dense tensor divisor")
        return self.with_values(self._values_of / other)

    __truediv__ = div

    def __neg__(self) -> SparseTensor:
        return self.with_values(-self._values_of)

    def sum(self, dim: int | Sequence[int] | None = None, dtype: DType | None = None) -> Tensor:
        """Of all elements a 0-d tensor, over some of the dims a dense tensor."""
        if dim is None:
            return self._values_of.sum(dtype=dtype)
        return self.to_dense().sum(dim, dtype=dtype)

    abs, neg, relu, sqrt, sin, tanh, square = map(
        _of_each, ("abs", "neg", "relu", "sqrt", "sin", "tanh", "square")
    )

    # As a Python object

    def __repr__(self, *args: Any) -> str:
        def inner(name: str, tensor: Tensor) -> str:
            indent = " " * (len("tensor(") + len(name) + 1)
            return f"{name}={tensor.detach()!r}".replace("\n", "\n" + indent)

        parts = [inner("indices", self._indices_of), inner("values", self._values_of)]
        rest = [f"size={tuple(self.shape)}", f"nnz={self._nnz()}"]
        rest += (
            []
            if self.dtype in (dtypes.f32, dtypes.i64, dtypes.bool_, dtypes.c64)
            else [f"dtype={self.dtype}"]
        )
        rest += ["layout=torch.sparse_coo"]
        if self.requires_grad:
            rest.append("requires_grad=True")
        return "tensor(" + ",\n       ".join([*parts, ", ".join(rest)]) + ")"

    def numpy(self, *, force: bool = False) -> NoReturn:
        """TypeError: there is no array."""
        raise TypeError("can't convert Sparse layout tensor to numpy. Use Tensor.to_dense() first.")

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseTensor:
        parts = copy.deepcopy((self._indices_of, self._values_of), memo)
        memo[id(self)] = made = sparse_tensor(*parts, self.shape, self._coalesced)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return sparse_tensor, (self._indices_of, self._values_of, tuple(self.shape), self._coalesced)


def sparse_tensor(indices: Tensor, values: Tensor, size: Sequence[int], coalesced: bool) -> SparseTensor:
    """A sparse tensor of these parts, which are not checked."""
    made = object.__new__(SparseTensor)
    type_ = TensorType(tuple(size), values.dtype)
    missing: Any = _NoElements(type_)
    made._array, made._value, made._known_type = missing, None, type_
    made._storage, made._views = Storage(None, type_), ()
    _fresh_autograd(made)
    made._indices_of, made._values_of, made._coalesced = indices, values, coalesced
    return made


def sparse_coo_tensor(
    indices: Any,
    values: Any = None,
    size: Sequence[int] | None = None,
    *,
    dtype: DType | None = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    check_invariants: bool | None = None,
    is_coalesced: bool | None = None,
) -> SparseTensor:
    """A sparse tensor of `indices[sparse dims, nnz]` and `values[nnz, dense dims...]`; without a size as large as the
    indices need. The indices are always checked: RuntimeError for one that lies outside.

    `sparse_coo_tensor(size)` has no elements. https://docs.pytorch.org/docs/stable/generated/torch.sparse_coo_tensor.html
    """
    if values is None and size is None:
        size = tuple(indices)
        indices, values = zeros(len(size), 0, dtype=dtypes.i64), zeros(0, dtype=dtype)
    places, found = as_tensor(indices), as_tensor(values, dtype)
    if places.ndim != 2 or places.dtype.is_floating_point or places.dtype.is_complex:
        raise RuntimeError(
            f"indices must be a matrix of integers, [sparse dims, nnz], but got {scalar_type_name(places.dtype)} of "
            f"{list(places.shape)}"
        )
    places = places.to(dtypes.i64)
    found = found.expand(places.shape[1]) if found.ndim == 0 else found
    if found.shape[0] != places.shape[1]:
        raise RuntimeError(
            f"number of elements of indices ({places.shape[1]}) and of values ({found.shape[0]}) must be the same"
        )
    dims = int(places.shape[0])
    needed = [int(n) for n in (places.amax(1) + 1).tolist()] if places.numel() else [0] * dims
    if size is None:
        size = (*needed, *found.shape[1:])
    if len(size) != dims + found.ndim - 1:
        raise RuntimeError(
            f"number of dimensions must be sparse_dim ({dims}) + dense_dim ({found.ndim - 1}), but got {len(size)}"
        )
    if tuple(size[dims:]) != tuple(found.shape[1:]):
        raise RuntimeError(
            f"values has incorrect size, expected {list(size[dims:])}, got {list(found.shape[1:])}"
        )
    if places.numel() and (places.min() < 0 or any(n > s for n, s in zip(needed, size))):
        raise RuntimeError(
            f"size is inconsistent with indices: {list(size)} does not hold {needed}, or one is negative"
        )
    if requires_grad and not found.requires_grad:
        raise NotImplementedError(
            "a sparse tensor has no gradient of its own: make it from values that require grad"
        )
    if device is not None:
        found = found.to(device)
    return sparse_tensor(places, found, size, bool(is_coalesced)).to(found.dtype)


def to_sparse(self: Tensor, *args: Any, **kwargs: Any) -> SparseTensor:
    """The elements that are not 0, with their places: `to_sparse()` or `to_sparse(sparse_dim)`, the leading dims that
    are sparse. NotImplementedError for another layout than coordinates."""
    count = _check_form(args, kwargs)
    count = self.ndim if count is None else count
    if not 0 < count <= self.ndim:
        raise RuntimeError(
            f"sparse_dim argument must be in >0 and <={self.ndim} for this tensor, not {count}"
        )
    kept = self.detach() != 0
    if count < self.ndim:
        kept = kept.flatten(count).any(-1)
    places = nonzero(kept)
    return sparse_tensor(places.t().contiguous(), self[tuple(places.t())], tuple(self.shape), True)


def _check_form(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """The number of sparse dims that the arguments of `to_sparse` say."""
    wanted = [*args, *kwargs.values()]
    for other in wanted:
        if isinstance(other, layout) and other is not sparse_coo:
            raise NotImplementedError(f"sparse tensors are of layout torch.sparse_coo, not {other}")
    numbers = [n for n in wanted if isinstance(n, int)]
    return numbers[0] if numbers else None


def to_dense(self: Tensor, dtype: DType | None = None, *, masked_grad: bool | None = None) -> Tensor:
    """The tensor itself: it is dense."""
    return self if dtype is None else self.to(dtype)


def parts_of(tensor: SparseTensor) -> tuple[list[Tensor], tuple[Any, ...]]:
    """The indices and the values; the sizes, and whether it is coalesced."""
    return [tensor._indices_of, tensor._values_of], (tuple(tensor.shape), tensor._coalesced)


def of_parts(parts: Iterable[Any], context: tuple[Any, ...]) -> SparseTensor:
    """The tensor again."""
    indices, values = parts
    return sparse_tensor(indices, values, *context)


__all__ = ["SparseTensor", "sparse_coo_tensor", "to_dense", "to_sparse"]
