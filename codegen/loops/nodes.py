"""The loop IR: kernels as loop nests over buffers, with scalar expressions.

    program   = buffers, launches, repeats                         one native call
    repeat    = var in count, a range of launches                  those launches, `count` times
    launch    = kernel(buffer, ...) | host(buffer, ...)             buffers bound to the parameters
    host      = params, graph                                       a call back to Python, which runs the graph
    kernel    = params, dims, locals, body
    stmt      = for v in extent [serial|unroll|vector L|parallel|block|thread] { stmt* }
              | let name = expr | store buffer[index] = expr | if expr { stmt* } | check expr, message
              | prefetch buffer[index] | clear tile | load tile | store tile | tile += tile @ tile
    expr      = const | index | name | buffer[index] | op(expr, ...) | reduce op over v in L of expr
              | buffer[index] of thread ^ mask

Indices are polynomials over loop variables, dims and i64 lets (`ir/dims.py`): a stride is a coefficient, read off.
Buffers are row-major and contiguous. Every node is immutable and checked by `verify.py`.

Loop kinds. `serial` runs in order. `unroll` (extent a constant) is repeated in the text of the code, so its variable
is a constant in each copy. `vector` is one group of at most `lanes` iterations executed together: its extent must be
provably between 0 and `lanes`, lanes past the extent are masked, and iterations must be independent. `parallel` may
only be the outermost loop of a kernel; its iterations are independent and are shared among threads in chunks.

Spaces. `global`: memory of the program (an input, an output, a place in the arena, prepared). `stack`: a small per-call
scratch array. `register`: never in memory; every index but the one of the innermost vector loop must be a constant once
unroll loops are expanded, and where a vector loop indexes it, that must be the last index, alone. `tile`: the tile
registers of x86's AMX, of which a kernel has 8. The last two dims are 16 rows and the 16 elements of 4 bytes in each;
the indices before them must be constants once unrolled. Only `ClearTile`, `LoadTile`, `MultiplyWords` and `StoreTile`
touch them, each whole.

GPU kernels. `block` may only be the outermost loop of a kernel, and is its whole body: the blocks of the grid, which
are independent. `thread` stands inside it, with a constant extent that all thread loops of a kernel share: the threads
of a block, whose iterations are independent of each other. Statements of a block run one after the other, a thread
loop as a whole before what follows it; serial and unroll loops, lets and ifs that stand outside of thread loops are the
same for all threads. So a kernel has one sequential meaning, and a barrier is not a node: the emitter puts barriers
where a thread loop touches memory that another one wrote. Space `shared`: one array per block. Space `thread`: the
registers of each thread, the first index being the thread's number, every other one a constant once unrolled. What
another thread's registers hold can only be read by `Shuffle`.

Resident kernels (`Kernel.resident`) have several block loops, in serial loops around them. They too run one after the
other, each as a whole: all blocks finish one before any begins the next. Each may have its own number of threads, and
its locals are its own, but those of the space `resident`: shared memory that stays. The first index of such is the
block's number, so each block of a loop finds what the one of this number in another loop left. A GPU runs such a kernel
with so few blocks that all are on the machine at once; between block loops they wait for each other at a word in
memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ...ir import dtypes
from ...ir.dims import DimLike, Symbol, product
from ...ir.dtypes import DType
from ...ir.graph import Graph, Location, Node, Value, told_symbols
from ...ir.printer import used_symbols
from ...passes.memory_plan import Interval

Space = Literal["global", "stack", "register", "tile", "shared", "resident", "thread"]
LoopKind = Literal["serial", "parallel", "vector", "unroll", "block", "thread"]

# Bytes of a program's prepared block before its first buffer: the word that tells whether it is filled.
PREPARED_HEADER = 64
# Threads that run in step on a GPU, and can read each other's registers.
WARP = 32
# Threads that multiply together on tensor cores from Hopper on.
WARPGROUP = 128
# The tile registers of x86's AMX, and the rows of each, of so many elements of 4 bytes.
TILES = 8
TILE_ROWS = TILE_WORDS = 16
# Bytes of a line of the matrices that they read from shared memory, and what such a matrix begins at a multiple of: the
# lines' swizzling repeats after so many.
LINE = 128
STAGE_ALIGNMENT = 1024


@dataclass(frozen=True, eq=False)
class Buffer:
    """A row-major array. Compared by identity."""

    name: str
    dtype: DType
    shape: tuple[DimLike, ...]
    space: Space = "global"

    @property
    def numel(self) -> DimLike:
        return product(self.shape)

    @property
    def nbytes(self) -> DimLike:
        return self.numel * self.dtype.itemsize

    def offset(self, index: tuple[DimLike, ...]) -> DimLike:
        """The linear position of an element."""
        position: DimLike = 0
        for size, i in zip(self.shape, index, strict=True):
            position = position * size + i
        return position

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype.name}[{','.join(map(str, self.shape))}] {self.space}"


@dataclass(frozen=True, eq=False, repr=False)
class Part(Buffer):
    """Part number `index` of `of`, which is a row of equal parts of this shape. The argument of a launch, not of a
    kernel; under a repeat the index may move with its variable."""

    of: Buffer = field(kw_only=True)
    index: DimLike = field(kw_only=True)


def whole(buffer: Buffer) -> Buffer:
    """The program's buffer that a part is of; another buffer itself."""
    while isinstance(buffer, Part):
        buffer = buffer.of
    return buffer


