"""Records summed up, and printed as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..runtime.peaks import Peaks
from .records import Record, Recording

GROUPS = ("op", "module", "line", "kernel")
# What a table may be sorted by: PyTorch's names, of which those of devices are the CPU's here.
SORT_KEYS = (
    "count", "cpu_memory_usage", "cpu_time", "cpu_time_total", "self_cpu_memory_usage", "self_cpu_time_total",
)  # fmt: skip


@dataclass
class FunctionEventAvg:
    """All records of one name. Times are microseconds: `cpu_time_total` with, `self_cpu_time_total` without what ran
    inside; `cpu_memory_usage`: bytes allocated."""

    key: str
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    cpu_memory_usage: int = 0
    flops: int = 0
    bytes: int = 0
    input_shapes: Any = ""
    dtype: str = ""

    @property
    def cpu_time(self) -> float:
        """Microseconds of one, on average."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def self_cpu_memory_usage(self) -> int:
        """Bytes, without those of the ops that it calls."""
        return self.cpu_memory_usage

    def add(self, record: Record) -> None:
        """Take another event into the sums."""
        self.count += 1
        self.cpu_time_total += record.nanoseconds / 1e3
        self.self_cpu_time_total += max(0, record.nanoseconds - record.children) / 1e3
        self.cpu_memory_usage += record.bytes


