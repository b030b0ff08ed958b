"""Reading arguments as PyTorch does: dims counted from the end, sizes given one by one or as a sequence,
numbers, and the several names that an argument may have.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Container, Iterable, MutableMapping, Sequence
from typing import Any, TypeVar

import numpy as np

from .ir import dtypes
from .ir.dims import DimLike, Expr
from .tensor import Tensor, scalar_type_name, wrap

Number = int | float | bool
F = TypeVar("F", bound=Callable[..., Any])


def wrap_dim(dim: Any, rank: int, scalar: bool = True) -> int:
    """The dim counted from the front; IndexError outside the range. A 0-d tensor counts as having one dim."""
    if type(dim) is not int:
        dim = as_int(dim)
    size = rank if rank or not scalar else 1
    if not -size <= dim < size:
        if size == 0:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})"
        )
    return dim if dim >= 0 else dim + size


def wrap_dims(dims: Any, rank: int) -> tuple[int, ...]:
    """One dim, several, or None for all, counted from the front; RuntimeError for a repeated one."""
    if dims is None:
        return tuple(range(rank))
    if isinstance(dims, Sequence):
        found = tuple(wrap_dim(d, rank) for d in dims)
        for i, dim in enumerate(found):
            if dim in found[:i]:
                raise RuntimeError(f"dim {dim} appears multiple times in the list of dims")
        return found
    return (wrap_dim(dims, rank),)


def as_int(value: Any) -> int:
    """A Python int from anything that is an integer: NumPy's, a 0-d integer tensor."""
    if isinstance(value, bool):
        return int(value)
    try:
        return int(value.__index__())
    except (AttributeError, TypeError):
        raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer") from None


def as_dim(value: Any) -> DimLike:
    """A size: an int, or a symbolic dim as it is."""
    if type(value) is int or isinstance(value, Expr):
        return value
    return as_int(value)


def dims_of(given: tuple[Any, ...], keyword: Any) -> tuple[Any, ...]:
    """`f(0, 1)`, `f((0, 1))` and `f(dims=(0, 1))` as one tuple."""
    if keyword is not None:
        given = (*given, keyword)
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], Sequence) else given


def sizes(given: Sequence[Any], name: str = "size", keyword: Any = None) -> tuple[DimLike, ...]:
    """`f(2, 3)`, `f((2, 3))`, `f(torch.Size([2, 3]))` and `f(size=(2, 3))` as one tuple."""
    if keyword is not None:
        given = (*given, keyword)
    if len(given) == 1 and isinstance(given[0], Sequence) and not isinstance(given[0], str):
        given = given[0]
    try:
        return tuple([s if type(s) is int else as_dim(s) for s in given])
    except TypeError:
        bad = next(s for s in given if not isinstance(s, int | Expr))
        raise TypeError(
            f"{name}(): argument 'size' (position 1) must be tuple of ints, not {type(bad).__name__}"
        ) from None


# `isinstance(x, A | B)` makes the union anew each time, which takes as long as a small op's arithmetic.
_COMMON = (Tensor, int, float)
_OPERANDS = (*_COMMON, complex, np.generic, np.ndarray, Expr)


def operand(value: Any, name: str, argument: str = "other", position: int = 2) -> Any:
    """A tensor or a Python number; NumPy scalars and arrays become one of the two. TypeError for the rest."""
    if isinstance(value, _COMMON):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return wrap(value)
    if isinstance(value, complex | Expr):
        return value
    raise TypeError(
        f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {_type_name(value)}"
    )


