"""The thread pool, as LLVM IR: one per process, shared by every loaded program.

    void vitrify_pool_run(ptr kernel, ptr args, ptr dims, i64 n, i64 grain, i64 threads, ptr status)

runs `kernel(args, dims, begin, end, status)` over chunks of `grain` iterations of 0..n, by the caller and up to
`threads - 1` workers. Chunks are claimed one at a time, so that a worker that the system does not schedule costs
nothing: the caller takes the chunks itself and waits only for those that were claimed.

A job is published in one 64-bit word, `@state`: a generation number (32 bits), how many workers may take part (10 bits),
how many chunks the caller has taken (11 bits) and how many are left (11 bits). A chunk is claimed by compare-and-swap of
the word. Once a claim succeeds the job cannot end before that chunk is reported in `@done`, so the job's description may
be read; before, it may not. A worker that comes late finds another generation and its claim fails.

The caller takes chunks from the front, workers from the back. So from launch to launch, and from step to step of a loop,
each finds in its core's cache what it has read or written before, and still the faster takes more.

Workers spin for some microseconds, then sleep on a futex. The pool is taken by one caller at a time; a second caller
(another Python thread) runs its chunks alone. A forked child finds the pool another's and begins with no workers.

Where workers may run says `thread_affinity.py`.
"""

from __future__ import annotations

from ..target import Target
from .thread_affinity import MAX_WORKERS, SYSCALLS, affinity_functions

POOL_RUN = "vitrify_pool_run"
POOL_WORKERS = "vitrify_pool_workers"

_FUTEX_WAIT_PRIVATE = 128
_FUTEX_WAKE_PRIVATE = 129
# Rounds of the waiting loops; a pause is about 40 cycles on Zen 4 and 140 on Skylake and later.
_WORKER_SPINS = 2000
_CALLER_SPINS = 20000

# Bytes of a worker's stack, whatever threads have elsewhere: kernels keep some hundred KiB on it.
_STACK = 2 << 20

_PAGE = 4096
_WIPE_ON_FORK = 18  # madvise(2): a child finds zeros

_COUNT_BITS = 11
_MAX_CHUNKS = (1 << _COUNT_BITS) - 1


