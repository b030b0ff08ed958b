"""Memory: which tensors share it, and with whom; tensors given other memory; storages, DLPack, buffers, files."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


def counted(*shape: int) -> torch.Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.as_strided((2, 2), (4, 1), 1),
        lambda x: x.t().as_strided((3,), (1,)),
        lambda x: x[1:].as_strided((2, 2), (1, 2), 0),
        lambda x: x.unfold(1, 2, 2),
        lambda x: x.view(torch.int32),
        lambda x: x.view(torch.float64),
        lambda x: x.view(torch.uint8),
        lambda x: x.adjoint(),
        lambda x: x.detach(),
    ],
)
def test_a_view_writes_to_the_tensor_and_the_tensor_to_the_view(view):
    x = counted(3, 4)
    seen = view(x)
    seen.zero_()
    assert (x == 0).sum() >= seen.nbytes // 4
    x.fill_(1.0)
    assert bool((view(x) == seen).all())
    assert seen.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_windows_that_overlap_cannot_be_written():
    with pytest.raises(
        RuntimeError, match="more than one element of the written-to tensor refers to a single"
    ):
        x = torch.zeros(5, requires_grad=True)
        (x * 1).unfold(0, 3, 1).mul_(2).sum().backward()


def test_empty_views_may_be_written_to():
    for view in (torch.zeros(0, 7)[..., 1::2], torch.zeros(5, 0, 7)[..., 1::2], torch.zeros(1).expand(3)[:0]):
        assert view.copy_(torch.zeros(view.shape)).add_(1).shape == view.shape


def test_resize_keeps_the_memory_where_it_is_large_enough():
    x = counted(12)
    address = x.data_ptr()
    assert x.resize_(2, 3).tolist() == [[0, 1, 2], [3, 4, 5]] and x.data_ptr() == address
    assert x.resize_(3, 4).tolist()[2] == [8, 9, 10, 11] and x.data_ptr() == address
    grown = x.resize_(15)
    assert grown is x and x[:12].tolist() == list(range(12)) and x.data_ptr() != address
    tail = counted(6)[2:].resize_(2, 2)
    assert tail.tolist() == [[2, 3], [4, 5]] and tail.storage_offset() == 2


def test_set_refers_to_the_other_tensors_memory():
    source, x = counted(6), torch.zeros(2)
    x.set_(source, 1, (2, 2), (1, 2))
    assert x.tolist() == [[1, 3], [2, 4]]
    x[0, 0] = 9
    assert source[1] == 9
    assert x.is_set_to(source.as_strided((2, 2), (1, 2), 1)) and not x.is_set_to(source)
    assert x.set_().shape == (0,)


def test_strides_and_offsets_are_the_same_in_compiled_code():
    def describe(x):
        views = (
            x.t(),
            x[1:, ::2],
            x.unfold(1, 2, 1),
            x.as_strided((2, 2), (1, 3), 2),
            x.view(torch.uint8)[:, 4:],
        )
        return [(v.stride(), v.storage_offset(), v.is_contiguous()) for v in views]

    def compiled(x):
        found.append(describe(x))
        return x * 1

    found: list[object] = []
    x = counted(3, 4)
    torch.compile(compiled)(x)
    assert found[0] == describe(x)


def test_channels_last_lies_as_it_says():
    x = counted(2, 3, 4, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert last.stride() == (60, 1, 15, 3) and not last.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.contiguous(memory_format=torch.channels_last) is last
    assert last.clone().stride() == last.stride() and torch.equal(last, x)
    assert last.clone(memory_format=torch.contiguous_format).stride() == x.stride()
    assert last.dim_order() == (0, 2, 3, 1)


def test_dlpack_shares_memory_both_ways():
    array = np.arange(4.0)
    x = torch.from_dlpack(array)
    x[0] = 5
    array[1] = 7
    assert array[0] == 5 and x[1] == 7
    y = counted(3)
    seen = np.from_dlpack(y)
    y[2] = 8
    assert seen[2] == 8 and y.__dlpack_device__() == (1, 0)
    assert torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(y)).data_ptr() == y.data_ptr()
    with pytest.raises(BufferError, match="Can't export tensors that require gradient"):
        torch.to_dlpack(torch.ones(2, requires_grad=True))


def test_a_buffer_is_shared():
    buffer = bytearray(b"\x01\x00\x02\x00")
    x = torch.frombuffer(buffer, dtype=torch.int16)
    x[0] = 7
    buffer[2] = 3
    assert buffer[0] == 7 and x.tolist() == [7, 3]


def test_a_file_is_read_and_written(tmp_path):
    path = tmp_path / "numbers"
    shared = torch.from_file(str(path), shared=True, size=4, dtype=torch.int32)
    shared.copy_(torch.arange(4))
    own = torch.from_file(str(path), size=3, dtype=torch.int32)
    own[0] = 9
    assert np.fromfile(path, np.int32).tolist() == [0, 1, 2, 3] and own.tolist() == [9, 1, 2]
    with pytest.raises((RuntimeError, OSError)):
        torch.from_file(str(path), size=400, dtype=torch.int32)


def test_numpy_functions_give_tensors_and_take_them():
    x = counted(3)
    assert isinstance(np.add(np.ones(3, np.float32), x), torch.Tensor)
    assert isinstance(np.ones(3, np.float32) + x, torch.Tensor)
    assert np.greater(x, x).dtype is torch.uint8
    assert np.concatenate([x, x]).shape == (6,)


def test_a_subclass_keeps_the_history():
    class Named(torch.Tensor):
        pass

    x = torch.ones(3, requires_grad=True)
    y = (x * 2).as_subclass(Named)
    assert type(y) is Named
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_two_tensors_change_places():
    a, b = torch.zeros(2), torch.ones(3, requires_grad=True)
    torch.utils.swap_tensors(a, b)
    assert a.requires_grad and a.shape == (3,) and b.shape == (2,)


def test_python_functions_over_elements_need_no_gradient():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Can't call map_\(\) on Variable that requires grad"):
        x.map_(torch.ones(2), max)


def test_a_device_may_be_a_block_and_a_decorator():
    with torch.device("cpu"):
        assert torch.ones(1).device == torch.device("cpu")
    assert torch.device("cpu")(lambda: torch.zeros(1))().shape == (1,)
    with pytest.raises(AssertionError, match="Torch not compiled with CUDA enabled"):
        torch.set_default_device("cuda")


def test_settings_are_remembered():
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.is_deterministic_algorithms_warn_only_enabled() and torch.get_deterministic_debug_mode() == 1
    torch.set_deterministic_debug_mode("default")
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_float32_matmul_precision("high")
    assert torch.get_float32_matmul_precision() == "high"
    with pytest.warns(UserWarning, match="is not one of 'highest', 'high', or 'medium'"):
        torch.set_float32_matmul_precision("low")
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(benchmark=True):
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


def test_versions_compare_as_versions():
    version = torch.torch_version.TorchVersion("2.13.0+own")
    assert version >= (2, 1) and version > "2.9" and version < "2.13.1" and version == (2, 13)
    assert version.startswith("2.13")


def test_assert_close_reports_as_pytorch_does():
    with pytest.raises(AssertionError) as caught:
        torch.testing.assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
    assert str(caught.value) == (
        "Tensor-likes are not close!\n\nMismatched elements: 1 / 2 (50.0%)\n"
        "Greatest absolute difference: 0.5 at index (1,) (up to 1e-05 allowed)\n"
        "Greatest relative difference: 0.20000000298023224 at index (1,) (up to 1.3e-06 allowed)"
    )
    with pytest.raises(AssertionError) as caught:
        torch.testing.assert_close({"a": [1, torch.tensor(2)]}, {"a": [1, torch.tensor(3)]})
    assert str(caught.value) == (
        "Scalars are not equal!\n\nExpected 3 but got 2.\nAbsolute difference: 1\n"
        "Relative difference: 0.3333333333333333\n\nThe failure occurred for item ['a'][1]"
    )
    with pytest.raises(AssertionError, match=r"^mine$"):
        torch.testing.assert_close(1, 2, msg="mine")
    torch.testing.assert_close(float("nan"), float("nan"), equal_nan=True)
