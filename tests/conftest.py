"""Options of the test run, its sweeps, one thread for NumPy's matrix products, and a disk cache of its own: tests see
neither what earlier runs compiled nor the user's."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Generator

import pytest

_CACHE = "VITRIFY_CACHE_DIR"
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the stored texts of tests/golden with what comes now",
    )


def _starts_the_run() -> bool:
    return "PYTEST_XDIST_WORKER" not in os.environ


def pytest_configure(config: pytest.Config) -> None:
    if _starts_the_run():
        os.environ[_CACHE] = tempfile.mkdtemp(prefix="vitrify-tests-")
        # Before NumPy is there. Its products have small operands here, and its threads wait for each other spinning: on
        # two busy CPUs test_compile_step.py takes 25 seconds of them instead of 39.
        os.environ.setdefault(_BLAS_THREADS, "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _starts_the_run():
        shutil.rmtree(os.environ[_CACHE], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """A test that chooses a thread count (`set_num_threads`) chooses NumPy's, too."""
    yield
    if (loaded := sys.modules.get("vitrify.runtime.blas_threads")) is not None:
        loaded.set_blas_threads(int(os.environ[_BLAS_THREADS]))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`@pytest.mark.sweep(n)`: of the test's cases the first and every n-th after it run at once, others are slow."""
    places: Counter[str] = Counter()
    for item in items:
        if (sweep := item.get_closest_marker("sweep")) is not None:
            test = item.nodeid.partition("[")[0]
            if places[test] % sweep.args[0]:
                item.add_marker(pytest.mark.slow)
            places[test] += 1


def pytest_collection_finish() -> None:
    """The collector need not look at a hundred thousand tests again and again."""
    gc.collect()
    gc.freeze()
