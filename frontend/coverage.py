"""docs/coverage.md: which of PyTorch's public names are here.

vitrify coverage > docs/coverage.md
"""

from __future__ import annotations

import re
import textwrap

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
        r"|choose_qparams|^qat$|^intrinsic$|^u?int[1-7]$|float8_|float4_",
        "quantized and sub-byte types",
    ),
    (
        r"sparse|hspmm|hsmm|dsmm|spmm|sspaddmm|saddmm|^smm|crow_|ccol_|col_indices|row_indices|coalesce|to_dense"
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
        r"distributed|Distributed|DataParallel|^parallel$|SyncBatchNorm|^futures$|^package$|^monitor$|^hub$",
        "several machines, and downloads",
    ),
)


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
