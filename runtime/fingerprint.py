"""What tells one version of the compiler from another, for keys of the disk cache."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def compiler_fingerprint() -> str:
    """Changes whenever a source file of the compiler does: name, size and time of each."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("ir", "passes", "codegen", "runtime"):
        for path in sorted((root / folder).rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
