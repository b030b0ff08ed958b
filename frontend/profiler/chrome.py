"""A recording in the Trace Event Format, which chrome://tracing and https://ui.perfetto.dev read.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import os
from typing import Any

from .records import Record, Recording

CATEGORIES = {"op": "cpu_op", "range": "user_annotation", "call": "compiled", "kernel": "kernel"}


def chrome_trace(recording: Recording, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """The trace as data for `json.dump`: an event ("X") for each record, times in microseconds since the start."""
    process = os.getpid()
    threads = sorted({r.thread for r in (*recording.records, *recording.runs)})
    numbers = {thread: number for number, thread in enumerate(threads)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": {"name": "vitrify"}}
    ]
    for record in sorted((*recording.records, *recording.runs), key=lambda r: (r.begin, -r.end)):
        events.append(
            {
                "ph": "X",
                "cat": CATEGORIES[record.kind],
                "name": record.name,
                "pid": process,
                "tid": numbers[record.thread],
                "ts": (record.begin - recording.begin) / 1e3,
                "dur": record.nanoseconds / 1e3,
                "args": _arguments(record),
            }
        )
    return {"schemaVersion": 1, "displayTimeUnit": "ms", "traceEvents": events, **(metadata or {})}


def _arguments(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if record.file:
        found["line"] = f"{record.file}:{record.line}"
    if record.module:
        found["module"] = record.module
    if record.bytes:
        found["bytes"] = record.bytes
    if record.shapes:
        found["Input Dims"] = [list(s) for s in record.shapes]
    return found
