"""Clocks in a program's entry: how long each launch takes, written down by the program itself.

With `EmitOptions.measure` the entry calls

    void lap(i64 launch, ptr last, i64 flops, i64 bytes)

after every launch. It reads the clock, adds the time since `last` to the launch's row in `TIMES` and sets `last`. A row
is four i64 words: how often the launch ran, nanoseconds, FLOPs, bytes; the last two are those of its sizes in each run,
so that they are exact where sizes are symbolic. Threads may run the program at once: the words are added to atomically.

Where the word `LOG` is not null it points to a capacity and a count, then that many rows of three words, launch, start
and end, one for every run of a launch in the order they ended; runs beyond the capacity are counted only. The clock is
CLOCK_MONOTONIC in nanoseconds, that of Python's `time.perf_counter_ns` on Linux, so rows and Python's times compare.
Reading it takes 22 ns on Zen 4 (best of 20 loops of 100,000), once for each launch; the
time of a launch includes passing its arguments.
"""

from __future__ import annotations

TIMES = "vitrify_times"
LOG = "vitrify_log"
LAP = "vitrify_lap"
ROW_WORDS = 4
LOG_ROW_WORDS = 3
LOG_HEADER_WORDS = 2
_CLOCK_MONOTONIC = 1  # on Linux, where the thread pool runs too

DECLARATIONS = {"@clock_gettime": "declare i32 @clock_gettime(i32, ptr)"}
START = [
    "%last = alloca i64, align 8",
    f"%began = call i64 @{LAP}_now()",
    "store i64 %began, ptr %last, align 8",
]


def lap(launch: int, flops: str, moved: str) -> str:
    """The call after launch number `launch`, with the texts of two i64 values."""
    return f"call void @{LAP}(i64 {launch}, ptr %last, i64 {flops}, i64 {moved})"


def measure_functions(launches: int) -> list[str]:
    """What the entry's module needs besides: the counters, the log's place, the clock, `lap`."""
    words = max(1, launches * ROW_WORDS)
    add = "atomicrmw add ptr"
    return [
        f"@{TIMES} = global [{words} x i64] zeroinitializer, align 64\n@{LOG} = global ptr null, align 8",
        f"""define internal i64 @{LAP}_now() nounwind noinline {{
entry:
%time = alloca [2 x i64], align 8
%code = call i32 @clock_gettime(i32 {_CLOCK_MONOTONIC}, ptr %time)
%seconds = load i64, ptr %time, align 8
%rest.at = getelementptr i64, ptr %time, i64 1
%rest = load i64, ptr %rest.at, align 8
%whole = mul i64 %seconds, 1000000000
%now = add i64 %whole, %rest
ret i64 %now
}}
""",
        f"""define internal void @{LAP}(i64 %launch, ptr %last, i64 %flops, i64 %bytes) nounwind noinline {{
entry:
%now = call i64 @{LAP}_now()
%began = load i64, ptr %last, align 8
store i64 %now, ptr %last, align 8
%elapsed = sub i64 %now, %began
%row = getelementptr [{ROW_WORDS} x i64], ptr @{TIMES}, i64 %launch
%ns = getelementptr i64, ptr %row, i64 1
%work = getelementptr i64, ptr %row, i64 2
%moved = getelementptr i64, ptr %row, i64 3
%a = {add} %row, i64 1 monotonic
%b = {add} %ns, i64 %elapsed monotonic
%c = {add} %work, i64 %flops monotonic
%d = {add} %moved, i64 %bytes monotonic
%log = load atomic ptr, ptr @{LOG} monotonic, align 8
%none = icmp eq ptr %log, null
br i1 %none, label %end, label %write
write:
%count = getelementptr i64, ptr %log, i64 1
%place = {add} %count, i64 1 monotonic
%capacity = load i64, ptr %log, align 8
%fits = icmp ult i64 %place, %capacity
br i1 %fits, label %keep, label %end
keep:
%rows = getelementptr i64, ptr %log, i64 {LOG_HEADER_WORDS}
%run = getelementptr [{LOG_ROW_WORDS} x i64], ptr %rows, i64 %place
%start.at = getelementptr i64, ptr %run, i64 1
%end.at = getelementptr i64, ptr %run, i64 2
store i64 %launch, ptr %run, align 8
store i64 %began, ptr %start.at, align 8
store i64 %now, ptr %end.at, align 8
br label %end
end:
ret void
}}
""",
    ]
