"""`torch.hub`: checkpoints, downloaded once, and local repositories. No code is downloaded.

The folders are PyTorch's, so files that PyTorch downloaded are found. https://docs.pytorch.org/docs/stable/hub.html
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import urllib.request
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

from .serialization import load as _load_file

try:
    from tqdm import tqdm
except ImportError:
    from .no_progress import NoProgress as tqdm

# The part of a file's name that PyTorch's downloads check: resnet18-bfd8deac.pth.
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")
_BLOCK = 1 << 17

_directory: list[str] = []


def _get_torch_home() -> str:
    """`$TORCH_HOME`, by default `torch` under `$XDG_CACHE_HOME` or `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return str(Path(os.environ.get("TORCH_HOME", Path(cache) / "torch")).expanduser())


def get_dir() -> str:
    """The hub's folder: `hub` in PyTorch's folder of caches."""
    return _directory[0] if _directory else str(Path(_get_torch_home()) / "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Use another folder."""
    _directory[:] = [str(Path(d).expanduser())]


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> Any:
    """What `torch.load` gives for the URL's file. It is looked for in `model_dir`, by default checkpoints/ in the hub's
    folder, and downloaded to there if it is not there yet; with `check_hash` it must have the SHA-256 whose beginning
    its name ends with."""
    folder = Path(model_dir) if model_dir is not None else Path(get_dir()) / "checkpoints"
    file = folder / (file_name or Path(urlparse(url).path).name)
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f'Downloading: "{url}" to {file}\n')
        found = HASH_REGEX.search(file.name) if check_hash else None
        download_url_to_file(url, str(file), found.group(1) if found else None, progress)
    return _load_file(str(file), map_location=map_location, weights_only=weights_only)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Write what is at the URL to the file `dst`, whole or not at all. RuntimeError where it cannot be had, or where its
    SHA-256 does not begin with `hash_prefix`."""
    target = Path(dst).expanduser()
    digest = hashlib.sha256()
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file, _opened(url, target) as source:
            size = source.headers.get("Content-Length")
            bar = tqdm(
                total=int(size) if size else None,
                disable=not progress,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
            )
            with bar:
                while block := source.read(_BLOCK):
                    file.write(block)
                    digest.update(block)
                    bar.update(len(block))
        found = digest.hexdigest()
        if hash_prefix is not None and not found.startswith(hash_prefix):
            raise RuntimeError(f'invalid hash value of {url} (expected "{hash_prefix}", got "{found}")')
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _opened(url: str, target: Path) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "vitrify"})
    try:
        return urllib.request.urlopen(request)
    except OSError as error:
        raise RuntimeError(
            f"cannot download {url}: {error}. Get it yourself and put it at {target}"
        ) from error


def list(github: str, force_reload: bool = False, skip_validation: bool = False, **ignored: Any) -> Any:
    """The names of the entry points of a local repository's hubconf.py."""
    module = _hubconf(github)
    return [n for n, f in vars(module).items() if callable(f) and not n.startswith("_")]


def help(github: str, model: str, *ignored: Any, **also: Any) -> str | None:
    """An entry point's docstring."""
    found: str | None = _entry(_hubconf(github), model).__doc__
    return found


def load(repo_or_dir: str, model: str, *args: Any, source: str = "github", **kwargs: Any) -> Any:
    """`model(*args, **kwargs)` of the hubconf.py in the folder `repo_or_dir`, with `source="local"`."""
    if source not in ("github", "local"):
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    for ignored in ("trust_repo", "force_reload", "verbose", "skip_validation"):
        kwargs.pop(ignored, None)
    if source == "github":
        raise RuntimeError(
            f"vitrify downloads no code: get github.com/{repo_or_dir} yourself, read it, and call "
            'hub.load(folder, model, source="local")'
        )
    return _entry(_hubconf(repo_or_dir), model)(*args, **kwargs)


def _hubconf(folder: str) -> ModuleType:
    file = Path(folder) / "hubconf.py"
    if not file.is_file():
        raise ValueError(f"torch.hub reads local repositories only, and there is no {file}")
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("hubconf", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def _entry(module: ModuleType, name: str) -> Any:
    found = getattr(module, name, None)
    if not callable(found):
        raise RuntimeError(f"Cannot find callable {name} in hubconf")
    return found


__all__ = [
    "HASH_REGEX", "download_url_to_file", "get_dir", "help", "list", "load", "load_state_dict_from_url", "set_dir",
    "tqdm",
]  # fmt: skip