def tensor_argument(value: Any, name: str, argument: str = "input", position: int = 1) -> Tensor:
    """The value, which must be a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}(): argument '{argument}' (position {position}) must be Tensor, not {_type_name(value)}"
        )
    return value


def not_implemented(kernel: str, value: Tensor) -> NotImplementedError:
    """What PyTorch says where a function has no kernel for the dtype."""
    return NotImplementedError(f"\"{kernel}\" not implemented for '{scalar_type_name(value.dtype)}'")


def need_floating(name: str, value: Tensor, low_precision: bool = True) -> None:
    """RuntimeError for a tensor that is neither floating point nor complex."""
    if value.dtype.kind not in ("float", "complex"):
        raise RuntimeError(
            f"{name}: Expected a floating point or complex tensor as input. Got {scalar_type_name(value.dtype)}"
        )
    if not low_precision and value.dtype in (dtypes.f16, dtypes.bf16):
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {scalar_type_name(value.dtype)}")


def number_argument(value: Any, name: str, argument: str, position: int) -> Any:
    """The value, which must be no tensor."""
    if isinstance(value, Tensor):
        raise TypeError(f"{name}(): argument '{argument}' (position {position}) must be Number, not Tensor")
    return value


def tensors_argument(values: Any, name: str) -> list[Tensor]:
    """The sequence `tensors` of `cat` and its like, each of which must be a tensor."""
    if isinstance(values, Tensor) or not isinstance(values, Iterable):
        raise TypeError(
            f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not {_type_name(values)}"
        )
    found = list(values)
    for i, value in enumerate(found):
        if not isinstance(value, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {_type_name(value)}")
    return found


def is_operand(value: Any) -> bool:
    """Whether an operator (`+`, `<` ...) takes the value as its other side."""
    return isinstance(value, _OPERANDS)


def _type_name(value: Any) -> str:
    return type(value).__name__


# The names of arguments

# NumPy's names, which PyTorch's functions take too; but not these functions of `torch` and Tensor, which it writes in
# Python, where the names are as they are.
_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}
WITHOUT_NUMPY_NAMES = frozenset({"norm", "split", "unique", "unique_consecutive"})


def also_named(**names: str) -> Callable[[F], F]:
    """Declares more keywords for parameters: `also_named(sections="indices_or_sections")`. PyTorch's overloads name one
    argument differently, and names such as `from` cannot be a parameter's here."""
    return _declare("_also_named", names)


def numbers_first(*names: str) -> Callable[[F], F]:
    """Declares parameters that may be given as numbers in front: `x.add_(2, y)` for `x.add_(y, alpha=2)`, as PyTorch
    deprecates and still takes."""
    return _declare("_numbers_first", names)


def _declare(attribute: str, what: Any) -> Callable[[F], F]:
    def declared(function: F) -> F:
        setattr(function, attribute, what)
        return function

    return declared


def with_keywords(function: F, numpy_names: bool = True) -> F:
    """The function as programs call it, with all names of its arguments; itself, where these are its parameters'."""
    # A signature, of a thousand functions, would take the import 10 ms.
    code = inspect.unwrap(function).__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    names = dict(getattr(function, "_also_named", ()))
    if numpy_names:
        names.update({theirs: ours for theirs, ours in _NUMPY_NAMES.items() if ours in parameters})
    numbers, count = getattr(function, "_numbers_first", ()), code.co_argcount
    if not names and not numbers:
        return function
    others = frozenset(names)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not others.isdisjoint(kwargs):
            for theirs in others.intersection(kwargs):
                if names[theirs] in kwargs:
                    raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{theirs}'")
                kwargs[names[theirs]] = kwargs.pop(theirs)
        if numbers and len(args) > count:
            args, kwargs = _numbers_named(function.__name__, count, numbers, args, kwargs)
        return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


def warn_of_numbers_first(name: str, *numbers: str) -> None:
    """What PyTorch warns of, too."""
    warnings.warn(
        f"This overload of {name} is deprecated: give {' and '.join(numbers)} by keyword, after the tensors.",
        UserWarning,
        stacklevel=4,
    )


def _numbers_named(
    name: str, tensors: int, numbers: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = [a for a in args if not isinstance(a, Tensor)]
    if len(given) > len(numbers) or len(args) - len(given) != tensors:
        return args, kwargs
    warn_of_numbers_first(name, *numbers)
    return tuple(a for a in args if isinstance(a, Tensor)), kwargs | dict(zip(numbers, given))


def name_keywords(
    namespace: MutableMapping[str, Any], names: Iterable[str], without: Container[str] = ()
) -> None:
    """`with_keywords` on those of a namespace's names that are functions; `without` take no names of NumPy's."""
    for name in names:
        if inspect.isfunction(namespace[name]):
            namespace[name] = with_keywords(namespace[name], name not in without)
