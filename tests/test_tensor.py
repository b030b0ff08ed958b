"""Tensor as a Python object: NumPy, numbers, copies, and the protocols it takes part in."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import vitrify as torch

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@settings(deadline=None)
@given(arrays.arrays(np.float32, SHAPES))
def test_numpy_and_back_share_memory(array: Any) -> None:
    tensor = torch.from_numpy(array)
    assert tensor.shape == array.shape and tensor.stride() == tuple(s // 4 for s in array.strides)
    back = tensor.numpy()
    assert back.size == 0 or np.shares_memory(back, array)
    np.testing.assert_array_equal(np.asarray(torch.tensor(array)), array)


@settings(deadline=None)
@given(arrays.arrays(st.sampled_from([np.int64, np.float64, np.bool_, np.uint8, np.complex64]), SHAPES))
def test_lists_pickles_and_copies_hold_the_same(array: Any) -> None:
    tensor = torch.tensor(array)
    if array.size:
        assert torch.tensor(tensor.tolist(), dtype=tensor.dtype).shape == tensor.shape
    for other in (
        pickle.loads(pickle.dumps(tensor)),
        copy.deepcopy(tensor),
        copy.copy(tensor),
        tensor.clone(),
    ):
        assert other.dtype is tensor.dtype and other.shape == tensor.shape
        np.testing.assert_array_equal(other.numpy(), array)


@settings(deadline=None)
@given(st.integers(-(2**70), 2**70))
def test_numbers_wrap_into_integer_dtypes_as_c_does(number: int) -> None:
    for dtype, bits in ((torch.uint8, 8), (torch.int8, 8), (torch.int32, 32)):
        got = (torch.zeros(1, dtype=dtype) + (number % 2**32)).item()
        assert (got - number % 2**32) % 2**bits == 0


def test_narrow_floats_round_trip() -> None:
    x = torch.tensor([1.0, -2.5, float("inf"), float("nan")], dtype=torch.bfloat16)
    assert x.dtype is torch.bfloat16 and x.element_size() == 2
    again = pickle.loads(pickle.dumps(x))
    assert again.dtype is torch.bfloat16 and again[:3].tolist() == [1.0, -2.5, float("inf")]
    assert (x[0] + x[1]).item() == -1.5 and isinstance(x[0].item(), float)
    assert torch.ones(2, dtype=torch.float16).sum().dtype is torch.float16


def test_tensors_are_compared_element_by_element_and_hashed_by_identity() -> None:
    x, y = torch.ones(2), torch.ones(2)
    assert len({x, y}) == 2 and {x: 1}[x] == 1
    assert (x == y).all() and (x == None) is False  # noqa: E711
    assert (x != "a") is True


def test_python_operators_with_numpy_values() -> None:
    x = torch.ones(2)
    assert (x * np.float64(2)).dtype is torch.float32
    assert (x + np.ones(2)).dtype is torch.float64
    assert (np.float32(2) * x).tolist() == [2.0, 2.0]
    assert x[np.int64(1)].item() == 1.0
    assert x[np.array([0, 0])].shape == (2,)
    assert torch.zeros(np.int64(2), np.int32(3)).shape == (2, 3)
    assert np.sqrt(torch.tensor([4.0]).numpy()).tolist() == [2.0]


def test_iteration_unpacking_and_len() -> None:
    a, b = torch.tensor([[1, 2], [3, 4]])
    assert a.tolist() == [1, 2] and b.tolist() == [3, 4]
    assert max(torch.tensor([1, 3, 2])).item() == 3
    assert [int(v) for v in torch.arange(3)] == [0, 1, 2]
    assert list(range(5))[torch.tensor(2)] == 2
    assert reversed(torch.arange(3)).tolist() == [2, 1, 0]


def test_attributes_and_subclasses() -> None:
    x = torch.ones(2)
    x.note = "kept"
    assert x.note == "kept" and not hasattr(x, "other")
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'other'"):
        _ = x.other
    p = torch.nn.Parameter(x)
    assert isinstance(p, torch.Tensor) and p.requires_grad and p.data_ptr() == x.data_ptr()
    assert type(p * 2) is torch.Tensor


def test_devices() -> None:
    x = torch.ones(2, device="cpu")
    assert x.device == torch.device("cpu") and x.to(torch.device("cpu")) is x and x.cpu() is x
    assert x.to("cpu", torch.float64).dtype is torch.float64
    with pytest.raises(AssertionError, match="not compiled with CUDA"):
        torch.zeros(2, device="cuda")
    with pytest.raises(RuntimeError, match="Invalid device string"):
        torch.device("cuda:x")
    assert not torch.cuda.is_available()


def test_bfloat16_and_friends_reach_numpy_only_when_asked() -> None:
    with pytest.raises(TypeError, match="unsupported ScalarType BFloat16"):
        torch.ones(2).bfloat16().numpy()
    assert torch.ones(2, requires_grad=True).numpy(force=True).tolist() == [1.0, 1.0]


def test_ops_never_hand_out_shared_constants() -> None:
    a = torch.ones(()) * 1
    b = a.clamp(2, 2)
    b.add_(1)
    c = torch.where(torch.tensor(True), 5, torch.tensor(1))
    c.add_(1)
    assert (torch.tensor(0) + 5).item() == 5
    d = torch.zeros(()).fill_(7)
    d.add_(1)
    assert torch.zeros(()).fill_(7).item() == 7
    e = torch.full((), 7.0).clone().add_(1)
    assert (torch.zeros(()) + 7.0).item() == 7.0 and e.item() == 8


def test_signed_zeros_and_nans_are_constants_too() -> None:
    x = torch.tensor([1.0, -1.0])
    assert np.signbit((x * 0.0).numpy()).tolist() == [False, True]
    assert np.signbit((x * -0.0).numpy()).tolist() == [True, False]
    assert torch.isnan(x + float("nan")).all()
    assert (torch.ones(1, dtype=torch.int64) * True).item() == 1
    assert (torch.ones(1) * 1).dtype is torch.float32 and (torch.ones(1) / 0).item() == float("inf")


def test_import_is_light() -> None:
    program = (
        "import sys, vitrify as torch; torch.ones(2) + 1; "
        "heavy = {'llvmlite', 'networkx', 'hypothesis', 'vitrify.compile.compiled'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "import vitrify.compile.trace; assert callable(torch.compile), torch.compile"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
