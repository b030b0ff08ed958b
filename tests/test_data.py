"""Loading data: worker processes, the fast path of TensorDataset, refused options. Orders are in
test_nn_references.py."""

from __future__ import annotations

import os
import random
import time

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
from vitrify.utils.data._utils.collate import collate, default_collate_fn_map


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
def test_workers_give_the_same_batches(workers):
    torch.manual_seed(2)
    plain = batches(DataLoader(Numbers(), batch_size=3, shuffle=True))
    after = torch.rand(1).item()
    torch.manual_seed(2)
    assert batches(DataLoader(Numbers(), batch_size=3, shuffle=True, num_workers=workers)) == plain
    assert torch.rand(1).item() == after


class Stream(IterableDataset):
    """0 .. 6, shared among the workers."""

    def __iter__(self):
        info = get_worker_info()
        return iter(range(7) if info is None else range(info.id, 7, info.num_workers))


def test_a_stream_is_shared_among_workers_by_its_own_code():
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=3)] == [[0, 1, 2], [3, 4, 5], [6]]
    shared = DataLoader(Stream(), batch_size=3, num_workers=2)
    assert [b.tolist() for b in shared] == [[0, 2, 4], [1, 3, 5], [6]]


class Asking(Numbers):
    def __getitem__(self, i):
        info = get_worker_info()
        assert info.dataset is self and torch.initial_seed() == info.seed
        return info.id, info.num_workers, os.getpid(), self.told

    told = -1


def _tell(number):
    get_worker_info().dataset.told = number


def test_worker_info_and_init():
    loader = DataLoader(Asking(), batch_size=5, num_workers=2, worker_init_fn=_tell)
    for number, (ids, counts, pids, told) in enumerate(loader):
        assert set(ids.tolist()) == set(told.tolist()) == {number % 2} and set(counts.tolist()) == {2}
        assert os.getpid() not in pids.tolist()
    assert get_worker_info() is None


class Drawing(Numbers):
    def __getitem__(self, i):
        return torch.rand(1), np.random.rand(), random.random()


def test_workers_draw_numbers_of_their_own():
    def drawn():
        torch.manual_seed(5)
        loader = DataLoader(Drawing(), batch_size=5, num_workers=2)
        return torch.cat([torch.stack([a.double().view(-1), b, c]) for a, b, c in loader], 1)

    first = drawn()
    assert torch.equal(first, drawn())
    assert all(len(set(row.tolist())) == 20 for row in first)


def test_persistent_workers_stay():
    loader = DataLoader(Asking(), batch_size=10, num_workers=2, persistent_workers=True)
    first, second = ({p for batch in loader for p in batch[2].tolist()} for _ in range(2))
    assert first == second
    other = DataLoader(Asking(), batch_size=10, num_workers=2)
    assert {p for batch in other for p in batch[2].tolist()}.isdisjoint(first)


def test_the_order_with_persistent_workers_is_pytorchs():
    torch.manual_seed(0)
    loader = DataLoader(range(6), batch_size=3, shuffle=True, num_workers=1, persistent_workers=True)
    passes = [[batch.tolist() for batch in loader] for _ in range(3)]
    assert passes == [[[0, 4, 3], [5, 2, 1]], [[5, 0, 3], [2, 1, 4]], [[2, 3, 1], [5, 4, 0]]]


class Failing(Numbers):
    def __getitem__(self, i):
        if i == 11:
            raise KeyError("eleven")
        return i


class Dying(Numbers):
    def __getitem__(self, i):
        os._exit(3)


def test_a_worker_that_dies_is_noticed():
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly"):
        next(iter(DataLoader(Dying(), num_workers=1)))


def test_an_error_in_a_worker_is_raised():
    with pytest.raises(
        KeyError, match=r"Caught KeyError in DataLoader worker process 1\.\nOriginal Traceback"
    ):
        list(DataLoader(Failing(), batch_size=2, num_workers=2))


class Slow(Numbers):
    def __getitem__(self, i):
        time.sleep(30)


def test_a_worker_that_does_not_answer_in_time():
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0\.2 seconds"):
        next(iter(DataLoader(Slow(), num_workers=1, timeout=0.2)))


def test_leaving_early_ends_the_workers():
    loader = iter(DataLoader(Numbers(), batch_size=1, num_workers=2))
    next(loader)
    processes = loader._workers.processes
    loader.close()
    assert not any(p.is_alive() for p in processes)


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


def test_collate_asks_a_map_of_classes():
    class Box:
        def __init__(self, side):
            self.side = side

    def of_boxes(batch, *, collate_fn_map=None):
        assert collate_fn_map is known
        return torch.tensor([box.side for box in batch])

    known = {**default_collate_fn_map, Box: of_boxes}
    found = collate([(Box(1), 2.0), (Box(3), 4.0)], collate_fn_map=known)
    assert [part.tolist() for part in found] == [[1, 3], [2.0, 4.0]]
    with pytest.raises(TypeError, match=r"found .*Box"):
        default_collate([Box(1)])