def part_start(buffer: Buffer) -> DimLike:
    """At which element of the program's buffer a part begins; another buffer at 0."""
    start: DimLike = 0
    while isinstance(buffer, Part):
        start = start + buffer.index * buffer.numel
        buffer = buffer.of
    return start


@dataclass(frozen=True)
class Const:
    value: float | int | bool
    dtype: DType


@dataclass(frozen=True)
class Index:
    """An index expression as an i64 value."""

    value: DimLike
    dtype: DType = dtypes.i64


@dataclass(frozen=True)
class Var:
    """A name bound by `Let`."""

    name: str
    dtype: DType


@dataclass(frozen=True)
class Load:
    buffer: Buffer
    index: tuple[DimLike, ...]

    @property
    def dtype(self) -> DType:
        return self.buffer.dtype


@dataclass(frozen=True)
class Apply:
    """A scalar operation; the names are those of `codegen/scalar.py`."""

    op: str
    args: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True)
class LaneReduce:
    """`combine` (add, mul, max, min, and, or) of `value` over `var` in 0..lanes, as a balanced tree: lane i with lane
    i + lanes/2, and so on. `value` may read register buffers and lets; all lanes take part."""

    combine: str
    var: str
    lanes: int
    value: Expr

    @property
    def dtype(self) -> DType:
        return self.value.dtype


@dataclass(frozen=True)
class Shuffle:
    """What `load`, of a `thread` buffer at the own thread's number, gives in thread number `own ^ mask`; `mask` is less
    than a warp. The buffer is not written in the same thread loop, and all threads take part."""

    load: Load
    mask: int

    @property
    def dtype(self) -> DType:
        return self.load.dtype


Expr = Const | Index | Var | Load | Apply | LaneReduce | Shuffle


@dataclass(frozen=True)
class For:
    var: str
    extent: DimLike
    body: tuple[Stmt, ...]
    kind: LoopKind = "serial"
    lanes: int = 0


