"""Options of the test run, its sweeps, and a disk cache of its own: tests see neither what earlier runs compiled nor the
user's."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections import Counter

import pytest

_CACHE = "VITRIFY_CACHE_DIR"


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


def pytest_unconfigure(config: pytest.Config) -> None:
    if _starts_the_run():
        shutil.rmtree(os.environ[_CACHE], ignore_errors=True)


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
