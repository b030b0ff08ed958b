"""PTX for tests: one instruction over arrays, and kernels from a body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitrify.runtime.ptx_simulator.device import SimulatorDevice

Array = np.ndarray[Any, Any]

HEAD = """.version 8.0
.target sm_90a
.address_size 64
"""
REGISTERS = """
	.reg .pred %p<16>;
	.reg .b16 %h<32>;
	.reg .b32 %r<64>;
	.reg .b64 %d<64>;
"""
WIDTHS = {2: "h", 4: "r", 8: "d"}
THREADS = 128


def device() -> SimulatorDevice:
    return SimulatorDevice(64 << 20)


def kernel(body: str, parameters: int = 1, declarations: str = "", name: str = "k") -> str:
    """A module with one kernel; its parameters are in %d0, %d1, ..., the thread's number in %r0."""
    listed = ", ".join(f".param .u64 p{i}" for i in range(parameters))
    loads = "".join(f"\tld.param.u64 %d{i}, [p{i}];\n" for i in range(parameters))
    begin = f"{HEAD}{declarations}\n.visible .entry {name}({listed})\n{{{REGISTERS}{loads}\tmov.u32 %r0, %tid.x;\n"
    return f"{begin}{body}\n\tret;\n}}\n"


def run(
    text: str,
    arrays: Sequence[Array],
    threads: int = THREADS,
    blocks: int = 1,
    *,
    shared: int = 0,
    extra: Sequence[int] = (),
) -> list[Array]:
    """Launch the module's only kernel on copies of the arrays; what they hold afterwards."""
    machine = device()
    module = machine.load(text)
    addresses = [machine.alloc(x.nbytes) for x in arrays]
    for address, x in zip(addresses, arrays, strict=True):
        machine.to_device(address, np.ascontiguousarray(x))
    machine.launch(next(iter(module.functions.values())), blocks, threads, shared, [*addresses, *extra])
    results = [np.empty_like(np.ascontiguousarray(x)) for x in arrays]
    for address, x in zip(addresses, results, strict=True):
        machine.to_host(x, address)
    return results


def over(code: str, inputs: Mapping[str, Array] | Sequence[Array], result: Any) -> Array:
    """Run `code` once per element: inputs are in {0}, {1}, ..., the result, of dtype `result`, goes to {to}. A bool
    result is a predicate."""
    given = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    size = len(given[0])
    padded = -(-size // THREADS) * THREADS
    dtype = np.dtype(np.uint32) if np.dtype(result) == np.bool_ else np.dtype(result)
    is_predicate = np.dtype(result) == np.bool_
    arrays, loads, names = [], "", []
    for number, x in enumerate(given):
        width = x.dtype.itemsize
        letter = WIDTHS[width]
        name = f"%{letter}{20 + number}"
        names.append(name)
        arrays.append(np.concatenate([x, np.zeros(padded - size, x.dtype)]))
        loads += f"\tmad.wide.u32 %d30, %r1, {width}, %d{number};\n\tld.global.b{8 * width} {name}, [%d30];\n"
    width = dtype.itemsize
    to = "%p9" if is_predicate else f"%{WIDTHS[width]}19"
    after = "\tselp.b32 %r19, 1, 0, %p9;\n" if is_predicate else ""
    number = len(given)
    store = f"\tmad.wide.u32 %d31, %r1, {width}, %d{number};\n\tst.global.b{8 * width} [%d31], %{WIDTHS[width]}19;\n"
    element = f"\tmov.u32 %r1, %ctaid.x;\n\tmad.lo.u32 %r1, %r1, {THREADS}, %r0;\n"
    text = kernel(f"{element}{loads}\t{code.format(*names, to=to)}\n{after}{store}", number + 1)
    found = run(text, [*arrays, np.zeros(padded, dtype)], THREADS, padded // THREADS)[-1][:size]
    return found.astype(np.bool_) if is_predicate else found


SPECIAL = {
    np.dtype(np.float32): [
        0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, 1.1754944e-38, 3.4028235e38, -3.4028235e38,
        0.5, 1.5, 2.5, -0.5, 2147483648.0, 4294967296.0, 0.99999994, 1.0000001, 16777216.0, 16777217.0,
    ],
    np.dtype(np.float64): [
        0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308,
        0.5, 1.5, 2.5, 2147483648.0, 9.223372036854775807e18, 1.8446744073709552e19, 1e-300, 1e300, 1.0000000000000002,
    ],
}  # fmt: skip


def floats(dtype: Any, count: int, seed: int) -> Array:
    """Numbers of every kind: special ones, random bit patterns, and ordinary ones."""
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    bits = random.integers(0, 1 << 8 * kind.itemsize, count, dtype=f"u{kind.itemsize}", endpoint=False)
    values = bits.view(kind).copy()
    ordinary = random.random(count) < 0.4
    with np.errstate(all="ignore"):
        values[ordinary] = (random.standard_normal(count) * 4).astype(kind)[ordinary]
        special = np.array(SPECIAL.get(kind, SPECIAL[np.dtype(np.float32)])).astype(kind)
        chosen = random.random(count) < 0.3
        values[chosen] = random.choice(special, count)[chosen]
    return values


def integers(dtype: Any, count: int, seed: int) -> Array:
    """Integers of every size, and the extremes."""
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    bits = random.integers(0, 1 << 8 * kind.itemsize, count, dtype=f"u{kind.itemsize}", endpoint=False)
    bits >>= random.integers(0, 8 * kind.itemsize, count).astype(bits.dtype)
    values = bits.view(kind).copy()
    info = np.iinfo(kind)
    special = np.array([0, 1, 2, info.max, info.min, info.max - 1, info.min + 1, info.max // 2], kind)
    chosen = random.random(count) < 0.3
    values[chosen] = random.choice(special, count)[chosen]
    if info.min < 0:
        values = np.where(random.random(count) < 0.3, -values, values).astype(kind)
    return values


def same(found: Array, expected: Array) -> None:
    """Equal bits, any NaN being like another."""
    if found.dtype.kind in "fV":
        nan = np.asarray(expected != expected)
        assert ((found != found) == nan).all(), (
            found[(found != found) != nan][:5],
            expected[(found != found) != nan][:5],
        )
        found, expected = found[~nan], expected[~nan]
    bits = f"u{found.dtype.itemsize}"
    wrong = np.flatnonzero(found.view(bits) != expected.view(bits))
    assert not len(wrong), (len(wrong), wrong[:5], found[wrong[:5]], expected[wrong[:5]])
