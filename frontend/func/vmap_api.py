"""`torch.vmap`: a function of single samples, run on batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import dispatch
from ..dispatch import use_backend
from ..functional_shape import cat, movedim
from ..functional_slices import tensor_split
from ..random import get_rng_state, set_rng_state
from ..state import local
from ..tensor import Tensor
from .batched import VmapBackend
from .trees import Structure, flatten, show, spread_prefix, unflatten


def name_of(func: Any) -> str:
    """What messages call the function."""
    if hasattr(func, "__name__"):
        return str(func.__name__)
    if isinstance(func, functools.partial):
        return f"functools.partial({name_of(func.func)}, ...)"
    return repr(func)


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """`func`, a function of single samples, as a function of batches.

    `in_dims`: which dim of each input is the batch, None for an input that all samples share; an int, or a tree that
    is a prefix of the arguments. `out_dims`: where the results get the batch. `randomness`: what random functions
    inside do: "error", "same" numbers for all samples, or "different" ones. `chunk_size`: how many samples to compute
    at once. Shapes, errors and the treatment of randomness are PyTorch's.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(
            f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}"
        )
    if chunk_size is not None and not chunk_size > 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _check_out_dims(out_dims, func)
        size, dims, leaves, structure = _inputs(in_dims, args, func)
        if chunk_size is None:
            return run(func, size, dims, leaves, structure, out_dims, randomness, kwargs)
        return _in_chunks(func, size, chunk_size, dims, leaves, structure, out_dims, randomness, kwargs)

    return wrapped


def _inputs(in_dims: Any, args: Any, func: Any) -> tuple[Any, list[int | None], list[Any], Structure]:
    name = name_of(func)
    if not isinstance(in_dims, int | tuple):
        raise ValueError(
            f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): expected `in_dims` to be int or a (potentially nested) "
            f"tuple matching the structure of inputs, got: {type(in_dims)}."
        )
    if not args:
        raise ValueError(
            f"vmap({name})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over "
            "a function with no inputs. The latter is unsupported."
        )
    leaves, structure = flatten(args)
    dims = spread_prefix(in_dims, structure)
    where = f"vmap({name}, in_dims={in_dims}, ...)(<inputs>): "
    if dims is None:
        raise ValueError(
            f"{where}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
            f"{show(flatten(in_dims)[1])} but inputs has structure {show(structure)}."
        )
    for at, (leaf, dim) in enumerate(zip(leaves, dims)):
        if dim is None:
            continue
        if not isinstance(dim, int):
            raise ValueError(
                f"{where}Got in_dim={dim} for an input but in_dim must be either an integer dimension or None."
            )
        if not isinstance(leaf, Tensor):
            raise ValueError(
                f"{where}Got in_dim={dim} for an input but the input is of type {type(leaf)}. We cannot vmap over "
                "non-Tensor arguments, please use None as the respective in_dim"
            )
        if not -leaf.ndim <= dim < leaf.ndim:
            raise ValueError(
                f"{where}Got in_dim={dim} for some input, but that input is a Tensor of dimensionality {leaf.ndim} "
                f"so expected in_dim to satisfy -{leaf.ndim} <= in_dim < {leaf.ndim}."
            )
        dims[at] = dim % leaf.ndim
    sizes = [leaf.shape[dim] for leaf, dim in zip(leaves, dims) if dim is not None]
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(size != sizes[0] for size in sizes):
        raise ValueError(
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sizes} for the mapped dimension"
        )
    return sizes[0], dims, leaves, structure


def _check_out_dims(out_dims: Any, func: Any) -> None:
    for leaf in flatten(out_dims)[0]:
        if not isinstance(leaf, int) and leaf is not None:
            raise ValueError(
                f"vmap({name_of(func)}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a python "
                "collection of ints representing where in the outputs the vmapped dimension should appear."
            )


