"""A wheel holds every package: setuptools cannot find them by itself, since folders and import names differ."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"frontend": "vitrify", **{f: f"vitrify.{f}" for f in ("ir", "passes", "codegen", "runtime")}}


def test_every_package_is_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = set()
    for folder, name in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            found.add(".".join([name, *path.parent.relative_to(ROOT / folder).parts]))
    assert sorted(listed["packages"]) == sorted(found)
