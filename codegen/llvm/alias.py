"""Which buffers do not overlap, as LLVM's scoped no-alias metadata."""

from __future__ import annotations

# Alias scopes are metadata that every kernel of a module shares: scope i is node 1 + i, the list that holds it
# alone is 100 + i, and the list of all scopes but i, of n, is 1000 + 100 n + i.
MAX_ALIAS_CLASSES = 64


def alias_scope_id(number: int) -> int:
    return 100 + number


def noalias_id(number: int, classes: int) -> int:
    return 1000 + 100 * classes + number


def alias_metadata(class_counts: set[int]) -> list[str]:
    """The metadata of kernels with these numbers of alias classes."""
    most = max(class_counts, default=0)
    if most < 2:
        return []
    lines = ['!0 = distinct !{!0, !"kernel"}']
    for i in range(most):
        lines.append(f"!{1 + i} = distinct !{{!{1 + i}, !0}}")
        lines.append(f"!{alias_scope_id(i)} = !{{!{1 + i}}}")
    for n in sorted(class_counts):
        if n < 2:
            continue
        for i in range(n):
            others = ", ".join(f"!{1 + j}" for j in range(n) if j != i)
            lines.append(f"!{noalias_id(i, n)} = !{{{others}}}")
    return lines
