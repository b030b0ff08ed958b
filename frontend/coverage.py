"""docs/coverage.md: which of PyTorch's public names are here.

vitrify coverage > docs/coverage.md
"""

from __future__ import annotations

import re
import textwrap

from .torch_names import has, torch_names

# Absent on purpose: what the names have in common, and why.
ON_PURPOSE = (
    (r"cudnn_|miopen_|mkldnn_|fbgemm_|is_vulkan|mps$|mtia$|xpu$|ipu|xla|spectral$|to_mkldnn|is_mkldnn|is_vulkan|is_xpu"
     r"|is_ipu|is_hpu|is_maia|is_mps|is_mtia|is_xla|hpu$|xpu$|has_mkl|has_openmp|has_lapack|privateuse1|vulkan",
     "vendor libraries and devices that are not a target"),
    (r"quant|qint|quint|qscheme|q_scale|q_zero|q_per_|QInt|QUInt|per_tensor_|per_channel_|int_repr|^bits|choose_qparams"
     r"|fused_moving_avg|^qat$|intrinsic|^u?int[1-7]$|float8_|float4_",
     "quantized and sub-byte types"),
    (r"sparse|hspmm|hsmm|dsmm|spmm|sspaddmm|saddmm|^smm|crow_|ccol_|col_indices|row_indices|coalesce|to_dense|indices$"
     r"|^values|_values|nested|jagged|^layout$", "sparse and nested layouts"),
    (r"Storage|storage|PyTorchFile|DataPipe|datapipe|runtime_validation|^argument_validation|determinism|DataChunk"
     r"|legacy|Container$|NLLLoss2d|CrossMapLRN2d|volatile", "PyTorch's own internals and what it has deprecated"),
    (r"sym_|^Sym|_copy$|JIT|parse_|import_ir|unify_|merge_type|^fork$|^wait$|DisableTorchFunction|FatalError|autocast_"
     r"|thunk|DispatchKey|has_torch_function|names?_?$|rename|align_|refine_names|is_inference$|cpp$|classes$|^ops$",
     "PyTorch's compiler, dispatcher and named tensors"),
    (r"distributed|DataParallel|^parallel$|SyncBatchNorm|DistributedSampler|futures|^package$|^monitor$|^hub$|module_load",
     "several machines, and downloads"),
)  # fmt: skip


def reason(name: str) -> str | None:
    """Why PyTorch's name is left out on purpose; None for what is only not there yet."""
    for pattern, why in ON_PURPOSE:
        if re.search(pattern, name):
            return why
    return None


def coverage_text() -> str:
    """The whole document."""
    sections = []
    table = ["| namespace | present | of | left out on purpose |", "|---|---|---|---|"]
    for where, names in torch_names().items():
        present = [n for n in names if has(where, n)]
        absent = [n for n in names if n not in set(present)]
        left_out = {n: why for n in absent if (why := reason(n))}
        table.append(f"| [{where}](#{_anchor(where)}) | {len(present)} | {len(names)} | {len(left_out)} |")
        sections.append(f"## {where}\n")
        sections.append(_paragraph("Present", present))
        sections.append(_paragraph("Absent", [n for n in absent if n not in left_out]))
        for why in dict.fromkeys(left_out.values()):
            chosen = [n for n, because in left_out.items() if because == why]
            sections.append(_paragraph(f"Left out on purpose ({why})", chosen))
    head = [
        "# What of PyTorch is here",
        "",
        "Every public name of PyTorch 2.13.0 in these namespaces, by whether vitrify has it. That a name is present",
        "says that it can be used, not that it takes every argument PyTorch's takes.",
        "Made by `vitrify coverage > docs/coverage.md` from `frontend/torch_names.txt`.",
        "",
        *table,
        "",
    ]
    return "\n".join([*head, *[s for s in sections if s]]).rstrip() + "\n"


def _anchor(title: str) -> str:
    return title.lower().replace(".", "")


def _paragraph(title: str, names: list[str]) -> str:
    if not names:
        return ""
    text = f"**{title}** ({len(names)}): " + ", ".join(f"`{n}`" for n in names)
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"
