"""Checkpoints: PyTorch's files, safetensors and GGUF, without executing anything they say.

    torch.save(model.state_dict(), "model.pt")
    model.load_state_dict(torch.load("model.pt"))
    model.load_state_dict(load_checkpoint("model.safetensors.index.json"))
    tensors, metadata = load_gguf("model.gguf")

`load` reads what PyTorch wrote, and PyTorch reads what `save` wrote.
"""

from .checkpoints import load_checkpoint
from .files import DEFAULT_PROTOCOL, MAP_LOCATION, load, save
from .gguf_files import load_gguf
from .safe_globals import add_safe_globals, clear_safe_globals, get_safe_globals, safe_globals
from .safetensors_files import load_file, load_sharded, read_metadata, save_file

__all__ = [
    "DEFAULT_PROTOCOL", "MAP_LOCATION",
    "add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "load_checkpoint", "load_file",
    "load_gguf", "load_sharded", "read_metadata", "safe_globals", "save", "save_file",
]  # fmt: skip
