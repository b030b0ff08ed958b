"""The thread count: who decides it, and from what."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitrify.runtime import blas_threads, threads
from vitrify.runtime.blas_threads import set_blas_threads


@pytest.fixture(autouse=True)
def unchosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = threads.get_num_threads()
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.default_num_threads.cache_clear()
    yield
    set_blas_threads(before)


def test_the_default_is_what_this_process_may_use() -> None:
    assert 1 <= threads.get_num_threads() <= len(os.sched_getaffinity(0))


def test_omp_num_threads_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert threads.get_num_threads() == 3


def test_a_choice_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    threads.set_num_threads(5)
    assert threads.get_num_threads() == 5


def test_numpys_matrix_products_follow_a_choice() -> None:
    library = ctypes.CDLL(blas_threads.linked.__file__)
    count = getattr(library, "scipy_openblas_get_num_threads64_", None)
    if count is None:
        pytest.skip("another BLAS library than NumPy's wheels have")
    for chosen in (1, 2):
        threads.set_num_threads(chosen)
        assert count() == chosen


def test_a_choice_must_be_a_positive_integer() -> None:
    with pytest.raises(RuntimeError, match="positive integer"):
        threads.set_num_threads(0)
    with pytest.raises(TypeError, match="got float"):
        threads.set_num_threads(1.5)  # type: ignore[arg-type]


def cgroup(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


def test_a_quota_of_cgroup_2_counts(tmp_path: Path) -> None:
    membership = tmp_path / "self"
    membership.write_text("0::/user/job\n")
    cgroup(tmp_path / "fs", cpu__max="max 100000")
    cgroup(tmp_path / "fs" / "user", cpu__max="150000 100000")
    cgroup(tmp_path / "fs" / "user" / "job", cpu__max="400000 100000")
    assert threads.cgroup_cpus(tmp_path / "fs", membership) == 1.5


def test_a_quota_of_cgroup_1_counts(tmp_path: Path) -> None:
    membership = tmp_path / "self"
    membership.write_text("4:cpu,cpuacct:/job\n3:memory:/other\n")
    cgroup(tmp_path / "fs" / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    cgroup(tmp_path / "fs" / "cpu,cpuacct" / "job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert threads.cgroup_cpus(tmp_path / "fs", membership) == 3.0


def test_no_cgroup_is_no_quota(tmp_path: Path) -> None:
    assert threads.cgroup_cpus(tmp_path / "none", tmp_path / "nothing") is None
