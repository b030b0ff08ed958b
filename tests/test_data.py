"""Loading data: threads, the fast path of TensorDataset, refused options. Orders are in
test_nn_references.py."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import vitrify as torch
from vitrify.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    default_collate,
    get_worker_info,
)


class Numbers(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, i):
        return torch.tensor([i, i * i]), i


class Wrapped(Dataset):
    """A TensorDataset the loader does not know as one."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        return self.inner[i]


def batches(loader):
    return [[part.tolist() for part in batch] for batch in loader]


@pytest.mark.parametrize(
    "options", [{"batch_size": 4}, {"batch_size": 6, "shuffle": True, "drop_last": True}]
)
def test_rows_of_tensors_are_gathered_as_a_collated_batch(options):
    data = TensorDataset(torch.arange(60).reshape(20, 3).float(), torch.arange(20))
    torch.manual_seed(1)
    fast = batches(DataLoader(data, **options))
    torch.manual_seed(1)
    assert fast == batches(DataLoader(Wrapped(data), **options))
    first = next(iter(DataLoader(data, **options)))
    assert [type(first), first[0].dtype, first[1].dtype] == [list, torch.float32, torch.int64]
    first[0].fill_(0)  # a copy: the dataset does not change
    assert bool(data.tensors[0][1].any())


def test_rows_of_tensors_that_require_grad_keep_their_history():
    x = torch.ones(4, 2, requires_grad=True)
    (batch,) = next(iter(DataLoader(TensorDataset(x), batch_size=2)))
    batch.sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_give_the_same_batches(workers):
    torch.manual_seed(2)
    plain = batches(DataLoader(Numbers(), batch_size=3, shuffle=True))
    after = torch.rand(1).item()
    torch.manual_seed(2)
    assert batches(DataLoader(Numbers(), batch_size=3, shuffle=True, num_workers=workers)) == plain
    assert torch.rand(1).item() == after


def test_threads_of_a_stream():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(7))

    assert [b.tolist() for b in DataLoader(Stream(), batch_size=3, num_workers=2)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
    ]


def test_worker_info_and_init():
    seen = []

    class Asking(Numbers):
        def __getitem__(self, i):
            info = get_worker_info()
            return info.id, info.num_workers, threading.current_thread() is not threading.main_thread()

    ids, counts, apart = zip(*DataLoader(Asking(), batch_size=5, num_workers=2, worker_init_fn=seen.append))
    assert set(torch.cat(ids).tolist()) <= {0, 1} and set(torch.cat(counts).tolist()) == {2}
    assert all(bool(a.all()) for a in apart) and set(seen) <= {0, 1} and seen
    assert get_worker_info() is None


def test_an_error_in_a_thread_is_raised():
    class Failing(Numbers):
        def __getitem__(self, i):
            if i == 11:
                raise KeyError("eleven")
            return i

    with pytest.raises(KeyError, match="eleven"):
        list(DataLoader(Failing(), batch_size=2, num_workers=2))


def test_leaving_early_stops_the_threads():
    before = threading.active_count()
    loader = iter(DataLoader(Numbers(), batch_size=1, num_workers=2))
    next(loader)
    loader.close()
    assert threading.active_count() == before


def test_pin_memory_is_accepted():
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert len(list(DataLoader(Numbers(), batch_size=10, pin_memory=True))) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"timeout": -1}, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, "prefetch_factor option could only be specified"),
        ({"persistent_workers": True}, "persistent_workers option needs"),
        ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Numbers(), **options)


def test_refused_options_of_a_stream():
    with pytest.raises(ValueError, match="expected unspecified shuffle option, but got shuffle=True"):
        DataLoader(IterableDataset(), shuffle=True)
    with pytest.raises(ValueError, match="expected unspecified sampler option"):
        DataLoader(IterableDataset(), sampler=[1])


def test_random_sampler_checks_its_arguments():
    with pytest.raises(TypeError, match="replacement should be a boolean"):
        RandomSampler([1], replacement=1)
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        RandomSampler([1], num_samples=0)


def test_collate_refuses_strings_in_arrays():
    with pytest.raises(TypeError, match="found <U1"):
        default_collate([np.array("a"), np.array("b")])
