"""`torch.utils.flop_counter`: PyTorch counts the floating-point operations of the ops that run."""

from __future__ import annotations

from typing import Any, NoReturn


class FlopCounterMode:
    """NotImplementedError where it is entered: what an op costs depends on what it is compiled with. `torch.profiler`
    and the reports of `torch.compile` (docs/inspection.md) tell operations and times."""

    def __init__(self, mods: Any = None, depth: int = 2, display: bool = True, custom_mapping: Any = None):
        self.depth, self.display = depth, display

    def __enter__(self) -> NoReturn:
        raise NotImplementedError(
            "torch.utils.flop_counter.FlopCounterMode is not in vitrify; docs/inspection.md says what is measured"
        )

    def __exit__(self, *exc: object) -> None:
        pass

    def get_total_flops(self) -> int:
        """0: nothing was counted."""
        return 0

    def get_flop_counts(self) -> dict[str, dict[Any, int]]:
        """Empty: nothing was counted."""
        return {}


__all__ = ["FlopCounterMode"]
