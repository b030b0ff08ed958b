"""PyTorch's CPU random streams: MT19937, drawn from exactly as ATen's CPUGeneratorImpl does.

Everything here is NumPy arrays; `random.py` wraps it in tensors. The rules are those of ATen's
`CPUGeneratorImpl.cpp`, `core/TransformationHelper.h`, `core/DistributionsHelper.h` and
`native/cpu/DistributionTemplates.h` (PyTorch 2.13, x86-64 build with FMA), measured against it bit for bit.
"""

from __future__ import annotations

import math
import secrets
from importlib import import_module
from typing import Any

import numpy as np

from .codegen.forks import Lock
from .device import CPU, default_from
from .device import device as as_device
from .ir import dtypes
from .ir.dtypes import DType
from .normal_transform import box_muller_f32, box_muller_f64, fma_f64
from .runtime.allocator import empty

Array = np.ndarray[Any, Any]

DEFAULT_SEED = 67280421310721
_WORDS = 624

# CPUGeneratorImplState: the legacy struct of 5048 bytes, then the float normal sample that nothing reads any
# more.
_STATE = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", (_WORDS,)),
        # Unused by PyTorch since 1.0. The Philox call number lives here, so that saving the state saves
        # dropout's too.
        ("philox_calls", "<u8"),
        ("next_normal", "<f8"),
        ("normal_rho", "<f8"),
        ("normal_is_valid", "<i4"),
        ("padding", "V4"),
        ("next_float_normal", "<f4"),
        ("float_normal_is_valid", "?"),
        ("padding_end", "V3"),
    ]
)
STATE_BYTES = _STATE.itemsize

# Bits of the mantissa, the hidden one included.
_DIGITS = {dtypes.f16: 11, dtypes.bf16: 8, dtypes.f32: 24, dtypes.f64: 53}
_C_NAMES = {
    dtypes.u8: "unsigned char",
    dtypes.i8: "signed char",
    dtypes.i16: "short",
    dtypes.i32: "int",
    dtypes.i64: "int64_t",
}
_SCALAR_NAMES = {
    dtypes.bool_: "Bool",
    dtypes.u8: "Byte",
    dtypes.i8: "Char",
    dtypes.i16: "Short",
    dtypes.i32: "Int",
    dtypes.i64: "Long",
}


# A kernel of our own compiler makes normal numbers in an eighth of NumPy's time, and takes half a second the very first
# time: from so many numbers of a process on, in calls for so many.
_NUMBERS_BEFORE_KERNEL, _FEWEST_FOR_KERNEL = 1 << 22, 1 << 12
_normal_numbers = 0


def _is_worth_compiling(count: int) -> bool:
    global _normal_numbers
    _normal_numbers += count
    return count >= _FEWEST_FOR_KERNEL and _normal_numbers > _NUMBERS_BEFORE_KERNEL


def _check_floating(dtype: DType, kernel: str) -> None:
    if dtype not in _DIGITS:
        name = _SCALAR_NAMES.get(dtype, dtype.torch_name)
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{name}'")


def wrap_seed(seed: Any) -> int:
    """`seed` as an unsigned 64-bit integer, negative ones wrapped; ValueError outside [-2**63, 2**64)."""
    value = int(seed)
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError("Overflow when unpacking long long")
    return value % (1 << 64)


