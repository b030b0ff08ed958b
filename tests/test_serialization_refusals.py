"""What torch.load refuses: code, damage, and claims that the bytes of the file do not pay for."""

from __future__ import annotations

import io
import os
import pathlib
import pickle
import random
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitrify as torch
from vitrify.serialization import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals

FILES = pathlib.Path(__file__).parent / "references" / "checkpoints"
NAMES = sorted(path.name for path in FILES.glob("*.pt"))
# What a damaged file may give instead of an object.
CLEAR = (pickle.UnpicklingError, RuntimeError, ValueError, EOFError)


def archive(pickled: bytes, storages: dict[str, bytes] | None = None, **options) -> io.BytesIO:
    """A file as torch.save lays it out, around any pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as target:
        target.writestr("x/data.pkl", pickled)
        for key, data in (storages or {}).items():
            target.writestr(f"x/data/{key}", data)
    file.seek(0)
    return file


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: list[int]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(size, stride, offset=0, count=6, kind="FloatStorage", key="0", location="cpu") -> bytes:
    """The pickle of one tensor, whatever it claims."""
    storage = (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text(location) + number(count)
    )
    arguments = storage + b"tQ" + number(offset) + numbers(size) + numbers(stride) + b"\x89}"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR."


def load_tensor(*args, data: bytes = bytes(24), **kwargs):
    return torch.load(archive(tensor(*args, **kwargs), {"0": data}))


# Code


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch pwned",), f"{os.system.__module__}.system"),
        (eval, ("1",), "builtins.eval"),
        (getattr, (1, "real"), "builtins.getattr"),
        (__import__, ("os",), "builtins.__import__"),
        (open, ("x", "w"), f"{open.__module__}.open"),
        (random.seed, (1,), "random"),
    ],
)
def test_files_that_ask_for_code_are_refused(tmp_path, monkeypatch, function, arguments, named, legacy):
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    if function is random.seed:
        function = pathlib.Path  # a class of nobody's
        named = "pathlib"
    torch.save({"a": [Runs(function, *arguments)]}, file, _use_new_zipfile_serialization=not legacy)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="which weights_only=True does not allow") as error:
        torch.load(file)
    assert f"the file asks for `{named}" in str(error.value) and "(byte " in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_error_says_what_pytorchs_says():
    with pytest.raises(pickle.UnpicklingError) as error:
        torch.load(archive(b"\x80\x02cdecimal\nDecimal\n" + text("1") + b"\x85R."))
    message = str(error.value)
    assert message.startswith(
        "Weights only load failed. This file can still be loaded, to do so you have two options"
    )
    assert "Unsupported global: GLOBAL decimal.Decimal was not an allowed global by default" in message
    assert "torch.serialization.add_safe_globals([decimal.Decimal])" in message
    assert "(byte 2 of x/data.pkl in the file)" in message


def test_what_the_user_allows_never_includes_the_system():
    pickled = b"\x80\x02cposix\nsystem\n" + text("true") + b"\x85R."
    with (
        safe_globals([(os.system, "posix.system")]),
        pytest.raises(pickle.UnpicklingError, match="whose module posix is blocked"),
    ):
        torch.load(archive(pickled))


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"ctorch\nfloat32\n)R.", "Trying to call reduce for unrecognized function"),
        (b"X\1\0\0\0a)R.", "Trying to call reduce for unrecognized function"),
        (b"ctorch.nn.parameter\nParameter\n)R.", "Trying to call reduce for unrecognized function"),
        (b"ctorch\nfloat32\n)\x81.", "Can only create new object for"),
        (b"]}b.", "Can only build Tensor, Parameter, OrderedDict"),
        (b"ctorch\nTensor\n}b.", "Can only build Tensor, Parameter, OrderedDict"),
        (b"}K\1a.", "Can only extend lists"),
        (b"]K\1K\2s.", "Can only SETITEMS for dict"),
        (b"ccollections\nOrderedDict\n)R]b.", "attributes of an OrderedDict"),
        (b"i__main__\nx\n.", r"Unsupported operand 105 \(INST\)"),
        (b"\xff.", "Unsupported operand 255"),
        (b"X\1\0\0\0aQ.", "persistent_load id must be tuple"),
        (b"X\6\0\0\0module\x85Q.", "Only persistent_load of storage is allowed"),
        (b"h\5.", "Memo value not found at index 5"),
        (b"t.", "could not find MARK"),
        (b"0.", r"Unsupported operand 48 \(POP\)"),
        (b"R.", "unexpected end of the pickle's stack"),
        (b".", "unexpected end of the pickle's stack"),
        (b"X\xff\xff\xff\x7fa.", "pickle data was truncated"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.", "pickle data was truncated"),
        (b"ctorch", "pickle data was truncated"),
        (b"\x80\x63.", "unsupported pickle protocol"),
        (b"}]K\1s.", "unhashable type"),
        (b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "made from something other than bytes"),
        (b"ctorch\nSize\n]X\1\0\0\0aa\x85R.", "other than integers"),
    ],
)
def test_pickles_that_are_no_plain_data(pickled, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        torch.load(archive(pickled))


def test_a_bomb_of_references_is_no_key():
    nested = b"K\1\x85q\0" + b"h\0\x86q\0" * 60  # 2**60 numbers, if one were to walk them
    with pytest.raises(pickle.UnpicklingError, match="a key in the file is nested too deeply"):
        torch.load(archive(b"}" + nested + b"K\1s."))
    deep = b")" + b"\x85" * 100_000
    with pytest.raises(pickle.UnpicklingError, match="a key in the file is nested too deeply"):
        torch.load(archive(b"\x8f(" + deep + b"\x90."))


def test_the_attributes_of_a_tensor_are_not_the_files_to_choose():
    rebuilt = tensor([6], [1])[2:-1]
    function, arguments = rebuilt[: rebuilt.index(b"(")], rebuilt[rebuilt.index(b"(") : -1]
    for name in ("_array", "data", "__class__", "backward"):
        state = b"}" + text(name) + b"K\1s"
        pickled = (
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n("
            + function
            + b"ctorch\nTensor\n"
            + arguments
            + state
        )
        with pytest.raises(RuntimeError, match="which a file may not set"):
            torch.load(archive(pickled + b"tR.", {"0": bytes(24)}))


# Allowed by the user


class Settings:
    def __init__(self, rate):
        self.rate = rate


def test_safe_globals():
    file = io.BytesIO()
    torch.save(Settings(3), file)

    def load():
        file.seek(0)
        return torch.load(file)

    with pytest.raises(pickle.UnpicklingError):
        load()
    with safe_globals([Settings]):
        assert load().rate == 3
        assert get_safe_globals() == [Settings]
    with pytest.raises(pickle.UnpicklingError):
        load()
    try:
        add_safe_globals([(Settings, f"{__name__}.Settings")])
        assert load().rate == 3
    finally:
        clear_safe_globals()
    assert get_safe_globals() == []
    with pytest.raises(ValueError, match="Expected tuple of length 2"):
        add_safe_globals([(Settings, "a", 1)])


def test_modules_load_where_their_classes_are_allowed(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Identity())
    torch.save(net, tmp_path / "net.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"asks for `torch\.nn\.modules\.container\.Sequential`"):
        torch.load(tmp_path / "net.pt")
    with safe_globals([torch.nn.Sequential, torch.nn.Linear, torch.nn.Identity]):
        loaded = torch.load(tmp_path / "net.pt")
    assert torch.equal(loaded(torch.ones(1, 2)), net(torch.ones(1, 2)))


# Tensors that reach beyond their storage


def test_a_tensor_inside_its_storage_loads():
    assert load_tensor([2, 3], [3, 1]).shape == (2, 3)
    assert load_tensor([2, 2], [1, 2], 1).shape == (2, 2)
    assert load_tensor([3, 4], [1, 1]).shape == (3, 4)  # windows that overlap
    assert load_tensor([1 << 40], [0]).shape == (1 << 40,)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            ([7], [1]),
            r"setStorage: sizes \[7\], strides \[1\], storage offset 0, and itemsize 4 requiring a storage",
        ),
        (([6], [1], 1), "out of bounds for storage of size 24"),
        (([2, 3], [4, 1]), "out of bounds for storage of size 24"),
        (([2], [1 << 62]), "out of bounds for storage of size 24"),
        (([2], [1], 1 << 62), "out of bounds for storage of size 24"),
        (([2], [-1], 1), r"Negative strides are not supported at the moment, got strides: \[-1\]"),
        (([2], [1], -1), "invalid storage offset -1"),
        (([-2], [1]), "negative dimension"),
        (([2, 2], [1]), "mismatch in length of strides and shape"),
        (([1] * 100, [1] * 100), "100 dims"),
        (([1 << 40, 1 << 40], [0, 0]), "Storage size calculation overflowed"),
        (([6], [1], 0, -1), "a storage of -1 elements"),
        (([6], [1], 0, 7), "x/data/0 holds 24 bytes, and 28 are asked for"),
        (([6], [1], 0, 1 << 61), "x/data/0 holds 24 bytes"),
        (([6], [1], 0, 6, "FloatStorage", "1"), "failed locating file data/1: file not found"),
        (([6], [1], 0, 6, "FloatStorage", "../x"), "file not found"),
    ],
)
def test_tensors_outside_their_storage(claim, message):
    with pytest.raises(RuntimeError, match=message):
        load_tensor(*claim)


def test_what_is_no_number_is_no_size():
    good = tensor([2], [1])
    for bad in (b"K\1", text("a") + b"\x85", b"\x88\x85", b"G\x40\0\0\0\0\0\0\0\x85"):
        with pytest.raises(RuntimeError, match="whose size is no tuple of integers"):
            torch.load(archive(good.replace(numbers([2]), bad, 1), {"0": bytes(24)}))


def test_integers_take_no_gradient():
    pickled = tensor([6], [1], kind="IntStorage").replace(b"\x89}", b"\x88}")
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        torch.load(archive(pickled, {"0": bytes(24)}))


# Files that are none


@pytest.mark.parametrize("name", ["views.pt", "views_legacy.pt"])
def test_truncated_files(name):
    whole = (FILES / name).read_bytes()
    for count in [*range(0, len(whole), 97), len(whole) - 1]:
        with pytest.raises(CLEAR) as error:
            torch.load(io.BytesIO(whole[:count]))
        assert str(error.value)


def test_other_kinds_of_files(tmp_path):
    with pytest.raises(EOFError, match="is empty"):
        torch.load(io.BytesIO())
    with pytest.raises(RuntimeError, match="Invalid magic number; corrupt file"):
        torch.load(io.BytesIO(pickle.dumps({"a": 1}, 2)))
    with pytest.raises(pickle.UnpicklingError, match=r"is no file that torch\.save wrote"):
        torch.load(io.BytesIO(b"hello, this is no checkpoint"))
    with pytest.raises(RuntimeError, match=r"in the \.tar format of PyTorch 0\.1"):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as target:
            target.addfile(tarfile.TarInfo("storages"))
        tar.seek(0)
        torch.load(tar)
    with pytest.raises(RuntimeError, match=r"a zip file, but not one that torch\.save wrote"):
        file = io.BytesIO()
        zipfile.ZipFile(file, "w").close()
        other = io.BytesIO()
        with zipfile.ZipFile(other, "w") as target:
            target.writestr("a.txt", "a")
        other.seek(0)
        torch.load(other)
    with pytest.raises(RuntimeError, match="is a TorchScript archive"):
        scripted = archive(b"N.")
        with zipfile.ZipFile(scripted, "a") as target:
            target.writestr("x/constants.pkl", b"N.")
        scripted.seek(0)
        torch.load(scripted)


def test_the_other_byte_order_is_refused():
    with pytest.raises(RuntimeError, match="saved on a big-endian machine; such files are not supported"):
        torch.load(FILES / "big_endian.pt")
    legacy = (FILES / "views_legacy.pt").read_bytes()
    at = legacy.index(b"little_endian") + len("little_endian") + 2
    with pytest.raises(RuntimeError, match="the other byte order"):
        torch.load(io.BytesIO(legacy[:at] + legacy[at:].replace(b"\x88", b"\x89", 1)))


def test_compressed_records_are_refused():
    bomb = archive(tensor([6], [1]), {"0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(RuntimeError, match=r"is compressed, which torch\.save never does"):
        torch.load(bomb)


def test_records_that_overlap_are_refused():
    """Many records over the same bytes would take more memory than the file."""
    pickled = (
        b"\x80\x02(" + b"".join(tensor([1], [1], count=1 << 18, key=str(i))[2:-1] for i in range(4)) + b"t."
    )
    data = archive(pickled, {str(i): bytes(1 << 20 if i == 0 else 4) for i in range(4)}).getvalue()
    directory = bytearray(data)
    end = data.rindex(b"PK\5\6")
    place = struct.unpack_from("<I", data, end + 16)[0]
    first = None
    while place < end:
        lengths = struct.unpack_from("<3H", data, place + 28)
        if data[place + 46 : place + 46 + lengths[0]].startswith(b"x/data/"):
            if first is None:
                first = data[place + 16 : place + 28], data[place + 42 : place + 46]
            directory[place + 16 : place + 28], directory[place + 42 : place + 46] = first
        place += 46 + sum(lengths)
    with pytest.raises(RuntimeError, match="longer than the file"):
        torch.load(io.BytesIO(bytes(directory)))


def test_a_wrong_checksum_is_noticed():
    data = bytearray((FILES / "views.pt").read_bytes())
    at = data.index(struct.pack("<3f", 1, 2, 3))
    data[at] ^= 1
    with pytest.raises(RuntimeError, match="the checksum of views/data/0 is wrong"):
        torch.load(io.BytesIO(bytes(data)))


def test_a_legacy_file_cannot_promise_more_than_it_holds():
    data = (FILES / "views_legacy.pt").read_bytes()
    small = b"K\x18N"  # 24 elements, no view
    assert small in data
    with pytest.raises(RuntimeError, match="its storages say they hold 4398046511104 bytes"):
        torch.load(io.BytesIO(data.replace(small, number(1 << 40) + b"N")))
    with pytest.raises(RuntimeError, match=r"storage has wrong byte size: expected 92 got 96|out of bounds"):
        torch.load(io.BytesIO(data.replace(small, b"K\x17N")))


# Random damage


def walk(value):
    """Touch everything, as far as a file may have made it."""
    pending, seen = [value], set()
    while pending and len(seen) < 2000:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if value.numel() < 1 << 16:
                assert value.detach().tolist() is not None
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)


def load_or_refuse(data: bytes) -> None:
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu")
    except CLEAR as error:
        assert str(error)
    else:
        walk(found)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_changed_at_random(name):
    whole = (FILES / name).read_bytes()
    draw = random.Random(name)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 8))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        load_or_refuse(bytes(data))


@pytest.mark.parametrize("name", ["views", "containers", "checkpoint", "module"])
def test_bytes_of_the_pickle_changed_at_random(name):
    """Inside an archive that is sound otherwise, so that the checksums do not hide the pickle's reader."""
    source = zipfile.ZipFile(FILES / f"{name}.pt")
    storages = {n.rpartition("/")[2]: source.read(n) for n in source.namelist() if "/data/" in n}
    whole = source.read(f"{name}/data.pkl")
    draw = random.Random(name)
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 2, 8))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        load_or_refuse(archive(bytes(data), storages).getvalue())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data):
    load_or_refuse(data)
    load_or_refuse(archive(data).getvalue())
    load_or_refuse(b"PK\3\4" + data)
