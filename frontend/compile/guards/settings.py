"""Settings that a trace was made under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...ir.dtypes import DType
from ...promotion import get_default_dtype
from ...settings import get_deterministic_debug_mode, get_float32_matmul_precision
from ...state import local


@dataclass(frozen=True)
class Settings:
    """What a compiled function does not ask for at each call: setting one of these moves `data_changes`; the default
    device, which is only one where there are devices, is asked for where there are."""

    anomaly: bool
    matmul_precision: str
    default_dtype: DType
    deterministic: int
    device: Any

    @classmethod
    def now(cls) -> Settings:
        """Those of this thread."""
        return cls(
            local.detect_anomaly and local.check_nan,
            get_float32_matmul_precision(),
            get_default_dtype(),
            get_deterministic_debug_mode(),
            local.device,
        )

    def changed(self) -> str | None:
        """Which is another now."""
        now = Settings.now()
        if self.anomaly is not now.anomaly:
            return f"detect_anomaly was {'on' if self.anomaly else 'off'}"
        if self.matmul_precision != now.matmul_precision:
            return f"the precision of float32 matmuls was {self.matmul_precision}"
        if self.default_dtype is not now.default_dtype:
            return f"the default dtype was {self.default_dtype}"
        if self.deterministic != now.deterministic:
            return f"the debug mode of deterministic algorithms was {self.deterministic}"
        if self.device is not now.device:
            return f"the default device was {self.device or 'cpu'}"
        return None