@dataclass(frozen=True)
class Let:
    """Binds a name for the rest of the enclosing block. An i64 let may also be used in indices, as a symbol."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Store:
    buffer: Buffer
    index: tuple[DimLike, ...]
    value: Expr


@dataclass(frozen=True)
class If:
    condition: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class Check:
    """Where `condition` is false, the program's status becomes `code` (the first failure wins). The kernel runs to its
    end, so what follows in it must be safe all the same (clamp the index); the launches after it do not run. The host
    raises the error that `code` stands for."""

    condition: Expr
    code: int


@dataclass(frozen=True)
class Prefetch:
    """Has the processor fetch the element's cache line into its cache of this level: it will be needed soon, and in a
    way that the processor does not foresee. Computes nothing."""

    source: Load
    level: int = 1


@dataclass(frozen=True)
class ClearTile:
    """A tile register, given by its first element, becomes zeros."""

    tile: Load


@dataclass(frozen=True)
class LoadTile:
    """A tile register from memory: 16 rows of 64 bytes. `source` is the first element of the first row, and each row
    begins `step` elements behind the one before; along a row the buffer's elements are neighbours. `passing`: it is read
    so far apart in time that the caches should rather keep something else."""

    tile: Load
    source: Load
    step: DimLike
    passing: bool = False


@dataclass(frozen=True)
class StoreTile:
    """A tile register to an array of the stack, laid out as `LoadTile` reads it."""

    target: Load
    tile: Load
    step: DimLike


@dataclass(frozen=True)
class MultiplyWords:
    """`total` += `left` @ `right` in tile registers: 16 rows of 16 words by 16 rows of words for 16 columns. The product
    of two words is that of `op`, a dot product of `codegen/packed.py`; the words of `right` are its first operand where
    it is `swapped`. In which order it all is added says `codegen/packed.py`."""

    total: Load
    left: Load
    right: Load
    op: str
    swapped: bool = False


@dataclass(frozen=True)
class MultiplyTile:
    """A warp's product on tensor cores: `total` += `left` @ `right`, a 16x8 tile of float32 from 16x16 and 16x8 of
    16-bit floats, or 16x8 and 8x8 of float32 numbers that `LoadFragment` or the operation `tf32` has rounded. Each of
    the three is the own thread's fragment in a `thread` buffer, given by its first element: the last index runs over 4
    elements of `total`, 8 (4) of `left`, 4 (2) of `right`, laid out among the threads as PTX has it for mma.m16n8k16
    (m16n8k8). The operands are not written in the same thread loop, and all threads take part."""

    total: Load
    left: Load
    right: Load


@dataclass(frozen=True)
class MultiplyGroup:
    """The same by a warpgroup (Hopper's wgmma), 64 rows by `columns`, over `depth` terms of 16-bit floats: `total` +=
    `left` @ `right`, or = where it is to `clear` what was there. The last two dims of `total`'s buffer are eights of
    columns and 4 elements, a warp's 16 rows as in `MultiplyTile`. `left` is fragments in registers, whose last two dims
    are sixteens of terms and 8 elements, or a matrix in shared memory, rows of terms; `right` is one in shared memory, a
    row for each column, or for each term where it is `turned`. Each is given by its first element. A matrix in shared
    memory has dims `[..., boxes, rows, 64]`, boxes side by side; only `CopyAsync` writes it. What was copied is waited
    for by `CopyWait` and a barrier."""

    total: Load
    left: Load
    right: Load
    columns: int
    depth: int
    turned: bool = False
    clear: bool = False


@dataclass(frozen=True)
class LoadFragment:
    """The own thread's elements of an operand of `MultiplyTile` out of shared memory. `source` is the first element of
    the matrix: `rows` (16 for a left operand, 8 for a right one) by 16 along the sum, 8 of float32, which run along the
    last index; along the one before if the matrix is `turned`. Float32 is rounded to tf32. A warp reads it together, so
    all threads take part. `pair`: two right operands at once, of 8 rows each, one after the other in the last two dims
    of the fragment's buffer; `rows` is 16."""

    fragment: Load
    source: Load
    rows: int
    turned: bool = False
    pair: bool = False


@dataclass(frozen=True)
class CopyAsync:
    """Copies `count` neighbouring elements, 16 bytes, from global memory at `source` to shared memory at `target`; zeros
    where `condition` does not hold. A GPU does it on its own: the elements are there for the thread behind the
    `CopyWait` that waits for them, and for others behind a barrier after that."""

    target: Load
    source: Load
    count: int
    condition: Expr | None = None


@dataclass(frozen=True)
class CopyCommit:
    """The thread's copies since the last one are a group, perhaps an empty one."""


@dataclass(frozen=True)
class CopyWait:
    """Waits until at most `pending` of the thread's groups are under way, the latest."""

    pending: int


@dataclass(frozen=True)
class TensorMap:
    """A param as a GPU's copy engine sees it (PTX ISA, "Tensors"): an array of `sizes`, outermost first, whose elements
    are `strides` elements apart, the last ones neighbours, and which begins at element `offset`. What is moved at once
    is a `box` of it; what of a box lies outside of the array is zeros."""

    buffer: Buffer
    offset: DimLike
    sizes: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]
    box: tuple[int, ...]


@dataclass(frozen=True)
class TileSlice:
    """The part of an operand that is in shared memory at a time: of `map`, from element `start` on, as many elements of
    the last two dims as `stages` says, a shared buffer `[stages, rows, depth]`, or `[stages, depth, rows]` where it is
    `turned`: neighbours in memory then lie along the rows (of a right operand, the columns), not along the sum."""

    map: TensorMap
    start: tuple[DimLike, ...]
    stages: Buffer
    turned: bool

    @property
    def rows(self) -> int:
        size = self.stages.shape[-1 if self.turned else -2]
        assert isinstance(size, int)
        return size

    @property
    def depth(self) -> int:
        size = self.stages.shape[-2 if self.turned else -1]
        assert isinstance(size, int)
        return size