class Generator:
    """A source of pseudo-random numbers, the same ones as `torch.Generator` on the CPU for the same seed.

    Beside the MT19937 stream it counts the calls of counter-based ops (`philox_state`): dropout's mask is a
    function of the seed and that number, the same eager and compiled.
    """

    def __init__(self, device: Any = "cpu"):
        where = as_device(device)
        if where.type != "cpu" and default_from(where) is None:
            raise RuntimeError(f"Device type {where.type} is not supported for torch.Generator() api.")
        self._device = CPU if where.type == "cpu" else as_device("cuda", where.index or 0)
        self._lock = Lock()
        self.manual_seed(DEFAULT_SEED)

    @property
    def device(self) -> as_device:
        return self._device

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream that belongs to `seed`; returns the generator."""
        with self._lock:
            self._seed = wrap_seed(seed)
            # RandomState seeds MT19937 by init_genrand, as ATen does; MT19937(seed) would hash the seed
            # first.
            self._bits = np.random.RandomState(self._seed & 0xFFFFFFFF)._bit_generator
            self._fresh = True
            self._next_normal: float | None = None
            self._philox_calls = 0
        return self

    def seed(self) -> int:
        """Seed from the system's entropy; returns the seed."""
        self.manual_seed(secrets.randbits(64))
        return self._seed

    def initial_seed(self) -> int:
        return self._seed

    def philox_state(self, calls: int = 1) -> tuple[int, int]:
        """(seed, number of the next call) of the counter-based stream, which then moves on by `calls`."""
        with self._lock:
            first = self._philox_calls
            self._philox_calls += calls
        return self._seed, first

    def clone_state(self) -> Generator:
        """Another generator that goes on from the same state."""
        other = Generator()
        other.set_state_bytes(self.state_bytes())
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        return self.clone_state()

    def __getstate__(self) -> bytes:
        return self.state_bytes().tobytes()

    def __setstate__(self, state: bytes) -> None:
        self.__init__()  # type: ignore[misc]
        self.set_state_bytes(np.frombuffer(state, np.uint8))

    # State

    def state_bytes(self) -> Array:
        """The state as 5056 bytes, laid out as PyTorch's."""
        state = np.zeros((), _STATE)
        raw: Any = self._bits.state["state"]
        position = int(raw["pos"])
        state["seed"] = self._seed
        state["left"] = 625 - position
        state["seeded"] = 1
        state["next"] = 0 if self._fresh else position
        state["words"] = raw["key"]
        state["philox_calls"] = self._philox_calls
        if self._next_normal is not None:
            state["next_normal"] = self._next_normal
            state["normal_is_valid"] = 1
        return np.frombuffer(state.tobytes(), np.uint8).copy()

    def set_state_bytes(self, data: Array) -> None:
        """Restore what `state_bytes` (or PyTorch's get_state) gave; RuntimeError for another size or a bad
        state."""
        if data.size != STATE_BYTES:
            raise RuntimeError(
                f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found the input RNG state size "
                f"to be {data.size}"
            )
        state = np.frombuffer(np.ascontiguousarray(data, np.uint8).tobytes(), _STATE)[0]
        left, following = int(state["left"]), int(state["next"])
        if not 1 <= left <= _WORDS or following > _WORDS or not state["seeded"]:
            raise RuntimeError("Invalid mt19937 state")
        with self._lock:
            self._seed = int(state["seed"])
            self._fresh = left == 1 and following == 0
            key = state["words"].astype(np.uint32)
            self._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 625 - left}}
            self._next_normal = float(state["next_normal"]) if state["normal_is_valid"] else None
            self._philox_calls = int(state["philox_calls"])

    # Draws

    def draw32(self, count: int) -> Array:
        """The next `count` 32-bit draws, as uint64."""
        if count:
            self._fresh = False
        return self._bits.random_raw(count)

    def draw64(self, count: int) -> Array:
        """The next `count` 64-bit draws: two 32-bit ones each, high half first."""
        halves = self.draw32(2 * count).reshape(count, 2)
        return (halves[:, 0] << np.uint64(32)) | halves[:, 1]

    def _draw_u32(self, count: int) -> Array:
        """The next `count` 32-bit draws, as uint32."""
        if count:
            self._fresh = False
        # The whole range of uint32: the draws themselves, in half the memory and time of random_raw's.
        return np.random.Generator(self._bits).integers(0, 0xFFFFFFFF, count, np.uint32, endpoint=True)

    def _unit_f32(self, count: int) -> Array:
        draws = self._draw_u32(count)
        draws &= np.uint32(0xFFFFFF)
        unit = empty((count,), np.dtype(np.float32))
        return np.multiply(draws, np.float32(2.0**-24), out=unit, casting="unsafe", dtype=np.float32)

    def _unit_f64(self, count: int) -> Array:
        return (self.draw64(count) & np.uint64((1 << 53) - 1)).astype(np.float64) * 2.0**-53

    def uniform(self, count: int, dtype: DType, low: float = 0.0, high: float = 1.0) -> Array:
        """`count` numbers in [low, high). float64 takes 53 bits of a 64-bit draw, the others 24 of a 32-bit
        one."""
        _check_floating(dtype, "check_uniform_bounds")
        if low > high:
            raise RuntimeError(
                f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}"
            )
        with self._lock:
            if dtype is dtypes.f64:
                return fma_f64(self._unit_f64(count), high - low, low)
            unit = self._unit_f32(count)
        if low == 0.0 and high == 1.0:
            return self._rounded_below(unit, dtype, low, high)
        # Exact in float64, so this is one fused step.
        start, stop = np.float32(low), np.float32(high)
        scaled = (unit.astype(np.float64) * np.float64(stop - start) + np.float64(start)).astype(np.float32)
        return self._rounded_below(scaled, dtype, low, high)

    @staticmethod
    def _rounded_below(values: Array, dtype: DType, low: float, high: float) -> Array:
        """`values` in the dtype; in half precision, what rounds up to `high` becomes `low`, as in PyTorch."""
        if dtype is dtypes.f32:
            return values
        rounded = values.astype(dtype.numpy)
        rounded[rounded == dtype.numpy.type(high)] = low
        return rounded

    def normal(
        self, count: int, dtype: DType, mean: float = 0.0, std: float = 1.0, contiguous: bool = True
    ) -> Array:
        """`count` numbers of N(mean, std**2).

        From 16 on, and if the target is contiguous, in blocks of 16: the first 8 uniform numbers of a block
        are radii, the last 8 angles (Box-Muller). Where the count is no multiple of 16 the last 16 are drawn
        anew. Fewer numbers come one by one, in float64, the second of each pair kept for the next call.
        """
        if not std >= 0.0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        _check_floating(dtype, "normal_kernel_cpu")
        with self._lock:
            if count < 16 or not contiguous:
                return np.array([self._one_normal(mean, std) for _ in range(count)], np.float64).astype(
                    dtype.numpy
                )
            double = dtype is dtypes.f64
            unit = self._unit_f64 if double else self._unit_f32
            block = box_muller_f64 if double else box_muller_f32
            whole = count - count % 16
            if not double and _is_worth_compiling(whole):
                unit, block = self._draw_u32, import_module(".normal_kernel", __package__).box_muller
            # float16 and bfloat16 are drawn block by block, the others all before the first block.
            data = unit(count if dtype in (dtypes.f32, dtypes.f64) else whole)
            out = empty((count,), np.dtype(np.float64 if double else np.float32))
            out[:whole] = block(data[:whole], mean, std)
            if count % 16:
                out[-16:] = block(unit(16), mean, std)
        return out.astype(dtype.numpy, copy=False)

    def _one_normal(self, mean: float, std: float) -> float:
        if self._next_normal is not None:
            sample, self._next_normal = self._next_normal, None
        else:
            u1, u2 = self._unit_f64(2).tolist()
            radius, theta = math.sqrt(-2.0 * math.log1p(-u2)), 2.0 * math.pi * u1
            self._next_normal = radius * math.sin(theta)
            sample = radius * math.cos(theta)
        return float(fma_f64(np.array([sample]), std, mean)[0])

    def integers(self, count: int, dtype: DType, low: int, high: int) -> Array:
        """`count` integers in [low, high): a 32-bit draw modulo the range, from a range of 2**28 on a 64-bit
        one."""
        if low >= high:
            raise RuntimeError(
                f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
            )
        if dtype.kind in ("int", "uint"):
            limits = np.iinfo(dtype.numpy)
            name = _C_NAMES.get(dtype, dtype.torch_name)
            for label, bound in (("from", low), ("to - 1", high - 1)):
                if not limits.min <= bound <= limits.max:
                    raise RuntimeError(f"{label} is out of bounds for {name}")
        span = high - low
        with self._lock:
            draws = self.draw64(count) if span >= 1 << 28 else self.draw32(count)
        if span < 1 << 64:
            draws = draws % np.uint64(span)
        return (draws + np.uint64(low % (1 << 64))).view(np.int64).astype(dtype.numpy)

    def full_range(self, count: int, dtype: DType) -> Array:
        """`random_()` without bounds: up to the largest value; for floats up to 2**(mantissa bits), all
        exact."""
        with self._lock:
            if dtype is dtypes.bool_:
                return (self.draw32(count) & np.uint64(1)).astype(np.bool_)
            wide = dtype in (dtypes.i64, dtypes.u64, dtypes.f64)
            draws = self.draw64(count) if wide else self.draw32(count)
        if dtype in _DIGITS:
            return (draws % np.uint64((1 << _DIGITS[dtype]) + 1)).astype(dtype.numpy)
        if not dtype.is_integral:
            raise NotImplementedError(f"\"random_\" not implemented for '{dtype.torch_name}'")
        return (draws & np.uint64(np.iinfo(dtype.numpy).max)).astype(dtype.numpy)

    def bernoulli(self, count: int, dtype: DType, p: float) -> Array:
        """`count` times 1 with probability p: a float64 uniform number below p (what ATen does without MKL's
        VSL)."""
        if not 0.0 <= p <= 1.0:
            raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        with self._lock:
            return (self._unit_f64(count) < p).astype(dtype.numpy)

    def bernoulli_each(self, p: Array) -> Array:
        """1 with the probability that stands in `p` (1-D), one uniform number of p's dtype each."""
        if p.size and not (p.min() >= 0 and p.max() <= 1):
            raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.")
        with self._lock:
            draws = self._unit_f64(p.size) if p.dtype == np.float64 else self._unit_f32(p.size)
        return (draws < p).astype(p.dtype)

    def exponential(self, count: int, dtype: DType, rate: float = 1.0) -> Array:
        """`count` numbers with density rate * exp(-rate * x)."""
        if not rate > 0.0:
            raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate:g}")
        _check_floating(dtype, "exponential_kernel_cpu")
        with self._lock:
            draws = self._unit_f64(count)
        return (-np.log1p(-draws) / rate).astype(dtype.numpy)

    def permutation(self, count: int) -> Array:
        """0 .. count-1 shuffled (Fisher-Yates from the front, each swap a 32-bit draw modulo what is
        left)."""
        if count < 2:
            return np.arange(count)
        with self._lock:
            draws = self.draw32(count - 1)
        offsets = (draws % np.arange(count, 1, -1, dtype=np.uint64)).tolist()
        order = list(range(count))
        for i, offset in enumerate(offsets):
            j = i + offset
            order[i], order[j] = order[j], order[i]
        return np.array(order, np.int64)


default_generator = Generator()


_device_generators: dict[int, Generator] = {}


def cpu_generator(generator: Generator | None) -> Generator:
    """The generator, or the default one; RuntimeError for one of a device."""
    if generator is None:
        return default_generator
    if generator.device is not CPU:
        raise RuntimeError("Expected a 'cpu' device type for generator but found 'cuda'")
    return generator


def device_generator(index: int) -> Generator:
    """The default generator of a CUDA device. Its numbers are those of the counter-based stream."""
    found = _device_generators.get(index)
    if found is None:
        found = _device_generators[index] = Generator(f"cuda:{index}")
        found.manual_seed(_devices_seed[0])
    return found


_devices_seed = [DEFAULT_SEED]  # of devices that have drawn nothing yet


def seed_devices(seed: int) -> None:
    """Start the streams of all devices at `seed`."""
    _devices_seed[0] = wrap_seed(seed)
    for found in _device_generators.values():
        found.manual_seed(seed)


def philox_state(calls: int = 1) -> tuple[int, int]:
    """The default generator's `Generator.philox_state`."""
    return default_generator.philox_state(calls)
