"""The user's line: the innermost frame outside this package, and the module whose forward is running."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from ..ir.graph import Location
from ..nn.modules.paths import current_module_path

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ROOT = os.path.dirname(_PACKAGE)
_OWN = tuple(
    os.path.join(_ROOT, folder) + os.sep for folder in ("frontend", "ir", "passes", "codegen", "runtime")
)
_INSTALLED = _PACKAGE + os.sep


@lru_cache(maxsize=4096)
def is_own_file(path: str) -> bool:
    """Whether a source file belongs to vitrify itself."""
    return path.startswith(_INSTALLED) or (os.path.basename(_PACKAGE) == "frontend" and path.startswith(_OWN))


def user_location() -> Location | None:
    """Where in the user's program we are; None when no frame is the user's."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not is_own_file(path):
            return Location(path, frame.f_lineno, current_module_path())
        frame = frame.f_back  # type: ignore[assignment]
    return None


def error_location(error: BaseException) -> Location | None:
    """The user's line that an error came through: the innermost frame of its traceback that is the user's."""
    found = None
    at = error.__traceback__
    while at is not None:
        path = at.tb_frame.f_code.co_filename
        if not is_own_file(path):
            found = Location(path, at.tb_lineno)
        at = at.tb_next
    return found