def pool_module(target: Target) -> str:
    """The LLVM text of the pool for this target's architecture; NotImplementedError for one without it."""
    architecture = target.triple.split("-")[0]
    if architecture not in SYSCALLS:
        raise NotImplementedError(
            f"no thread pool for {architecture}; there is one for {', '.join(SYSCALLS)}"
        )
    syscalls = SYSCALLS[architecture]
    if architecture == "x86_64":
        pause, declare_pause = "call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"
    else:
        pause, declare_pause = "call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"
    futex = f"i64 {syscalls.futex}, ptr @signal"
    no_time = "ptr null, ptr null, i64 0"
    return f"""target triple = "{target.triple}"
; The words that threads contend for stand in cache lines of their own.
@state = internal global i64 0, align 128
@done = internal global i64 0, align 128
@signal = internal global i32 0, align 128
@sleepers = internal global i32 0, align 4
@busy = internal global i32 0, align 128
@pid = internal global i32 0, align 4
@mark = internal global ptr null, align 8
@workers = internal global i64 0, align 8
@job = internal global [6 x i64] zeroinitializer, align 128

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @getpid()
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @munmap(ptr, i64)
declare i32 @madvise(ptr, i64, i32)
declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
{declare_pause}

; Claim chunks of the job that `first` (a value of @state) belongs to and run them, until none is left.
define internal void @work(i64 %first, i1 %leads) nounwind {{
entry:
  %generation = lshr i64 %first, 32
  ; From the front: one more taken there, one less left.
  %change = select i1 %leads, i64 {(1 << _COUNT_BITS) - 1}, i64 -1
  br label %look
look:
  %s = phi i64 [ %first, %entry ], [ %seen, %retry ], [ %again, %report ]
  %left = and i64 %s, {_MAX_CHUNKS}
  %any = icmp ne i64 %left, 0
  %g = lshr i64 %s, 32
  %same = icmp eq i64 %g, %generation
  %open = and i1 %any, %same
  br i1 %open, label %claim, label %end
claim:
  %less = add i64 %s, %change
  %pair = cmpxchg ptr @state, i64 %s, i64 %less seq_cst seq_cst
  %seen = extractvalue {{ i64, i1 }} %pair, 0
  %won = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %won, label %run, label %retry
retry:
  br label %look
run:
  %kernel.i = load i64, ptr @job, align 8
  %kernel = inttoptr i64 %kernel.i to ptr
  %args = load ptr, ptr getelementptr (i64, ptr @job, i64 1), align 8
  %dims = load ptr, ptr getelementptr (i64, ptr @job, i64 2), align 8
  %n = load i64, ptr getelementptr (i64, ptr @job, i64 3), align 8
  %grain = load i64, ptr getelementptr (i64, ptr @job, i64 4), align 8
  %status = load ptr, ptr getelementptr (i64, ptr @job, i64 5), align 8
  %s.front = lshr i64 %s, {_COUNT_BITS}
  %front = and i64 %s.front, {_MAX_CHUNKS}
  %behind = add i64 %front, %left
  %last = sub i64 %behind, 1
  %number = select i1 %leads, i64 %front, i64 %last
  %begin = mul i64 %number, %grain
  %stop = add i64 %begin, %grain
  %end.i = call i64 @llvm.umin.i64(i64 %stop, i64 %n)
  call void %kernel(ptr %args, ptr %dims, i64 %begin, i64 %end.i, ptr %status)
  br label %report
report:
  %before = atomicrmw add ptr @done, i64 1 seq_cst
  %again = load atomic i64, ptr @state seq_cst, align 8
  br label %look
end:
  ret void
}}

define internal ptr @worker(ptr %argument) nounwind {{
entry:
  %self = ptrtoint ptr %argument to i64
  %id = call i64 (i64, ...) @syscall(i64 {syscalls.gettid})
  %id32 = trunc i64 %id to i32
  %place = getelementptr i32, ptr @ids, i64 %self
  store atomic i32 %id32, ptr %place seq_cst, align 4
  br label %idle
idle:
  br label %spin
spin:
  %count = phi i32 [ 0, %idle ], [ %next, %nothing ]
  %s = load atomic i64, ptr @state seq_cst, align 8
  %left = and i64 %s, {_MAX_CHUNKS}
  %any = icmp ne i64 %left, 0
  %shifted = lshr i64 %s, 22
  %limit = and i64 %shifted, 1023
  %invited = icmp ult i64 %self, %limit
  %go = and i1 %any, %invited
  br i1 %go, label %help, label %nothing
help:
  call void @work(i64 %s, i1 false)
  br label %idle
nothing:
  {pause}
  %next = add i32 %count, 1
  %patient = icmp ult i32 %next, {_WORKER_SPINS}
  br i1 %patient, label %spin, label %sleep
sleep:
  ; Counting itself among the sleepers before it looks again closes the gap in which a wake could be missed.
  %a = atomicrmw add ptr @sleepers, i32 1 seq_cst
  %ticket = load atomic i32, ptr @signal seq_cst, align 4
  %s2 = load atomic i64, ptr @state seq_cst, align 8
  %left2 = and i64 %s2, {_MAX_CHUNKS}
  %any2 = icmp ne i64 %left2, 0
  %shifted2 = lshr i64 %s2, 22
  %limit2 = and i64 %shifted2, 1023
  %invited2 = icmp ult i64 %self, %limit2
  %go2 = and i1 %any2, %invited2
  br i1 %go2, label %awake, label %wait
wait:
  %w = call i64 (i64, ...) @syscall({futex}, i64 {_FUTEX_WAIT_PRIVATE}, i32 %ticket, {no_time})
  br label %awake
awake:
  %b = atomicrmw sub ptr @sleepers, i32 1 seq_cst
  br label %idle
}}

; Start workers until there are `wanted`; fewer if the system refuses. The caller holds @busy.
define internal void @hire(i64 %wanted) nounwind {{
entry:
  %thread = alloca i64, align 8
  %all = alloca [16 x i64], align 16
  %old = alloca [16 x i64], align 16
  %attributes = alloca [16 x i64], align 16
  %have = load i64, ptr @workers, align 8
  %lacking = icmp ult i64 %have, %wanted
  br i1 %lacking, label %block, label %end
block:
  ; Signals are for Python's threads: workers block them all.
  store [16 x i64] [{", ".join(["i64 -1"] * 16)}], ptr %all, align 16
  %m = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  %a = call i32 @pthread_attr_init(ptr %attributes)
  %z = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 {_STACK})
  br label %next
next:
  %number = phi i64 [ %have, %block ], [ %more, %started ]
  %enough = icmp uge i64 %number, %wanted
  br i1 %enough, label %restore, label %start
start:
  %argument = inttoptr i64 %number to ptr
  %place = getelementptr i32, ptr @ids, i64 %number
  store atomic i32 0, ptr %place seq_cst, align 4
  store i32 -1, ptr @avoided, align 4
  %failed = call i32 @pthread_create(ptr %thread, ptr %attributes, ptr @worker, ptr %argument)
  %refused = icmp ne i32 %failed, 0
  br i1 %refused, label %restore, label %started
started:
  %id = load i64, ptr %thread, align 8
  %d = call i32 @pthread_detach(i64 %id)
  %more = add i64 %number, 1
  store i64 %more, ptr @workers, align 8
  br label %next
restore:
  %x = call i32 @pthread_attr_destroy(ptr %attributes)
  %r = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  br label %end
end:
  ret void
}}

{affinity_functions(syscalls, pause)}
; Whether the pool belongs to this process; after a fork the first caller makes it so. A process signs a page that the
; system empties for its children, so that launches need not ask for their process id, which takes 0.1 to 0.2 µs.
define internal i1 @own() nounwind {{
entry:
  %signed = load atomic ptr, ptr @mark acquire, align 8
  %none = icmp eq ptr %signed, null
  br i1 %none, label %ask, label %glance
glance:
  %signature = load atomic i32, ptr %signed acquire, align 4
  %kept = icmp ne i32 %signature, 0
  br i1 %kept, label %yes, label %ask
ask:
  %me = call i32 @getpid()
  %owner = load atomic i32, ptr @pid seq_cst, align 4
  %mine = icmp eq i32 %owner, %me
  br i1 %mine, label %yes, label %foreign
foreign:
  %resetting = icmp eq i32 %owner, -1
  br i1 %resetting, label %no, label %take
take:
  %pair = cmpxchg ptr @pid, i32 %owner, i32 -1 seq_cst seq_cst
  %won = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %won, label %reset, label %no
reset:
  store atomic i64 0, ptr @state seq_cst, align 8
  store atomic i64 0, ptr @done seq_cst, align 8
  store atomic i32 0, ptr @sleepers seq_cst, align 4
  store i64 0, ptr @workers, align 8
  store i32 -1, ptr @avoided, align 4
  store atomic i32 0, ptr @busy seq_cst, align 4
  br i1 %none, label %map, label %sign
map:
  %new = call ptr @mmap(ptr null, i64 {_PAGE}, i32 3, i32 34, i32 -1, i64 0)
  %unmapped = icmp eq ptr %new, inttoptr (i64 -1 to ptr)
  br i1 %unmapped, label %take.over, label %advise
advise:
  %refused = call i32 @madvise(ptr %new, i64 {_PAGE}, i32 {_WIPE_ON_FORK})
  %agreed = icmp eq i32 %refused, 0
  br i1 %agreed, label %keep, label %discard
discard:
  %u = call i32 @munmap(ptr %new, i64 {_PAGE})
  br label %take.over
keep:
  store atomic ptr %new, ptr @mark release, align 8
  br label %sign
sign:
  %page = phi ptr [ %signed, %reset ], [ %new, %keep ]
  store atomic i32 1, ptr %page seq_cst, align 4
  br label %take.over
take.over:
  store atomic i32 %me, ptr @pid seq_cst, align 4
  ret i1 true
yes:
  ret i1 true
no:
  ret i1 false
}}

define i64 @{POOL_WORKERS}() nounwind {{
entry:
  %owned = call i1 @own()
  %have = load i64, ptr @workers, align 8
  %count = select i1 %owned, i64 %have, i64 0
  ret i64 %count
}}

define void @{POOL_RUN}(ptr %kernel, ptr %args, ptr %dims, i64 %n, i64 %grain, i64 %threads, ptr %status) nounwind {{
entry:
  %owned = call i1 @own()
  br i1 %owned, label %try, label %alone
try:
  %pair = cmpxchg ptr @busy, i32 0, i32 1 seq_cst seq_cst
  %taken = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %taken, label %lead, label %alone
alone:
  call void %kernel(ptr %args, ptr %dims, i64 0, i64 %n, ptr %status)
  ret void
lead:
  %others = sub i64 %threads, 1
  %wanted = call i64 @llvm.umin.i64(i64 %others, i64 {MAX_WORKERS})
  call void @hire(i64 %wanted)
  call void @make_way()
  ; No more chunks than the state word can count.
  %few = udiv i64 %n, {_MAX_CHUNKS // 2}
  %least = add i64 %few, 1
  %size = call i64 @llvm.umax.i64(i64 %grain, i64 %least)
  %up = add i64 %n, %size
  %up1 = sub i64 %up, 1
  %chunks = udiv i64 %up1, %size
  %kernel.i = ptrtoint ptr %kernel to i64
  store i64 %kernel.i, ptr @job, align 8
  store ptr %args, ptr getelementptr (i64, ptr @job, i64 1), align 8
  store ptr %dims, ptr getelementptr (i64, ptr @job, i64 2), align 8
  store i64 %n, ptr getelementptr (i64, ptr @job, i64 3), align 8
  store i64 %size, ptr getelementptr (i64, ptr @job, i64 4), align 8
  store ptr %status, ptr getelementptr (i64, ptr @job, i64 5), align 8
  store atomic i64 0, ptr @done seq_cst, align 8
  %last = load atomic i64, ptr @state seq_cst, align 8
  %g = lshr i64 %last, 32
  %g1 = add i64 %g, 1
  %high = shl i64 %g1, 32
  %middle = shl i64 %wanted, 22
  %low = or i64 %middle, %chunks
  %published = or i64 %high, %low
  store atomic i64 %published, ptr @state seq_cst, align 8
  %t = atomicrmw add ptr @signal, i32 1 seq_cst
  %asleep = load atomic i32, ptr @sleepers seq_cst, align 4
  %someone = icmp ne i32 %asleep, 0
  br i1 %someone, label %wake, label %take.part
wake:
  %w = call i64 (i64, ...) @syscall({futex}, i64 {_FUTEX_WAKE_PRIVATE}, i64 2147483647, {no_time})
  br label %take.part
take.part:
  call void @work(i64 %published, i1 true)
  br label %wait
wait:
  %count = phi i32 [ 0, %take.part ], [ %next, %later ], [ 0, %yield ]
  %finished = load atomic i64, ptr @done seq_cst, align 8
  %all = icmp eq i64 %finished, %chunks
  br i1 %all, label %end, label %later.or.yield
later.or.yield:
  {pause}
  %next = add i32 %count, 1
  %patient = icmp ult i32 %next, {_CALLER_SPINS}
  br i1 %patient, label %later, label %yield
later:
  br label %wait
yield:
  call void @lend()
  %y = call i32 @sched_yield()
  br label %wait
end:
  store atomic i32 0, ptr @busy seq_cst, align 4
  ret void
}}
"""
