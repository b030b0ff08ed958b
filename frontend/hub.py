"""`torch.hub` without downloads: checkpoints that are in its folder already, and local repositories.

The folders are PyTorch's, so files that PyTorch downloaded are found. https://docs.pytorch.org/docs/stable/hub.html
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from urllib.parse import urlparse

from .serialization import load as _load_file

# The part of a file's name that PyTorch's downloads check: resnet18-bfd8deac.pth.
HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")

_directory: list[str] = []


def get_dir() -> str:
    """The hub's folder: `$TORCH_HOME/hub`, by default under `$XDG_CACHE_HOME/torch` or `~/.cache/torch`."""
    if _directory:
        return _directory[0]
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return str(Path(os.environ.get("TORCH_HOME", Path(cache) / "torch")).expanduser() / "hub")


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
    """What `torch.load` gives for the URL's file, which must be there: in `model_dir`, by default checkpoints/ in
    the hub's folder. RuntimeError says where to put it."""
    folder = Path(model_dir) if model_dir is not None else Path(get_dir()) / "checkpoints"
    file = folder / (file_name or Path(urlparse(url).path).name)
    if not file.exists():
        _refuse(url, file)
    return _load_file(str(file), map_location=map_location, weights_only=weights_only)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Refused: RuntimeError."""
    _refuse(url, Path(dst))


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
        _refuse(f"github.com/{repo_or_dir}", Path("a folder"), 'call hub.load(folder, model, source="local")')
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


def _refuse(source: str, target: Path, then: str = "") -> NoReturn:
    raise RuntimeError(
        f"vitrify downloads nothing: get {source} yourself and put it at {target}"
        + (f", then {then}" if then else "")
    )


__all__ = [
    "HASH_REGEX", "download_url_to_file", "get_dir", "help", "list", "load", "load_state_dict_from_url", "set_dir",
]  # fmt: skip
