"""Which tensors lie on a device, and who computes with them.

Nothing here takes part until a device is first used: then the eager backend becomes a `PlacingBackend`, which looks
where the operands of each op lie. CPU tensors that library code makes on the way (a constant, a range of indices) are
*floating*: nobody said where they belong, so they go where the tensors are that they meet. What a program makes or loads
is not: mixing that with tensors of a device is an error, as in PyTorch. 0-d tensors go everywhere.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import device as torch_device
from .batched_values import under_vmaps
from .device import device
from .eager import ALIASING, EAGER, EagerBackend, writeable
from .formats import strided
from .ir.builder import OpBuilder
from .ir.dtypes import DType
from .ir.op import Op
from .runtime.gpu import arrays
from .runtime.gpu.arrays import DeviceArray, Gpu
from .runtime.gpu.meta import META
from .state import local
from .tape import Node, gradient_edge, node_class
from .tensor import Tensor, new_storages_float, view_of, wrap
from .views import ViewStep

_CUDA: dict[int, device] = {}
_META = device("meta")


def device_of(tensor: Tensor) -> device:
    """Where the tensor's memory is, inside `vmap` that of all samples; inside a compiled function, where it will be."""
    gpu = gpu_under(tensor)
    if gpu is not None:
        return _META if gpu is META else cuda_device(gpu.index)
    if tensor._array is None:
        tracer = local.backend.capture
        if tracer is not None and tracer.gpu is not None:
            return cuda_device(tracer.gpu.index)
    return torch_device.CPU


