"""What happened to a compiled function so far: for `report()`, `explain()` and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recompile:
    """Why a call needed a new specialization, and whence its machine code came: "memory" (an equal graph was compiled in
    this process), "disk" or "new". `against`: why each older specialization did not fit, the newest first."""

    reason: str
    seconds: float
    from_cache: bool
    found: str = "new"
    against: tuple[str, ...] = ()


@dataclass
class History:
    """What happened so far: for `report()` and `explain()`. `lookups`: calls that the latest call's specialization could
    not serve at once; `warned`: that every call traces anew."""

    compiles: list[Recompile] = field(default_factory=list)
    retraces: int = 0
    lookups: int = 0
    warned: bool = False
