"""DataLoader: batches of a dataset, in PyTorch's order for the same seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...creation import from_numpy
from ...generator import Generator
from ...runtime.gpu.arrays import gpu_count
from .collate import default_collate, default_convert
from .dataset import IterableDataset, TensorDataset
from .pinning import Pinned
from .sampler import BatchSampler, RandomSampler, SequentialSampler, draw_seed
from .workers import Work, WorkerInfo, Workers, WorkersPass, get_worker_info


class _Endless:
    """An index sampler for streams: it only counts."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader:
    """Iterates over a dataset in batches.

    `num_workers > 0` fetches and collates in that many processes (`workers.py`), up to `prefetch_factor` batches each
    ahead. The order of the batches does not depend on it. Of a stream (IterableDataset) each worker reads a copy:
    `get_worker_info` tells it which part is its own. `pin_memory`: batches lie in page-locked memory, where there is a
    device.
    """

    _fixed = False
    _workers: Workers | None = None

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ):
        if num_workers < 0:
            raise ValueError(
                "num_workers option should be non-negative; use num_workers=0 to disable multiprocessing."
            )
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing."
                "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
            )
        if prefetch_factor is not None and prefetch_factor < 0:
            raise ValueError("prefetch_factor option should be non-negative")
        if persistent_workers and num_workers == 0:
            raise ValueError("persistent_workers option needs num_workers > 0")
        self._stream = isinstance(dataset, IterableDataset)
        self._check_order(shuffle, sampler, batch_sampler)
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                    "drop_last"
                )
            batch_size = None
        elif batch_size is None and drop_last:
            raise ValueError(
                "batch_size=None option disables auto-batching and is mutually exclusive with drop_last"
            )
        if sampler is None:
            if self._stream:
                sampler = _Endless()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)
            else:
                sampler = SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = num_workers
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.persistent_workers = persistent_workers
        self.in_order = in_order
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.collate_fn = collate_fn
        self._fixed = True

    def _check_order(self, shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
        if self._stream:
            given = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                        f"{name}={value}"
                    )
        elif sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")

    def __setattr__(self, name: str, value: Any) -> None:
        if self._fixed and name in (
            "batch_size",
            "batch_sampler",
            "sampler",
            "drop_last",
            "dataset",
            "persistent_workers",
        ):
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        if self._stream:
            count = len(self.dataset)
            if self.batch_size is None:
                return count
            return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        pins = self.pin_memory and gpu_count() > 0
        if self.pin_memory and not pins:
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory "
                "won't be used.",
                stacklevel=2,
            )
        kind = _MultiProcessingDataLoaderIter if self.num_workers else _SingleProcessDataLoaderIter
        found = kind(self)
        return Pinned(found) if pins else found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_workers"}

    # What programs that make PyTorch's iterators themselves read of a loader.

    @property
    def _dataset_kind(self) -> int:
        return _DatasetKind.Iterable if self._stream else _DatasetKind.Map

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Iterable[Any]:
        found: Any = self.batch_sampler if self.batch_sampler is not None else self.sampler
        return found


class _DatasetKind:
    Map, Iterable = 0, 1


@dataclass(frozen=True)
class Fetching:
    """How a loader makes batches of indices. Called for one pass over the dataset, it gives the function that does."""

    dataset: Any
    stream: bool
    batched: bool
    collate: Callable[[Any], Any]
    drop_last: bool

    @classmethod
    def of(cls, loader: Any) -> Fetching:
        """That of a loader, or of what a program puts in the place of one."""
        stream = loader._dataset_kind == _DatasetKind.Iterable
        return cls(loader.dataset, stream, loader._auto_collation, loader.collate_fn, loader.drop_last)

    def __call__(self) -> Callable[[Any], Any]:
        return self._of_stream() if self.stream else self._of_map()

    def _of_map(self) -> Callable[[Any], Any]:
        dataset, collate = self.dataset, self.collate
        if not self.batched:
            return lambda index: collate(dataset[index])
        if type(dataset) is TensorDataset and collate is default_collate:
            return _TensorRows(dataset)
        if callable(getattr(dataset, "__getitems__", None)):
            return lambda batch: collate(dataset.__getitems__(batch))
        return lambda batch: collate([dataset[i] for i in batch])

    def _of_stream(self) -> Callable[[Any], Any]:
        samples = iter(self.dataset)

        def fetch(batch: Any) -> Any:
            if not self.batched:
                return self.collate(next(samples))
            taken = []
            for _ in batch:
                try:
                    taken.append(next(samples))
                except StopIteration:
                    break
            if not taken or (self.drop_last and len(taken) < len(batch)):
                raise StopIteration
            return self.collate(taken)

        return fetch


class _BaseDataLoaderIter:
    """The iterators of loaders."""


class _SingleProcessDataLoaderIter(_BaseDataLoaderIter):
    """The iterator of a loader without workers."""

    def __init__(self, loader: Any):
        draw_seed(
            loader.generator
        )  # as for workers, so that their number does not change what is drawn later
        self._indices = iter(loader._index_sampler)
        self._fetch = Fetching.of(loader)()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._fetch(next(self._indices))


class _MultiProcessingDataLoaderIter(WorkersPass, _BaseDataLoaderIter):
    """The iterator of a loader with workers, which are those that it has kept, if any."""

    def __init__(self, loader: Any):
        indices, workers = iter(loader._index_sampler), getattr(loader, "_workers", None)
        if workers is None:
            # Drawn once for workers that stay and on every pass for others, before the sampler draws: as PyTorch does.
            base_seed = draw_seed(loader.generator)
            fetching = Fetching.of(loader)
            work = Work(loader.dataset, fetching, loader.worker_init_fn, base_seed, loader.num_workers)
            workers = Workers(work, loader.multiprocessing_context)
            if loader.persistent_workers:
                loader._workers = workers
        ahead, stay = loader.prefetch_factor or 2, loader.persistent_workers
        super().__init__(workers, indices, ahead, loader.timeout, stay, loader.in_order)


class _TensorRows:
    """Batches of a TensorDataset by one indexing per tensor: what default_collate of the rows gives."""

    def __init__(self, dataset: TensorDataset):
        self._dataset = dataset

    def __call__(self, batch: list[int]) -> list[Any]:
        tensors = self._dataset.tensors
        if any(t.requires_grad for t in tensors):
            return default_collate([self._dataset[i] for i in batch])
        where = np.array(batch, np.intp)
        return [from_numpy(t.numpy().take(where, 0)) for t in tensors]


__all__ = ["DataLoader", "WorkerInfo", "get_worker_info"]
