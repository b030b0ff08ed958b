"""Options of the test run, and a disk cache of its own: tests see neither what earlier runs compiled nor the user's."""

from __future__ import annotations

import os
import shutil
import tempfile

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
