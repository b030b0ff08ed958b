"""The report as one HTML page: `report.html` with its style, its scripts and the data put in.

All facts travel as JSON in a `<script type="application/json">`, which browsers do not run; the page's own script
builds everything from it with `textContent`, so that no name or comment of the user's can become markup.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCRIPTS = ("report_stages.js", "report_drawing.js", "report.js")
_HERE = Path(__file__).parent


def page(reports: Sequence[Mapping[str, Any]]) -> str:
    """A page about one or several functions (`Report.to_json()`). ValueError when there are none."""
    if not reports:
        raise ValueError("a report needs at least one compiled function that has been called")
    parts = {
        "TITLE": html.escape(", ".join(r["function"] for r in reports)),
        "STYLE": _text("report.css"),
        "SCRIPT": "\n".join(map(_text, SCRIPTS)),
        "DATA": script_json(reports),
    }
    before, *rest = _text("report.html").split("{{")
    pieces = [before]
    for piece in rest:
        name, after = piece.split("}}", 1)
        pieces += [parts[name], after]
    return "".join(pieces)


def script_json(data: Any) -> str:
    """JSON that can stand inside a script element: no `<`, `>` or `&`, and no line separators."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
