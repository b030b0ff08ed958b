"""The sample table on a CUDA device: inputs, modules and what a sample makes lie there; results come back."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from samples import table
from samples.table import Sample

# Drawn on a device these are other numbers.
RANDOM = re.compile(
    r"[Dd]ropout|rrelu|RReLU|rand|bernoulli|gumbel|multinomial|normal_|uniform_|init\.|fractional|poisson|binomial"
    r"|\.sample|exponential_|cauchy_|geometric_|Lazy(Linear|Conv)"
)
RANDOM_FAMILIES = frozenset({"random", "distributions", "training"})
# What is about memory of the CPU, or a type that is there only.
CPU_ONLY = re.compile(
    r"numpy|np\.|storage|data_ptr|dlpack|frombuffer|pin_memory|torch\.asarray|\.type\(|Generator|\brepr\(|\bstr\("
    r"|is_cuda|is_cpu|get_device|typename"
)


def on_device_too(sample: Sample) -> bool:
    """Whether the sample means the same on a device."""
    if sample.family in RANDOM_FAMILIES or RANDOM.search(sample.text) or CPU_ONLY.search(sample.text):
        return False
    # A module made on the way has random parameters.
    return sample.kind == "module" or not re.search(r"\bnn\.[A-Z]", sample.text)


@contextmanager
def on_device(torch: Any, *encoders: Any) -> Iterator[None]:
    """Inside, `table.run` runs samples on the device. `encoders`: modules besides `table` that know `encode` by name."""
    leaves, cotangent, encode = table.leaves, table._cotangent, table.encode

    def there(tensor: Any) -> Any:
        return tensor.detach().cuda().requires_grad_(tensor.requires_grad)

    def leaves_there(*args: Any) -> dict[str, Any]:
        return {name: there(tensor) for name, tensor in leaves(*args).items()}

    def cotangent_there(torch: Any, tensor: Any, *rest: Any) -> Any:
        return cotangent(torch, tensor, *rest).to(tensor.device)

    def encoded(value: Any, arrays: list[Any]) -> Any:
        return encode(value.detach().cpu() if isinstance(value, torch.Tensor) else value, arrays)

    def module_there(text: str, names: dict[str, Any]) -> Any:
        """A module, with the parameters that it has on the CPU."""
        with torch.device("cpu"):
            return eval(text, names).cuda()

    patches: list[tuple[Any, str, Any]] = [
        (table, "leaves", leaves_there),
        (table, "_cotangent", cotangent_there),
        (table, "eval", module_there),
        *((module, "encode", encoded) for module in (table, *encoders)),
        (torch.backends.cudnn, "allow_tf32", False),
    ]
    opened = [patch.object(where, name, new, create=True) for where, name, new in patches]
    for each in opened:
        each.start()
    try:
        with warnings.catch_warnings(), torch.device("cuda"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each in reversed(opened):
            each.stop()
