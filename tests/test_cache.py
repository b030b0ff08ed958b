"""The disk cache of compiled programs: damage, foreign files, full disks, many writers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vitrify.runtime import disk_cache, settings

FACTS = {"arena_bytes": [[[], 64]], "messages": {"1": "index out of range"}}
OBJECTS = [b"first object", b"second" * 1000]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(disk_cache, "_warned", set())
    return tmp_path / "cache"


def test_what_is_stored_is_loaded(folder: Path) -> None:
    assert disk_cache.load("key") is None
    disk_cache.store("key", FACTS, OBJECTS)
    assert disk_cache.load("key") == (FACTS, OBJECTS)
    assert disk_cache.load("other") is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign", "longer"])
def test_a_damaged_entry_is_said_removed_and_missed(folder: Path, damage: str) -> None:
    disk_cache.store("key", FACTS, OBJECTS)
    path = folder / "key.vtr"
    data = bytearray(path.read_bytes())
    match damage:
        case "truncated":
            del data[-7:]
        case "empty":
            data.clear()
        case "flipped":
            data[len(data) // 2] ^= 1
        case "foreign":
            data[:] = b"#!/bin/sh\n"
        case "longer":
            data += b"x"
    path.write_bytes(bytes(data))
    with pytest.warns(RuntimeWarning, match="damaged cache entry .*compiling again"):
        assert disk_cache.load("key") is None
    assert not path.exists()
    disk_cache.store("key", FACTS, OBJECTS)
    assert disk_cache.load("key") == (FACTS, OBJECTS)


def test_every_single_flipped_bit_is_noticed() -> None:
    data = disk_cache.encode(FACTS, [b"code"])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(disk_cache.DamagedEntry):
            disk_cache.decode(bytes(damaged))


def test_where_nothing_can_be_written_work_goes_on_and_it_is_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_cache.tempfile, "mkstemp", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        disk_cache.store("key", FACTS, OBJECTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        disk_cache.store("key", FACTS, OBJECTS)
        assert disk_cache.load("key") is None


def test_a_file_in_place_of_the_folder_is_no_error(folder: Path) -> None:
    folder.write_text("in the way")
    with pytest.warns(RuntimeWarning, match="cannot be"):
        disk_cache.store("key", FACTS, OBJECTS)
        assert disk_cache.load("key") is None


def test_a_failed_write_leaves_no_file_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()

    def refuse(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk_cache.os, "replace", refuse)
    with pytest.warns(RuntimeWarning, match="Input/output error"):
        disk_cache.store("key", FACTS, OBJECTS)
    assert os.listdir(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_entry_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_cache.store("key", FACTS, OBJECTS)
    os.chown(folder / "key.vtr", 12345, 12345)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert disk_cache.load("key") is None


def test_entries_used_longest_ago_are_evicted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_MB", "0.05")
    for number in range(3):
        disk_cache.store(f"key{number}", FACTS, [bytes(20000)])
        os.utime(folder / f"key{number}.vtr", (number, number))
        if number == 1:
            disk_cache.load("key0")  # used again, so that key1 is the oldest
    disk_cache.store("key3", FACTS, [bytes(100)])
    assert sorted(p.stem for p in folder.iterdir()) == ["key0", "key2", "key3"]


def test_a_folder_with_room_is_not_looked_through_for_every_entry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(disk_cache.os, "scandir", lambda path: looked.append(path) or scandir(path))
    for number in range(20):
        disk_cache.store(f"key{number}", FACTS, [bytes(1000)])
    assert looked == [folder]
    assert len(list(folder.iterdir())) == 20


def test_an_empty_folder_name_turns_the_cache_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", "")
    assert settings.cache_folder() is None
    disk_cache.store("key", FACTS, OBJECTS)
    assert disk_cache.load("key") is None


def test_the_size_bound_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_MB", "much")
    with pytest.raises(ValueError, match="VITRIFY_CACHE_MB must be a number, got 'much'"):
        settings.cache_bytes()


def test_writers_at_the_same_time_leave_whole_entries(folder: Path) -> None:
    script = (
        "from vitrify.runtime import disk_cache\n"
        "for n in range(40):\n"
        "    disk_cache.store('key', {'n': n}, [bytes([n]) * 50000])\n"
        "    found = disk_cache.load('key')\n"
        "    assert found is not None and found[1][0] == bytes([found[0]['n']]) * 50000\n"
    )
    writers = [subprocess.Popen([sys.executable, "-W", "error", "-c", script]) for _ in range(3)]
    assert [w.wait(timeout=120) for w in writers] == [0, 0, 0]
    assert [p.name for p in folder.iterdir()] == ["key.vtr"]
