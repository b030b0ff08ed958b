"""docs/coverage.md: which of PyTorch's public names are here.

vitrify coverage > docs/coverage.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .torch_names import has, torch_names

# Absent on purpose: what the names have in common, and why.
ON_PURPOSE = (
    (
        r"cudnn_|miopen_|mkldnn|fbgemm_|vulkan|xla|_ipu|^ipu$|_hpu|^hpu$|_maia|_mtia|^mtia$|_mps|^mps$|_xpu|^xpu$|has_mkl"
        r"|has_openmp|has_lapack|has_spectral|privateuse1",
        "vendor libraries and devices that are not a target",
    ),
    (
        r"quanti[sz]|_quant$|quint|qint|qscheme|q_scale|q_zero|q_per_|QInt|QUInt|per_tensor_|per_channel_|int_repr|^bits"
        r"|choose_qparams|^qat$|^intrinsic$|^u?int[1-7]$|float8_|float4_|^scaled_(grouped_)?mm$",
        "quantized and sub-byte types",
    ),
    (
        r"sparse|^SparseAdam$|hspmm|hsmm|dsmm|spmm|sspaddmm|saddmm|^smm|crow_|ccol_|col_indices|row_indices|coalesce|to_dense"
        r"|^indices|^values|nested|jagged",
        "sparse and nested layouts",
    ),
    (
        r"Storage|^storage|storage_type|PyTorchFile|DataPipe|datapipe|runtime_validation|argument_validation|determinism$"
        r"|DataChunk|legacy|^Container$|^NLLLoss2d$|^CrossMapLRN2d$|volatile|cmake|backcompat|collect_env|cpp_backtrace",
        "PyTorch's own internals, and what it has deprecated",
    ),
    (
        r"sym_|^Sym|_copy$|JIT|parse_|import_ir|unify_|merge_type|^fork$|^wait$|DisableTorchFunction|FatalError"
        r"|autocast_(in|de)crement|autocast_cache|has_torch_function|^names?$|^rename|^align_|^refine_names|^cpp$"
        r"|^classes$|^ops$",
        "PyTorch's compiler, dispatcher and named tensors",
    ),
    (
        r"torch\.Tensor\.(eig|lstsq|reinforce|solve|symeig)$",
        "what PyTorch itself has removed: the methods are there to say so",
    ),
    (
        r"^batch_norm_(backward|elemt|gather|stats|update)|^native_norm$|^bit$|^AVG$|^SUM$|^get_file_path$|^classproperty$"
        r"|^prepare_multiprocessing|^profiler_allow|^thread_safe_generator$|^backend_registration$|^[Tt]hroughput_?[Bb]ench"
        r"|^weak$|flash_attention_impl|^copy_method_params$",
        "parts of PyTorch's implementation that show",
    ),
    (r"^dense_dim$|^to_padded_tensor$", "sparse and nested layouts"),
    (
        r"^set_override_stale_capture_stream$|^set_warn_on_accumulate_grad_stream_mismatch$",
        "streams of a device are those of torch.cuda",
    ),
    (r"torch\.(Event|Stream)$", "streams of a device are those of torch.cuda"),
    (r"torch\.(ao|masked|library|export)$", "front ends to PyTorch's own kernels, graphs and prototypes"),
    (
        r"torch\.autograd\.profiler_util$|region_activation_memory_budget$",
        "PyTorch's own profiler and partitioner",
    ),
    (r"^NestedIOFunction$", "PyTorch's own internals, and what it has deprecated"),
    (
        r"^SAC_IGNORED_OPS$|^CheckpointPolicy$|^SelectiveCheckpointContext$|^create_selective_checkpoint_contexts$"
        r"|^GraphExecGroup$",
        "policies over PyTorch's own op overloads (`torch.ops.aten`)",
    ),
    (r"torch\.Tensor\.index$", "functorch's first-class dims"),
    (
        r"torch\.utils\.data\.(graph|graph_settings|non_deterministic)$",
        "PyTorch's own internals, and what it has deprecated",
    ),
    (
        r"distributed|Distributed|DataParallel|^parallel$|SyncBatchNorm|^package$|^monitor$",
        "several machines",
    ),
)


def reason(name: str) -> str | None:
    """Why PyTorch's name (`torch.nn.Linear`) is left out on purpose; None for what is only not there yet.

    A pattern with a dot is searched for in the whole name, others in its last part.
    """
    last = name.rpartition(".")[2]
    for pattern, why in ON_PURPOSE:
        if re.search(pattern, name if r"\." in pattern else last):
            return why
    return None


def sample_states() -> dict[str, str]:
    """Public name -> letters of what its samples show: `e` eager, `c` compiled, `g` gradient. Names without samples are
    not there."""
    lines = (Path(__file__).parent / "sample_states.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


def cuda_states() -> frozenset[str]:
    """The public names whose samples give PyTorch's values on a CUDA device (`tests/gpu/cuda_states.py`)."""
    lines = (Path(__file__).parent / "cuda_states.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


@dataclass(frozen=True)
class Row:
    """One public name. `state` is the letters of its samples, or None where it is here without one."""

    name: str
    present: bool
    state: str | None
    reason: str | None
    cuda: bool = False

    def cells(self) -> tuple[str, ...]:
        if not self.present:
            return (f"`{self.name}`", "no", "", "", "", self.reason or "not yet")
        if self.state is None:
            return (f"`{self.name}`", "here", "", "", "", "")
        yes = ["yes" if letter in self.state else "" for letter in "ecg"]
        return (f"`{self.name}`", *yes, "simulator" if self.cuda else "", "")


def rows(where: str) -> list[Row]:
    """Every public name of a namespace."""
    states, cuda = sample_states(), cuda_states()
    found = []
    for name in torch_names()[where]:
        present = has(where, name)
        full = f"{where}.{name}"
        why = None if present else reason(full)
        found.append(Row(name, present, states.get(full), why, present and full in cuda))
    return found


def coverage_text() -> str:
    """The whole document."""
    sections = []
    columns = (
        "namespace",
        "names",
        "here",
        "eager",
        "compiled",
        "gradient",
        "CUDA",
        "left out on purpose",
        "not yet",
    )
    summary = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for where in torch_names():
        found = rows(where)
        here = [r for r in found if r.present]
        counts = [len(found), len(here)]
        counts += [sum(letter in (r.state or "") for r in here) for letter in "ecg"]
        counts.append(sum(r.cuda for r in here))
        left_out = sum(r.reason is not None for r in found)
        counts += [left_out, len(found) - len(here) - left_out]
        summary.append(f"| [{where}](#{_anchor(where)}) | " + " | ".join(map(str, counts)) + " |")
        sections.append(
            f"## {where}\n\n| name | eager | compiled | gradient | CUDA | |\n|---|---|---|---|---|---|"
        )
        sections[-1] += "".join("\n| " + " | ".join(r.cells()) + " |" for r in found) + "\n"
    return "\n".join([HEAD, *summary, "", *sections]).rstrip() + "\n"


HEAD = """# What of PyTorch is here

Every public name of PyTorch 2.13.0 in these namespaces.

- *eager*: `yes` where samples of the name (`tests/samples/`) give PyTorch's stored values; `here` where the name exists
  and ordinary tests, or none, speak for it; `no` where it does not exist.
- *compiled*: samples of it also run inside `torch.compile`, with the same values and gradients.
- *gradient*: a gradient flows through it to an input in a sample, and is PyTorch's.
- *CUDA*: `simulator` where the samples give the same values and gradients on the PTX simulator, eagerly
  (`tests/gpu/cuda_states.py`). No GPU has run them yet.

That a name is here does not say that it takes every argument PyTorch's takes; what is not taken raises an error.
Made by `vitrify coverage > docs/coverage.md` from `frontend/torch_names.txt` and `frontend/sample_states.txt`.
"""


def _anchor(title: str) -> str:
    return title.lower().replace(".", "")
