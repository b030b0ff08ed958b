"""`torch.jit.annotations`: the names of types that programs written for TorchScript import from here."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union  # noqa: UP035  (the names themselves are wanted)


class BroadcastingList1:
    """`BroadcastingList2[int]`: two numbers, or one for both."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item | list[item]


BroadcastingList2 = BroadcastingList3 = BroadcastingList4 = BroadcastingList1
BroadcastingList5 = BroadcastingList6 = BroadcastingList1

__all__ = [
    "Any", "BroadcastingList1", "BroadcastingList2", "BroadcastingList3", "BroadcastingList4", "BroadcastingList5",
    "BroadcastingList6", "Dict", "List", "Optional", "Tuple", "Union",
]  # fmt: skip