@dataclass(frozen=True)
class Pipeline:
    """For `var` in 0..extent: both slices from global into shared memory, then `total` += left @ right.transpose().

    Stands between thread loops. On a GPU (Hopper: wgmma) one warp, the block's last, has the copy engine fill the stages
    of shared memory in turn, and the warps before it, in groups of four, multiply what has come; `marks`, two words in
    shared memory for each stage, are the barriers between them. `total` is `[threads, high, columns / 8, 4]` registers
    in float32: a group's rows in blocks of 64, a thread's four elements of 8 columns as PTX has it for the result of
    wgmma.m64nNk16. Operands of float32 are rounded to tf32. What the kernel writes it does not read here."""

    var: str
    extent: DimLike
    total: Buffer
    left: TileSlice
    right: TileSlice
    marks: Buffer

    @property
    def groups(self) -> int:
        """Of four warps, that multiply."""
        threads = self.total.shape[0]
        assert isinstance(threads, int)
        return threads // WARPGROUP


Stmt = (
    For
    | Let
    | Store
    | If
    | Check
    | Prefetch
    | ClearTile
    | LoadTile
    | StoreTile
    | MultiplyWords
    | MultiplyTile
    | MultiplyGroup
    | LoadFragment
    | CopyAsync
    | CopyCommit
    | CopyWait
    | Pipeline
)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function over buffers. `params` are global buffers, in order; `writes` names those it may store to.

    When `body` is a single parallel `For`, the kernel may be run in chunks of that loop by several threads;
    `cost` is its work per iteration in FLOPs or element moves, from which chunk sizes are chosen.
    """

    name: str
    params: tuple[Buffer, ...]
    writes: frozenset[str]
    body: tuple[Stmt, ...]
    dims: tuple[Symbol, ...] = ()
    locals: tuple[Buffer, ...] = ()
    cost: DimLike = 1
    comment: str = ""
    # Of a resident kernel, the blocks that share its block loops' iterations; 0 of others.
    resident: int = 0
    staying: Staying | None = None
    # Of `writes`, those whose whole vectors are stored past the caches.
    streams: frozenset[str] = frozenset()

    @property
    def parallel(self) -> For | None:
        """The parallel loop that is the whole body, if there is one."""
        if len(self.body) == 1 and isinstance(self.body[0], For) and self.body[0].kind == "parallel":
            return self.body[0]
        return None

    @property
    def grid(self) -> For | None:
        """The loop over blocks that is the whole body of a GPU kernel; None for a CPU kernel."""
        if len(self.body) == 1 and isinstance(self.body[0], For) and self.body[0].kind == "block":
            return self.body[0]
        return None

    @property
    def on_gpu(self) -> bool:
        """Whether it has blocks and threads."""
        return self.resident > 0 or self.grid is not None

    @property
    def block_loops(self) -> tuple[For, ...]:
        """The loops over blocks, in order."""
        return tuple(_block_loops(self.body))

    @cached_property
    def threads(self) -> int:
        """The threads of a block of a GPU kernel."""
        return max((threads_of(loop) for loop in self.block_loops), default=0)

    @property
    def maps(self) -> tuple[TensorMap, ...]:
        """How the copy engine sees the params that it reads; a launch passes them, in this order."""
        return tuple(dict.fromkeys(_maps(self.body)))


def _block_loops(body: Sequence[Stmt]) -> Iterator[For]:
    for stmt in body:
        if isinstance(stmt, For) and stmt.kind == "block":
            yield stmt
        elif isinstance(stmt, For) and stmt.kind == "serial":
            yield from _block_loops(stmt.body)


def threads_of(loop: For) -> int:
    """The threads of the blocks of a block loop."""
    return _threads(loop.body)


def _threads(body: Sequence[Stmt]) -> int:
    for stmt in body:
        if isinstance(stmt, For) and stmt.kind == "thread":
            return stmt.extent if isinstance(stmt.extent, int) else 0
        inner = (
            (*stmt.body, *stmt.orelse) if isinstance(stmt, If) else stmt.body if isinstance(stmt, For) else ()
        )
        found = _threads(inner)
        if found:
            return found
    return 0


def _maps(body: Sequence[Stmt]) -> Iterator[TensorMap]:
    for stmt in body:
        if isinstance(stmt, Pipeline):
            yield stmt.left.map
            yield stmt.right.map
        elif isinstance(stmt, For) and stmt.kind != "thread":
            yield from _maps(stmt.body)
        elif isinstance(stmt, If):
            yield from _maps((*stmt.body, *stmt.orelse))


@dataclass(frozen=True, eq=False)
class Staying:
    """How a kernel that is launched in every step of a scan would be a part of a resident kernel, and keep what does not
    change in `resident` memory: `first` fills it before the steps, `each` is the kernel of a step. They stand for as
    many launches as `instead` says, this kernel's and those behind it. A param is an argument of one of these launches:
    which launch, and which of its arguments."""

    first: Kernel
    each: Kernel
    instead: int
    first_args: tuple[tuple[int, int], ...]
    each_args: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class HostCall:
    """What stands in a kernel's place where NumPy computes: Python is called back and runs `graph` by its ops' NumPy
    rules, on the thread that called the program. `params` are the buffers of the graph's inputs, then of its outputs.
    It has no statements, and no loop to share among threads.

    `told`: dims that only its results tell. It writes their values among the program's dims, and allocates the memory
    whose size depends on them (`Program.late`)."""

    name: str
    graph: Graph
    params: tuple[Buffer, ...]
    location: Location | None = None
    body: tuple[Stmt, ...] = ()
    parallel: None = None

    @property
    def writes(self) -> frozenset[str]:
        return frozenset(b.name for b in self.params[len(self.graph.inputs) :])

    @property
    def told(self) -> tuple[Symbol, ...]:
        return tuple(s for node in self.graph.nodes for s in told_symbols(node))

    @property
    def dims(self) -> tuple[Symbol, ...]:
        return used_symbols(self.graph)


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel or host call on the program's buffers, one for each of its params. `source` says what it computes, for
    reports: the name of the fused group; `flops` and `bytes` are its work and its least traffic."""

    kernel: Kernel | HostCall
    args: tuple[Buffer, ...]
    source: str = ""
    flops: DimLike = 0
    bytes: DimLike = 0