class EventList(list[FunctionEventAvg]):
    """Averages, in the order of first appearance."""

    def __init__(self, found: Iterable[FunctionEventAvg] = (), shapes: bool = False):
        super().__init__(found)
        self._shapes = shapes

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds of all."""
        return sum(e.self_cpu_time_total for e in self)

    def total_average(self) -> FunctionEventAvg:
        """One average of all."""
        total = FunctionEventAvg("Total")
        for each in self:
            total.count += each.count
            total.cpu_time_total += each.cpu_time_total
            total.self_cpu_time_total += each.self_cpu_time_total
            total.cpu_memory_usage += each.cpu_memory_usage
            total.flops += each.flops
        return total

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
        time_unit: str | None = None,
    ) -> str:
        """The averages as text; `row_limit` -1 prints all. ValueError for an unknown `sort_by`."""
        rows = list(self)
        if sort_by is not None:
            key = sort_by.replace("cuda", "cpu").replace("device", "cpu")
            if key not in SORT_KEYS:
                raise ValueError(f"cannot sort a profile by {sort_by!r}; there are {', '.join(SORT_KEYS)}")
            rows.sort(key=lambda e: getattr(e, key), reverse=True)
        total = self.self_cpu_time_total or 1.0
        heading = [
            "Name",
            "Self CPU %",
            "Self CPU",
            "CPU total %",
            "CPU total",
            "CPU time avg",
            "CPU Mem",
            "# of Calls",
        ]
        cells = [
            [
                shortened(e.key, max_name_column_width),
                f"{100 * e.self_cpu_time_total / total:.2f}%",
                time_text(e.self_cpu_time_total, time_unit),
                f"{100 * e.cpu_time_total / total:.2f}%",
                time_text(e.cpu_time_total, time_unit),
                time_text(e.cpu_time, time_unit),
                bytes_text(e.cpu_memory_usage),
                str(e.count),
            ]
            for e in rows[: None if row_limit < 0 else row_limit]
        ]
        if self._shapes:
            heading.append("Input Shapes")
            for row, e in zip(cells, rows):
                row.append(shortened(str([list(s) for s in e.input_shapes]), max_shapes_column_width))
        text = table_text(heading, cells)
        end = f"Self CPU time total: {time_text(self.self_cpu_time_total, time_unit)}\n"
        return (f"{header}\n" if header else "") + text + end

    def __str__(self) -> str:
        return self.table()


def averages(recording: Recording, by: str = "op", shapes: bool = False) -> EventList:
    """Records summed by what they are ("op"), the module or line they ran for, or kernels alone ("kernel"); ValueError
    for another `by`. Kernels count with the exact totals of their programs, also where single runs were not kept."""
    if by not in GROUPS:
        raise ValueError(f"a profile is grouped by one of {', '.join(GROUPS)}, not {by!r}")
    found: dict[Any, FunctionEventAvg] = {}
    for record in () if by == "kernel" else recording.records:
        if by != "op" and record.kind in ("range", "call"):
            continue  # what ran inside has lines and modules of its own
        name = _key(by, record)
        shown = record.shapes if shapes else ()
        found.setdefault((record.kind, name, shown), FunctionEventAvg(name, input_shapes=shown)).add(record)
    for line in recording.launches:
        place = line.location
        record = Record("kernel", f"{line.graph}/{line.name}", 0, 0, 0)
        if place is not None:
            record.file, record.line, record.module = place.file, place.line, place.module
        name = _key(by, record)
        # A line's kernels and eager ops make one row; two kernels of one name are two rows only with other sources.
        kind = "op" if by in ("line", "module") else "kernel"
        each = found.setdefault((kind, name, ()), FunctionEventAvg(name))
        each.count += line.calls
        each.cpu_time_total += line.seconds * 1e6
        each.self_cpu_time_total += line.seconds * 1e6
        each.flops += line.flops
        each.bytes += line.bytes
        each.dtype = line.peak_dtype
    if by == "op":
        for graph, size in recording.allocated.items():
            name = f"compiled {graph}"
            found.setdefault(("call", name, ()), FunctionEventAvg(name)).cpu_memory_usage += size
    return EventList(found.values(), shapes)


def _key(by: str, record: Record) -> str:
    if by == "line":
        return f"{record.file}:{record.line}" if record.file else "(no line)"
    if by == "module":
        return record.module or "(no module)"
    return record.name


def kernel_table(recording: Recording, machine: Peaks, row_limit: int = 100) -> str:
    """The kernels, slowest first, held against the roofline."""
    lines = sorted(recording.launches, key=lambda t: -t.seconds)
    heading = ["kernel", "line", "calls", "time", "avg", "GFLOP", "GFLOP/s", "GB/s", "FLOP/B", "roofline"]
    cells = []
    for t in lines[: None if row_limit < 0 else row_limit]:
        percent = machine.percent(t.peak_dtype, t.flops, t.bytes, t.seconds)
        place = f"{t.location.file.rpartition('/')[2]}:{t.location.line}" if t.location else ""
        cells.append(
            [
                shortened(f"{t.graph}/{t.name}", 40), place, str(t.calls), time_text(t.seconds * 1e6),
                time_text(t.seconds * 1e6 / t.calls), f"{t.flops / 1e9:.3f}", f"{t.gflops:.2f}",
                f"{t.gigabytes:.2f}", f"{t.intensity:.2f}", "" if percent is None else f"{percent:.1f}%",
            ]
        )  # fmt: skip
    end = f"roofline: {machine.rates}, {machine.memory:.1f} GB/s memory, measured with {machine.threads} threads\n"
    return table_text(heading, cells) + end


def table_text(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell; the first is flush left."""
    widths = [max(map(len, column)) for column in zip(heading, *rows)]
    rule = "  ".join("-" * w for w in widths)
    lines = [rule, *(_row(cells, widths) for cells in (heading, *rows)), rule]
    lines.insert(2, rule)
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths))
    )
    return "  ".join([first, *rest])


def shortened(text: str, width: int) -> str:
    """At most `width` characters; less than 1: all."""
    return text if width < 1 or len(text) <= width else text[: max(0, width - 3)] + "..."


def time_text(microseconds: float, unit: str | None = None) -> str:
    """A time with its unit, chosen by its size where none is given."""
    units = {"s": 1e6, "ms": 1e3, "us": 1.0}
    if unit is None:
        unit = "s" if microseconds >= 1e6 else "ms" if microseconds >= 1e3 else "us"
    if unit not in units:
        raise ValueError(f"the time unit is one of {', '.join(units)}, not {unit!r}")
    return f"{microseconds / units[unit]:.3f}{unit}"


def bytes_text(size: int) -> str:
    """A number of bytes with its unit."""
    for power, unit in ((30, "GB"), (20, "MB"), (10, "KB")):
        if abs(size) >= 1 << power:
            return f"{size / (1 << power):.2f} {unit}"
    return f"{size} B"
