"""The metadata that all kernels of a module share: which buffers do not overlap (LLVM's scoped no-alias metadata), and
what an access says of itself."""

from __future__ import annotations

# Alias scopes are metadata that every kernel of a module shares: scope i is node 1 + i, the list that holds it
# alone is 100 + i, and the list of all scopes but i, of n, is 1000 + 100 n + i.
MAX_ALIAS_CLASSES = 64

# What a kernel is handed over does not change while it runs; what is not read again soon need not stay in the caches.
# Nodes that alias scopes leave free.
_ONE, _EMPTY = "!98", "!99"
INVARIANT = f"!invariant.load {_EMPTY}"
NONTEMPORAL = f"!nontemporal {_ONE}"


def alias_scope_id(number: int) -> int:
    return 100 + number


def noalias_id(number: int, classes: int) -> int:
    return 1000 + 100 * classes + number


def module_metadata(class_counts: set[int]) -> list[str]:
    """The metadata of a module whose kernels have these numbers of alias classes."""
    return [*_alias_metadata(class_counts), f"{_ONE} = !{{i32 1}}", f"{_EMPTY} = !{{}}"]


def _alias_metadata(class_counts: set[int]) -> list[str]:
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
