"""Normal numbers from the compiled kernel: those of NumPy's rule, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify
from vitrify import generator
from vitrify.normal_kernel import box_muller
from vitrify.normal_transform import box_muller_f32


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.3, 2.7), (-1e-3, 0.0)])
def test_the_same_bits(mean, std):
    draws = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, np.uint32)
    draws[:6] = 0, 1, 0xFFFFFF, 0x800000, 0xFF000000, 0x7FFFFF  # radii at both ends
    draws[8:14] = draws[:6]  # and angles
    unit = (draws & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)
    want = box_muller_f32(unit, mean, std)
    np.testing.assert_array_equal(box_muller(draws, mean, std).view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("dtype", [vitrify.float32, vitrify.bfloat16])
@pytest.mark.parametrize("count", [4096, 5003])
def test_a_stream_does_not_tell_when_the_kernel_takes_over(monkeypatch, dtype, count):
    found = []
    for before in (1 << 62, 0):
        monkeypatch.setattr(generator, "_NUMBERS_BEFORE_KERNEL", before)
        vitrify.manual_seed(3)
        x = vitrify.empty(count, dtype=dtype).normal_(0.5, 3.0)
        found.append((x.float().numpy(), vitrify.rand(3).numpy()))
    for left, right in zip(*found):
        np.testing.assert_array_equal(left, right)
