"""Where the pool's workers may run, as LLVM IR: part of the thread pool's module.

A scheduler that likes to wake a thread where its waker runs puts a worker behind its caller, and some leave both on one
CPU for seconds while another idles. So workers may not run where their caller does: their affinity is the caller's,
without the CPU that it is on, set anew when it publishes a job from another CPU. Nothing is pinned besides. A caller
that has waited for some time lends its own CPU to the workers whose clocks of CPU time stand still: another process
has theirs, and they hold the last chunks.
"""

from __future__ import annotations

from typing import NamedTuple


class Syscalls(NamedTuple):
    """Numbers of Linux's system calls."""

    futex: int
    gettid: int
    sched_setaffinity: int
    sched_getaffinity: int


SYSCALLS = {"x86_64": Syscalls(202, 186, 203, 204), "aarch64": Syscalls(98, 178, 122, 123)}
MAX_WORKERS = 255
_MASK_WORDS = 16  # of 64 CPUs each
_GLANCE_SPINS = 1000  # between two looks at a worker's clock
_THREAD_CPU_CLOCK = (
    6  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED, beside a thread's id in a clock's id (time(2))
)


def affinity_functions(syscalls: Syscalls, pause: str) -> str:
    """LLVM text of `@make_way` and `@lend`, and of `@ids` and `@avoided`, which workers and who hires them set. It reads
    `@workers`, their number. `pause`: the instruction that a spinning thread executes."""
    return f"""; The thread id of each worker, 0 until it runs; the CPU that all keep off, -1 until they were told.
@ids = internal global [{MAX_WORKERS} x i32] zeroinitializer, align 4
@avoided = internal global i32 -1, align 4

declare i32 @sched_getcpu()
declare i32 @clock_gettime(i32, ptr)

; Keep the workers off the CPU that the caller is on, unless it is the only one. The caller holds @busy.
define internal void @make_way() nounwind {{
entry:
  %mask = alloca [{_MASK_WORDS} x i64], align 8
  %cpu = call i32 @sched_getcpu()
  %known = load i32, ptr @avoided, align 4
  %stays = icmp eq i32 %cpu, %known
  br i1 %stays, label %end, label %look
look:
  store i32 %cpu, ptr @avoided, align 4
  store [{_MASK_WORDS} x i64] zeroinitializer, ptr %mask, align 8
  %size = call i64 (i64, ...) @syscall(i64 {syscalls.sched_getaffinity}, i64 0, i64 {8 * _MASK_WORDS}, ptr %mask)
  %told = icmp sgt i64 %size, 0
  %small = icmp ult i32 %cpu, {64 * _MASK_WORDS}
  %usable = and i1 %told, %small
  br i1 %usable, label %clear, label %end
clear:
  %cpu64 = zext i32 %cpu to i64
  %word = lshr i64 %cpu64, 6
  %bit = and i64 %cpu64, 63
  %one = shl i64 1, %bit
  %others = xor i64 %one, -1
  %place = getelementptr i64, ptr %mask, i64 %word
  %old = load i64, ptr %place, align 8
  %new = and i64 %old, %others
  store i64 %new, ptr %place, align 8
  %count = load i64, ptr @workers, align 8
  br label %next
next:
  %i = phi i64 [ 0, %clear ], [ %i1, %told.worker ], [ %i1, %late ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %each, label %end
each:
  %i1 = add i64 %i, 1
  %id.at = getelementptr i32, ptr @ids, i64 %i
  %id = load atomic i32, ptr %id.at seq_cst, align 4
  %runs = icmp ne i32 %id, 0
  br i1 %runs, label %told.worker, label %late
told.worker:
  ; Refused where no CPU is left, and then the worker stays where it may run now.
  %id64 = zext i32 %id to i64
  %r = call i64 (i64, ...) @syscall(i64 {syscalls.sched_setaffinity}, i64 %id64, i64 %size, ptr %mask)
  br label %next
late:
  store i32 -1, ptr @avoided, align 4
  br label %next
end:
  ret void
}}

; Move the workers that are not running now, by their clocks of CPU time, to the caller's CPU. The caller holds @busy.
define internal void @lend() nounwind {{
entry:
  %mask = alloca [{_MASK_WORDS} x i64], align 8
  %time = alloca [2 x i64], align 8
  %before = alloca [{MAX_WORKERS} x i64], align 8
  %cpu = call i32 @sched_getcpu()
  %count = load i64, ptr @workers, align 8
  %small = icmp ult i32 %cpu, {64 * _MASK_WORDS}
  br i1 %small, label %mark, label %end
mark:
  store [{_MASK_WORDS} x i64] zeroinitializer, ptr %mask, align 8
  %cpu64 = zext i32 %cpu to i64
  %word = lshr i64 %cpu64, 6
  %bit = and i64 %cpu64, 63
  %one = shl i64 1, %bit
  %place = getelementptr i64, ptr %mask, i64 %word
  store i64 %one, ptr %place, align 8
  br label %first
first:
  %i = phi i64 [ 0, %mark ], [ %i1, %first.each ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %first.each, label %pause
first.each:
  %i1 = add i64 %i, 1
  %start = call i64 @cpu_time(i64 %i, ptr %time)
  %start.at = getelementptr i64, ptr %before, i64 %i
  store i64 %start, ptr %start.at, align 8
  br label %first
pause:
  %spins = phi i32 [ 0, %first ], [ %spins1, %pause ]
  {pause}
  %spins1 = add i32 %spins, 1
  %patient = icmp ult i32 %spins1, {_GLANCE_SPINS}
  br i1 %patient, label %pause, label %second
second:
  %j = phi i64 [ 0, %pause ], [ %j1, %second.each ], [ %j1, %move ]
  %more.j = icmp ult i64 %j, %count
  br i1 %more.j, label %second.each, label %end
second.each:
  %j1 = add i64 %j, 1
  %now = call i64 @cpu_time(i64 %j, ptr %time)
  %then.at = getelementptr i64, ptr %before, i64 %j
  %then = load i64, ptr %then.at, align 8
  %stood = icmp eq i64 %now, %then
  br i1 %stood, label %move, label %second
move:
  %id.at = getelementptr i32, ptr @ids, i64 %j
  %id = load atomic i32, ptr %id.at seq_cst, align 4
  %id64 = zext i32 %id to i64
  store i32 -1, ptr @avoided, align 4
  %r = call i64 (i64, ...) @syscall(i64 {syscalls.sched_setaffinity}, i64 %id64, i64 {8 * _MASK_WORDS}, ptr %mask)
  br label %second
end:
  ret void
}}

; Nanoseconds of CPU time of worker %i, by its thread's clock; %time is room for a timespec.
define internal i64 @cpu_time(i64 %i, ptr %time) nounwind {{
  %id.at = getelementptr i32, ptr @ids, i64 %i
  %id = load atomic i32, ptr %id.at seq_cst, align 4
  %other = xor i32 %id, -1
  %shifted = shl i32 %other, 3
  %clock = or i32 %shifted, {_THREAD_CPU_CLOCK}
  %r = call i32 @clock_gettime(i32 %clock, ptr %time)
  %s = load i64, ptr %time, align 8
  %ns.at = getelementptr i64, ptr %time, i64 1
  %ns = load i64, ptr %ns.at, align 8
  %all = mul i64 %s, 1000000000
  %sum = add i64 %all, %ns
  ret i64 %sum
}}
"""