@dataclass(frozen=True)
class Repeat:
    """Launches number `first` up to `end` (not included), run in order for `var` = 0, 1, ..., `count` - 1. Repeats may
    stand inside one another. `at_once`: one launch of a resident kernel that does the same as all of them."""

    first: int
    end: int
    count: DimLike
    var: str
    at_once: Launch | None = None


@dataclass(frozen=True, eq=False)
class Held:
    """A node, and where the values of its operands lie: a buffer and the element at which the value begins there."""

    node: Node
    operands: tuple[tuple[Buffer, DimLike], ...]


@dataclass(frozen=True, eq=False)
class FiniteCheck:
    """What a check of values stands for that failed: `value`, one of the group's, lies in `buffer`; `scans` are those
    whose bodies the group is in, outermost first."""

    group: Held
    value: Value
    buffer: Buffer
    scans: tuple[Held, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """What one native call does. Every buffer of a launch is an input, an output, in the arena or prepared.

    `offsets` gives each arena buffer's byte offset; `arena_bytes` is the arena's size; both may depend on dims.
    `lenders` names the outputs in which arena buffers lie, at that offset, until something writes the output.
    `late` gives the number of the host call that allocates a buffer, for the outputs and arena buffers whose size is not
    known before; the offsets of those in the arena are offsets in the `late_bytes` of that call.
    `messages` gives the text of each `Check` code, `finite_checks` what the codes of tests for NaN stand for;
    `lifetimes` is what the memory plan was made from.

    `prepared` are buffers that outlive a call, at these bytes of a block of `prepared_bytes`. The first `preparing`
    launches write them, and need not run again while the inputs that they read are as they were: they run where the
    block's first word (i64) is 0, which is for the host to set.
    """

    name: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    arena: tuple[Buffer, ...]
    launches: tuple[Launch, ...]
    dims: tuple[Symbol, ...] = ()
    offsets: Mapping[str, DimLike] = field(default_factory=dict)
    arena_bytes: DimLike = 0
    messages: Mapping[int, str] = field(default_factory=dict)
    lifetimes: tuple[Interval, ...] = ()
    lenders: Mapping[Buffer, Buffer] = field(default_factory=dict)
    repeats: tuple[Repeat, ...] = ()
    late: Mapping[Buffer, int] = field(default_factory=dict)
    late_bytes: Mapping[int, DimLike] = field(default_factory=dict)
    finite_checks: Mapping[int, FiniteCheck] = field(default_factory=dict)
    prepared: Mapping[Buffer, int] = field(default_factory=dict)
    prepared_bytes: int = 0
    preparing: int = 0

    @cached_property
    def prepared_inputs(self) -> list[int]:
        """The numbers of the inputs that the launches read which prepare."""
        read = {whole(b) for launch in self.launches[: self.preparing] for b in launch.args}
        return [number for number, buffer in enumerate(self.inputs) if buffer in read]

    @cached_property
    def host_calls(self) -> tuple[HostCall, ...]:
        """The host calls, in order; the native program tells them apart by number."""
        return tuple(x.kernel for x in self.launches if isinstance(x.kernel, HostCall))
