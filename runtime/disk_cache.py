"""Compiled programs on disk: a file per program, object code behind a checksummed header.

Writers write a file of their own and rename it, so that readers and other writers see whole entries only. A damaged
entry is removed with a RuntimeWarning and compiled again. Where the folder cannot be written (read-only, full) work goes
on without it, said once. Entries are native code: a folder or file that belongs to another user is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import settings

MAGIC = b"vitrify object cache 1\n"
SUFFIX = ".vtr"
_DIGEST_BYTES = 32
_LOOKS = 16  # at all entries, while as many bytes are written as the bound allows
_warned: set[str] = set()
# By folder and size bound: the bytes this process may still write before it looks at the whole folder again.
_room: dict[tuple[Path, int], int] = {}


class DamagedEntry(Exception):
    """A cache file is not what `store` wrote."""


def load(key: str) -> tuple[dict[str, Any], list[bytes]] | None:
    """The facts and object files stored under the key, or None. A damaged entry is removed, with a RuntimeWarning."""
    folder = settings.cache_folder()
    if folder is None:
        return None
    path = folder / (key + SUFFIX)
    try:
        if not _is_ours(path):
            _warn_once(f"the cache entry {path} belongs to another user and is not used")
            return None
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn_once(f"the cache folder {folder} cannot be read ({error}); compiling without it")
        return None
    try:
        found = decode(data)
    except DamagedEntry as error:
        warnings.warn(f"damaged cache entry {path} ({error}); compiling again", RuntimeWarning, stacklevel=2)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the eviction order is that of last use
    return found


def store(key: str, facts: Mapping[str, Any], objects: Sequence[bytes]) -> None:
    """Keep the objects under the key, and evict the entries used longest ago beyond the size bound.

    Looking at every entry takes longer than writing one, so it is done once for a sixteenth of the bound that this
    process writes, or less where less is left. Each other process that writes may go beyond the bound by as much.
    """
    folder = settings.cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_ours(folder):
            _warn_once(f"the cache folder {folder} belongs to another user and is not used")
            return
        data = encode(facts, objects)
        _write(folder, folder / (key + SUFFIX), data)
        limit = settings.cache_bytes()
        room = _room.get((folder, limit), 0) - len(data)
        if room < 0:
            room = min(limit - _evict(folder, limit), limit // _LOOKS)
        _room[folder, limit] = room
    except OSError as error:
        _warn_once(f"the cache folder {folder} cannot be written ({error}); compiled code is not kept")


def encode(facts: Mapping[str, Any], objects: Sequence[bytes]) -> bytes:
    """An entry's bytes: magic, SHA-256 of what follows, then the facts as JSON and the objects, each with its length."""
    parts = [json.dumps(facts).encode(), *objects]
    body = b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    return MAGIC + hashlib.sha256(body).digest() + body


def decode(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """What `encode` was given; DamagedEntry says what is wrong."""
    if not data.startswith(MAGIC):
        raise DamagedEntry("it does not begin as an entry does")
    start = len(MAGIC)
    digest, body = data[start : start + _DIGEST_BYTES], data[start + _DIGEST_BYTES :]
    if hashlib.sha256(body).digest() != digest:
        raise DamagedEntry("its checksum does not match")
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        (size,) = struct.unpack_from("<Q", body, at)
        parts.append(body[at + 8 : at + 8 + size])
        at += 8 + size
    facts = json.loads(parts[0])
    return facts, parts[1:]


def _write(folder: Path, path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _evict(folder: Path, limit: int) -> int:
    """Remove the entries used longest ago until all are within the limit; the bytes that are left."""
    entries: list[tuple[float, int, str]] = []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    entries.append((stat.st_mtime, stat.st_size, entry.path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        total -= size
    return total


def _is_ours(path: Path) -> bool:
    return path.stat().st_uid in (os.geteuid(), 0)


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
