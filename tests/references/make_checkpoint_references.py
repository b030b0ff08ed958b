"""Writes checkpoints/*.pt and *.safetensors: what checkpoint_cases.py describes, by PyTorch 2.13.0.

make_checkpoint_references.py           writes the files
make_checkpoint_references.py check D   reads with PyTorch the files that vitrify wrote to the folder D
                                        (`python tests/test_serialization_files.py D` writes them)
"""

from __future__ import annotations

import io
import pathlib
import pickle
import sys
import zipfile

import safetensors.torch
import torch
from checkpoint_cases import CASES, Point, make_net, same

FOLDER = pathlib.Path(__file__).parent / "checkpoints"


def on_cuda(data: bytes) -> bytes:
    """The file as it would be, had its tensors been on two GPUs: only the storages' locations say so."""
    source, made = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                # BINUNICODE, the length, the text. The first storage's location is memoized for all.
                content = content.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:1")
            target.writestr(entry, content)
    return made.getvalue()


def big_endian(data: bytes) -> bytes:
    """The file with the mark of the other byte order."""
    source, made = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, b"big" if entry.filename.endswith("byteorder") else source.read(entry))
    return made.getvalue()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, make in CASES.items():
        torch.save(make(torch), FOLDER / f"{name}.pt")
    for name in ("views", "containers", "checkpoint"):
        torch.save(CASES[name](torch), FOLDER / f"{name}_legacy.pt", _use_new_zipfile_serialization=False)
    small = {"a": torch.arange(4.0), "b": torch.arange(3)}
    data = io.BytesIO()
    torch.save(small, data)
    (FOLDER / "cuda.pt").write_bytes(on_cuda(data.getvalue()))
    (FOLDER / "big_endian.pt").write_bytes(big_endian(data.getvalue()))
    torch.save(small, FOLDER / "protocol_4.pt", pickle_protocol=4)
    torch.serialization.set_crc32_options(False)
    torch.save(small, FOLDER / "no_checksums.pt")
    torch.serialization.set_crc32_options(True)
    torch.manual_seed(0)
    torch.save(make_net(torch).eval(), FOLDER / "module.pt")
    torch.save(Point(torch.ones(2), 1), FOLDER / "namedtuple.pt")
    numbers = torch.tensor([1 + 2j, 3 - 1j])
    torch.save({"conj": numbers.conj(), "neg": numbers.clone().conj().imag}, FOLDER / "conj.pt")
    plain = {k: v for k, v in CASES["dtypes"](torch).items() if k != "complex128"}  # the format has none
    safetensors.torch.save_file(plain, FOLDER / "dtypes.safetensors", {"made by": "safetensors"})


def check(folder: pathlib.Path) -> None:
    for name, make in CASES.items():
        for suffix in ("", "_legacy"):
            if name == "dtypes" and suffix:
                continue
            found = torch.load(folder / f"{name}{suffix}.pt")
            if name == "checkpoint":
                net = make_net(torch)
                net.load_state_dict(found["state_dict"])
                torch.optim.Adam(net[0].parameters()).load_state_dict(found["optimizers"][0])
                sgd = torch.optim.SGD(net[3].parameters(), lr=1)
                sgd.load_state_dict(found["optimizers"][1])
                torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 9).load_state_dict(found["schedules"][1])
            else:
                same(make(torch), found, name)
            if name == "views":
                assert len({t.untyped_storage().data_ptr() for t in found.values() if t.numel()}) == 4
    net = torch.load(folder / "module.pt", weights_only=False).eval()
    expected = pickle.loads((folder / "module.pkl").read_bytes())
    torch.testing.assert_close(net(torch.ones(2, 3)).tolist(), expected)
    print("PyTorch", torch.__version__, "reads what vitrify wrote")


if __name__ == "__main__":
    check(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["check"] else main()