def level_below() -> int:
    """The number of vmaps that are running."""
    backend = local.backend
    return backend.level if isinstance(backend, VmapBackend) else 0


def run(
    func: Callable[..., Any],
    size: Any,
    dims: Sequence[int | None],
    leaves: Sequence[Any],
    structure: Structure,
    out_dims: Any,
    randomness: str,
    kwargs: dict[str, Any],
    none_passes: bool = False,
) -> Any:
    """`func` on the arguments, each with its batch at its dim. `none_passes`: a result may be None."""
    backend = VmapBackend(local.backend, size, randomness, level_below() + 1)
    inputs = [
        leaf if dim is None else backend.wrap(movedim(leaf, dim, 0) if dim else leaf, True)
        for leaf, dim in zip(leaves, dims)
    ]
    with use_backend(backend):
        found = func(*unflatten(structure, inputs), **kwargs)
    results, result_structure = flatten(found)
    where = _result_dims(out_dims, found, result_structure, func)
    return unflatten(
        result_structure,
        [
            None if none_passes and r is None else _leaving(backend, r, dim, func)
            for r, dim in zip(results, where)
        ],
    )


def _result_dims(out_dims: Any, found: Any, structure: Structure, func: Any) -> list[Any]:
    def refuse() -> NoReturn:
        raise ValueError(
            f"vmap({name_of(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure "
            f"of `outputs`. out_dims has structure {show(flatten(out_dims)[1])} but outputs has structure "
            f"{show(structure)}."
        )

    if isinstance(found, Tensor):
        if isinstance(out_dims, tuple) and len(out_dims) == 1:
            return list(out_dims)
        if out_dims is not None and not isinstance(out_dims, int):
            refuse()
        return [out_dims]
    where = spread_prefix(out_dims, structure)
    if where is None:
        refuse()
    return where


def _leaving(backend: VmapBackend, result: Any, dim: int | None, func: Any) -> Any:
    """A result with its batch at `dim`."""
    held = backend.held(result) if isinstance(result, Tensor) else None
    name = name_of(func)
    if dim is None:
        if held is not None and held.batched:
            raise ValueError(
                f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None"
            )
        return result if held is None else held.lower
    if not isinstance(result, Tensor):
        raise ValueError(
            f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(result)}. Did you mean to set "
            "out_dims= to None for output?"
        )
    lower = result if held is None else held.lower
    rank = lower.ndim + (held is None or not held.batched)
    if not -rank <= dim < rank:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got {dim})"
        )
    if held is None or not held.batched:
        lower = dispatch.TENSORS.expand(lower, shape=(backend.size, *lower.shape))
    return movedim(lower, 0, dim) if dim % rank else lower


def _in_chunks(
    func: Callable[..., Any],
    size: int,
    chunk_size: int,
    dims: Sequence[int | None],
    leaves: Sequence[Any],
    structure: Structure,
    out_dims: Any,
    randomness: str,
    kwargs: dict[str, Any],
) -> Any:
    stops = [*range(chunk_size, size, chunk_size), size]
    parts = [
        [leaf] * len(stops) if dim is None else tensor_split(leaf, stops[:-1], dim)
        for leaf, dim in zip(leaves, dims)
    ]
    random_before = None
    outputs = []
    for at, inputs in enumerate(zip(*parts)):
        count = stops[at] - (stops[at - 1] if at else 0)
        if randomness == "same":
            random_before = _same_random(random_before)
        outputs.append(run(func, count, dims, inputs, structure, out_dims, randomness, kwargs))
    shape = flatten(outputs[0])[1]
    where = spread_prefix(out_dims, shape)
    assert where is not None
    columns = zip(*(flatten(output)[0] for output in outputs))
    joined = [cat(list(column), dim) for column, dim in zip(columns, where)]
    return unflatten(shape, joined)


def _same_random(state: Any) -> Any:
    """Have each chunk draw what the first one drew."""
    if state is None:
        return get_rng_state()
    set_rng_state(state)
    return state