def where_to(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[device | None, DType | None, bool, Any]:
    """The device, dtype, `non_blocking` and memory format that arguments of `Module.to` say: `to(dtype)`,
    `to(device)`, `to(device, dtype)` or `to(tensor)`; None for what they do not."""
    known: dict[str, Any] = dict.fromkeys(("device", "dtype", "non_blocking", "memory_format")) | dict(kwargs)
    if "tensor" in known:
        args = (*args, known.pop("tensor"))
    if len(known) > 4:
        raise TypeError(f"to() received an invalid keyword argument '{list(known)[-1]}'")
    for arg in args:
        if isinstance(arg, DType):
            known["dtype"] = arg
        elif isinstance(arg, Tensor):
            known["dtype"], known["device"] = arg.dtype, device_of(arg)
        elif isinstance(arg, bool):
            known["non_blocking"] = arg
        elif arg is not None:
            known["device"] = arg
    place, dtype, non_blocking, format_ = known.values()
    return None if place is None else device(place), dtype, bool(non_blocking), format_


def cuda_device(index: int) -> device:
    """`cuda:index`, the same object each time."""
    found = _CUDA.get(index)
    if found is None:
        found = _CUDA[index] = device("cuda", index)
    return found


def is_on_device(tensor: Tensor) -> bool:
    """Whether the tensor's elements are in a device's memory; not of a tensor inside `vmap`, which has no memory."""
    return type(tensor._array) is DeviceArray


def gpu_under(tensor: Tensor) -> Gpu | None:
    """The GPU in whose memory the tensor's elements are (inside `vmap`, those of all samples)."""
    array: Any = tensor._array
    if array is None:
        array = under_vmaps(tensor)._array
    return array.gpu if type(array) is DeviceArray else None


def gpu_of(where: Any) -> Gpu | None:
    """The GPU that a device argument names, None for the CPU; errors for devices there are not."""
    if where is None or where is torch_device.CPU:
        return None
    wanted = where if isinstance(where, device) else device(where)
    if wanted.type == "meta":
        enable()
        return META
    if wanted.type != "cuda" or not arrays.gpu_count():
        torch_device.require_cpu(wanted)
        return None
    index = torch_device.current_index() if wanted.index is None else wanted.index
    if index >= arrays.gpu_count():
        raise torch_device.invalid_ordinal()
    enable()
    return arrays.gpu(index)


def default_gpu(where: Any) -> Gpu | None:
    """`gpu_of`, with the default device where none is named."""
    if where is not None:
        return gpu_of(where)
    if local.device is not None:
        enable()
    found: Gpu | None = local.device
    return found


def enable() -> None:
    """A device is going to be used."""
    if type(EAGER) is EagerBackend:
        global _programs
        _programs = importlib.import_module(".device_programs", __package__)
        new_storages_float[0] = True
        EAGER.__class__ = PlacingBackend


_programs: Any = None


def committed(tensor: Tensor) -> Tensor:
    """The tensor, which belongs where it is."""
    tensor._storage.floating = False
    return tensor


@contextmanager
def on_gpu(gpu: Gpu | None) -> Iterator[None]:
    """Inside, what is made without operands is made on the GPU (None: on the CPU)."""
    before, local.device = local.device, gpu
    try:
        yield
    finally:
        local.device = before


def makes_tensors(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Serve a creation function's `device` argument, and the default device."""

    @functools.wraps(function)
    def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None and local.device is None:
            return function(*args, **kwargs)
        gpu = default_gpu(device)
        if gpu is None and local.device is None:
            return committed(function(*args, **kwargs))
        with on_gpu(gpu):
            made = function(*args, **kwargs)
        if made._array is None or kwargs.get("out") is not None:
            return made
        if gpu is None or type(made._array) is DeviceArray:
            return committed(made)
        moved = transferred(made.detach(), gpu)
        moved._requires_grad = made._requires_grad
        return moved

    return make


def belongs(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as programs call it: the tensor that it makes belongs where it is made. NotImplementedError for a
    layout without strides."""

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        if "layout" in kwargs and kwargs["layout"] not in (None, strided):
            raise NotImplementedError(
                f"{function.__name__}(): tensors of layout {kwargs['layout']} are not in vitrify"
            )
        made = function(*args, **kwargs)
        if new_storages_float[0] and isinstance(made, Tensor):
            made._storage.floating = False
        return made

    return make


class PlacingBackend(EagerBackend):
    """The eager backend when there are tensors on devices."""

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        gpu = local.device if not operands else _common_gpu(operands)
        if gpu is not None:
            return self._on_device(gpu, op, operands, attrs)
        results = super().apply(op, operands, attrs)
        if any(not t._storage.floating for t in operands):
            for result in results:
                result._storage.floating = False
        return results

    def _on_device(
        self, gpu: Gpu, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]
    ) -> tuple[Tensor, ...]:
        given = [_moved(t, gpu) for t in operands]
        if op.name in ALIASING:
            seen = _programs.view(op, given[0], attrs)
            if seen is not None:
                return (view_of(operands[0], ViewStep(op, attrs), seen),)
        return tuple(wrap(a) for a in _programs.run_op(gpu, op, given, attrs))

    def write(self, target: Tensor, new: Tensor) -> None:
        there: Any = target._array
        given: Any = new._array
        if type(there) is not DeviceArray:
            if type(given) is DeviceArray:
                np.copyto(there if there.flags.writeable else writeable(there), given.to_host())
            else:
                super().write(target, new)
            return
        if type(given) is not DeviceArray or given.gpu is not there.gpu:
            host = given.to_host() if type(given) is DeviceArray else given
            if there.flags.c_contiguous and host.dtype == there.dtype:
                if there.size:
                    there.gpu.device.to_device(there.address, np.ascontiguousarray(host))
                return
            given = arrays.from_host(there.gpu, host)
        base: Any = target._storage.base_array
        _programs.write(there, base, target._views, given)

    def scalar(self, tensor: Tensor) -> Any:
        array: Any = tensor._array
        if type(array) is not DeviceArray:
            return super().scalar(tensor)
        if array.gpu is META:
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return super().scalar(wrap(array.to_host()))


def _common_gpu(operands: Sequence[Tensor]) -> Gpu | None:
    """Where the op is to run; None for the CPU. RuntimeError where operands lie on two devices."""
    found: Gpu | None = None
    for operand in operands:
        array: Any = operand._array
        if type(array) is DeviceArray:
            gpu = array.gpu
            if found is not None and gpu is not found and array.ndim:
                raise RuntimeError(_two_devices(found, gpu))
            found = found or gpu
    if found is not None:
        for operand in operands:
            array = operand._array
            if type(array) is not DeviceArray and not operand._storage.floating and array.ndim:
                raise RuntimeError(_two_devices(found, "cpu"))
    return found


def _two_devices(first: Any, second: Any) -> str:
    return (
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{first} and {second}!"
    )


def _moved(tensor: Tensor, gpu: Gpu) -> DeviceArray:
    array: Any = tensor._array
    if type(array) is DeviceArray:
        return array
    if not array.ndim:
        return _programs.constant(gpu, array)
    return arrays.from_host(gpu, array)


def transferred(tensor: Tensor, gpu: Gpu | None, copy: bool = False) -> Tensor:
    """The tensor on the GPU (None: on the CPU), with history; itself where it is there already, unless `copy`."""
    array: Any = tensor._array
    tracer = local.backend.capture
    if array is None and tracer is not None:
        if device_of(tensor) == (torch_device.CPU if gpu is None else cuda_device(gpu.index)):
            return tensor
        raise tracer.moves_between_devices(gpu)
    here = gpu_under(tensor)
    if here is gpu and not copy:
        return committed(tensor) if here is None else tensor
    if array is None:
        found = local.backend.vmap.transferred(tensor, gpu, copy)
        return _with_way_back(found, tensor, here)
    if here is None:
        made: Any = array.copy() if gpu is None else arrays.from_host(gpu, array)
    elif gpu is None:
        made = array.to_host()
    elif gpu is here:
        made = _programs.copied(array)
    else:
        made = arrays.from_host(gpu, array.to_host())
    return _with_way_back(committed(wrap(made)), tensor, here)


def _with_way_back(moved: Tensor, tensor: Tensor, home: Gpu | None) -> Tensor:
    """The moved tensor, with the history of the one that it was."""
    if local.grad_enabled and tensor.requires_grad:
        node = node_class("ToCopyBackward0", TransferNode)((gradient_edge(tensor),), (moved._type,))
        node.home = home
        moved._grad_fn, moved._requires_grad = node, True
    return moved


class TransferNode(Node):
    """The gradient of a move to another device: the move back."""

    __slots__ = ("home",)
    home: Gpu | None

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        return (transferred(grads[0], self.home),)
