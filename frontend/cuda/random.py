"""`torch.cuda.random`: the generators of CUDA devices. Their numbers are those of the counter-based stream, whose state
is a seed and a count of calls: 16 bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import generator
from ..ir import dtypes
from ..placement import committed
from ..tensor import Tensor, wrap
from .devices import Device, current_device, device_count, index_of, is_available


def manual_seed(seed: int) -> None:
    """Start the current device's stream at `seed`; nothing where there is no device."""
    if is_available():
        generator.device_generator(current_device()).manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Start all devices' streams at `seed`; nothing where there is no device."""
    generator.seed_devices(seed)


def seed() -> None:
    """Seed the current device's generator from the system's entropy."""
    if is_available():
        generator.device_generator(current_device()).seed()


def seed_all() -> None:
    """Seed all devices from the system's entropy, alike."""
    if is_available():
        generator.seed_devices(generator.device_generator(0).seed())


def initial_seed() -> int:
    """The seed of the current device's generator."""
    return generator.device_generator(current_device()).initial_seed()


def get_rng_state(device: Device = "cuda") -> Tensor:
    """The device's generator's state, uint8[16]: seed and offset."""
    found = generator.device_generator(index_of(device))
    return committed(wrap(np.array(found.philox_state(0), np.uint64).view(np.uint8)))


def get_rng_state_all() -> list[Tensor]:
    """The state of every device."""
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state(new_state: Tensor, device: Device = "cuda") -> None:
    """Put the device's generator into a state that `get_rng_state` gave."""
    if not isinstance(new_state, Tensor) or new_state.dtype is not dtypes.u8:
        raise TypeError("RNG state must be a torch.ByteTensor")
    if tuple(new_state.shape) != (16,):
        raise RuntimeError("RNG state is wrong size")
    start, calls = (int(word) for word in new_state.detach().cpu().numpy().view(np.uint64))
    found = generator.device_generator(index_of(device))
    found.manual_seed(start)
    found.philox_state(calls)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Put every device's generator into a state."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)


class _Generators:
    """`torch.cuda.default_generators`: by device number."""

    def __getitem__(self, index: int) -> generator.Generator:
        if not 0 <= index < device_count():
            raise IndexError("tuple index out of range")
        return generator.device_generator(index)

    def __len__(self) -> int:
        return device_count()

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))


default_generators = _Generators()

# The names of `torch.cuda` that are defined here.
__all__ = [
    "default_generators", "get_rng_state", "get_rng_state_all", "initial_seed", "manual_seed", "manual_seed_all",
    "seed", "seed_all", "set_rng_state", "set_rng_state_all",
]  # fmt: skip
