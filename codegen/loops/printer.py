"""The loop IR as text, for people and for cache keys.

    kernel fused_0(x: f32[64,100], y: f32[64,100] written) cost 100 {
      register acc: f32[2,16]
      for i in 0..64 parallel {
        for v in 0..min(16, 100-16*j) vector 16 {
          y[i, 16*j+v] = max(0.0, x[i, 16*j+v])

A subexpression that a statement uses more than once is printed once, as `t0 := ...` before the statement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ...ir.dims import DimLike, Symbol
from ...ir.printer import to_text
from .nodes import (
    Apply,
    Buffer,
    Check,
    ClearTile,
    Const,
    CopyAsync,
    CopyCommit,
    CopyWait,
    Expr,
    For,
    HostCall,
    If,
    Index,
    Kernel,
    LaneReduce,
    Launch,
    Let,
    Load,
    LoadFragment,
    LoadTile,
    MultiplyGroup,
    MultiplyTile,
    MultiplyWords,
    Part,
    Pipeline,
    Prefetch,
    Program,
    Shuffle,
    Stmt,
    Store,
    StoreTile,
    TileSlice,
    Var,
)
from .repeats import Block, Step, program_steps
from .walk import subexpressions


def print_program(program: Program) -> str:
    """The program with the text of its kernels, each once."""
    lines = [f"program {program.name}{_dims(program.dims)} {{"]
    for word, buffers in (("input", program.inputs), ("output", program.outputs)):
        lines += [f"  {word} {_buffer(b)}{_late(program, b)}" for b in buffers]
    for buffer in program.arena:
        lent = f" of {program.lenders[buffer].name}" if buffer in program.lenders else ""
        lines.append(
            f"  arena {_buffer(buffer)} at {program.offsets[buffer.name]}{lent}{_late(program, buffer)}"
        )
    lines.append(f"  arena_bytes {program.arena_bytes}")
    for buffer, offset in program.prepared.items():
        lines.append(f"  prepared {_buffer(buffer)} at {offset}")
    if program.prepared:
        lines.append(f"  prepared_bytes {program.prepared_bytes}")
    for code, message in sorted(program.messages.items()):
        lines.append(f"  message {code} {message!r}")
    names = kernel_names(program)
    steps = program_steps(program)
    if program.preparing:
        lines.append("  once {")
        _steps(steps[: program.preparing], names, "    ", lines)
        lines.append("  }")
    _steps(steps[program.preparing :], names, "  ", lines)
    lines.append("}")
    texts = [print_kernel(kernel, name) for kernel, name in names.items()]
    return "\n".join(lines) + "\n\n" + "\n".join(texts)


def _steps(
    steps: Sequence[Step], names: Mapping[Kernel | HostCall, str], indent: str, lines: list[str]
) -> None:
    for step in steps:
        if isinstance(step, Block):
            once = step.repeat.at_once
            whole = f", or {_launch(once, names[once.kernel])}" if once is not None else ""
            lines.append(f"{indent}repeat {step.repeat.var} in 0..{step.repeat.count}{whole} {{")
            _steps(step.steps, names, indent + "  ", lines)
            lines.append(f"{indent}}}")
        else:
            lines.append(indent + _launch(step[1], names[step[1].kernel]))


def kernel_names(program: Program) -> dict[Kernel | HostCall, str]:
    """A name for each kernel: its own, with a number where several share it."""
    names: dict[Kernel | HostCall, str] = {}
    used: Counter[str] = Counter()
    at_once = (repeat.at_once for repeat in program.repeats)
    for launch in (*program.launches, *(launch for launch in at_once if launch is not None)):
        kernel = launch.kernel
        if kernel not in names:
            count = used[kernel.name]
            used[kernel.name] += 1
            names[kernel] = f"{kernel.name}.{count}" if count else kernel.name
    return names


def _launch(launch: Launch, name: str) -> str:
    text = f"{name}({', '.join(map(_argument, launch.args))})"
    notes = [launch.source] if launch.source else []
    notes += [f"{word} {n}" for word, n in (("flops", launch.flops), ("bytes", launch.bytes)) if n != 0]
    return f"{text}  # {'; '.join(notes)}" if notes else text


def _argument(buffer: Buffer) -> str:
    return f"{_argument(buffer.of)}[{buffer.index}]" if isinstance(buffer, Part) else buffer.name


def _written(kernel: Kernel | HostCall, param: Buffer) -> str:
    if param.name not in kernel.writes:
        return ""
    past = isinstance(kernel, Kernel) and param.name in kernel.streams
    return " written past the caches" if past else " written"


def print_kernel(kernel: Kernel | HostCall, name: str | None = None) -> str:
    params = ", ".join(_buffer(b) + _written(kernel, b) for b in kernel.params)
    if isinstance(kernel, HostCall):
        lines = [f"host {name or kernel.name}({params}){_dims(kernel.dims)} {{"]
        lines += [f"  {line}" for line in to_text(kernel.graph, locations=False).splitlines()]
        return "\n".join([*lines, "}"]) + "\n"
    lines = [f"# {line}" for line in kernel.comment.splitlines()]
    resident = f" resident {kernel.resident}" if kernel.resident else ""
    lines.append(
        f"kernel {name or kernel.name}({params}){_dims(kernel.dims)} cost {kernel.cost}{resident} {{"
    )
    lines += [f"  {b.space} {_buffer(b)}" for b in kernel.locals]
    _block(kernel.body, "  ", lines)
    lines.append("}")
    return "\n".join(lines) + "\n"


def print_stmt(stmt: Stmt) -> str:
    """One statement, with all that is inside it."""
    lines: list[str] = []
    _stmt(stmt, "", lines)
    return "\n".join(lines)


def print_expr(expr: Expr) -> str:
    """The expression written out as a tree."""
    return _expr(expr, {})


def _late(program: Program, buffer: Buffer) -> str:
    """Which host call allocates the buffer, where one does."""
    number = program.late.get(buffer)
    return "" if number is None else f" from {program.host_calls[number].name}"


def _buffer(buffer: Buffer) -> str:
    return f"{buffer.name}: {buffer.dtype.name}[{','.join(map(str, buffer.shape))}]"


def _dims(symbols: Sequence[Symbol]) -> str:
    if not symbols:
        return ""
    return " over " + ", ".join(f"{s.name} in {s.low}..={s.high}" for s in symbols)


def _block(body: Sequence[Stmt], indent: str, lines: list[str]) -> None:
    for stmt in body:
        _stmt(stmt, indent, lines)


def _stmt(stmt: Stmt, indent: str, lines: list[str]) -> None:
    match stmt:
        case For():
            kind = {"serial": "", "vector": f" vector {stmt.lanes}"}.get(stmt.kind, f" {stmt.kind}")
            lines.append(f"{indent}for {stmt.var} in 0..{stmt.extent}{kind} {{")
            _block(stmt.body, indent + "  ", lines)
            lines.append(f"{indent}}}")
        case Let():
            value = _shared(stmt.value, indent, lines)
            lines.append(f"{indent}let {stmt.name}: {stmt.value.dtype.name} = {value}")
        case Store():
            value = _shared(stmt.value, indent, lines)
            lines.append(f"{indent}{stmt.buffer.name}[{_index(stmt.index)}] = {value}")
        case If():
            lines.append(f"{indent}if {_shared(stmt.condition, indent, lines)} {{")
            _block(stmt.body, indent + "  ", lines)
            if stmt.orelse:
                lines.append(f"{indent}}} else {{")
                _block(stmt.orelse, indent + "  ", lines)
            lines.append(f"{indent}}}")
        case Check():
            lines.append(f"{indent}check {_shared(stmt.condition, indent, lines)} else {stmt.code}")
        case Prefetch():
            lines.append(f"{indent}prefetch {print_expr(stmt.source)} into cache {stmt.level}")
        case ClearTile():
            lines.append(f"{indent}clear tile {print_expr(stmt.tile)}")
        case LoadTile():
            places = f"{print_expr(stmt.tile)} = {print_expr(stmt.source)}"
            passing = ", passing" if stmt.passing else ""
            lines.append(f"{indent}load tile {places}, rows {stmt.step} apart{passing}")
        case StoreTile():
            places = f"{print_expr(stmt.target)} = {print_expr(stmt.tile)}"
            lines.append(f"{indent}store tile {places}, rows {stmt.step} apart")
        case MultiplyWords():
            total, left, right = (print_expr(x) for x in (stmt.total, stmt.left, stmt.right))
            swapped = ", swapped" if stmt.swapped else ""
            lines.append(f"{indent}tile {total} += {left} @ {right}, {stmt.op}{swapped}")
        case MultiplyTile():
            total, left, right = (print_expr(x) for x in (stmt.total, stmt.left, stmt.right))
            lines.append(f"{indent}{total} += {left} @ {right}")
        case MultiplyGroup():
            total, left, right = (print_expr(x) for x in (stmt.total, stmt.left, stmt.right))
            size = f"64x{stmt.columns}, {stmt.depth} terms{', turned' if stmt.turned else ''}"
            lines.append(f"{indent}group {total} {'=' if stmt.clear else '+='} {left} @ {right}, {size}")
        case LoadFragment():
            turned = ", turned" if stmt.turned else ""
            places = f"{print_expr(stmt.fragment)} = {print_expr(stmt.source)}"
            pair = ", a pair" if stmt.pair else ""
            lines.append(f"{indent}fragment {places}, {stmt.rows} rows{turned}{pair}")
        case CopyAsync():
            test = "" if stmt.condition is None else f" if {_shared(stmt.condition, indent, lines)}"
            places = f"{print_expr(stmt.target)} = {print_expr(stmt.source)}"
            lines.append(f"{indent}copy {stmt.count} to {places}{test}")
        case Pipeline():
            lines.append(f"{indent}pipeline {stmt.var} in 0..{stmt.extent} {{")
            lines += [f"{indent}  {_slice(side)}" for side in (stmt.left, stmt.right)]
            left, right = stmt.left.stages.name, stmt.right.stages.name
            lines += [f"{indent}  {stmt.total.name} += {left} @ {right}.transpose()", f"{indent}}}"]
        case CopyCommit():
            lines.append(f"{indent}commit copies")
        case CopyWait():
            lines.append(f"{indent}wait for copies but {stmt.pending}")


def _slice(side: TileSlice) -> str:
    seen = side.map
    layout = f"[{_index(seen.sizes)}] by strides [{_index(seen.strides)}] from {seen.offset}"
    turned = ", turned" if side.turned else ""
    box = "x".join(map(str, seen.box))
    return f"copy {side.stages.name} = {seen.buffer.name} as {layout} at [{_index(side.start)}], boxes of {box}{turned}"


def _shared(root: Expr, indent: str, lines: list[str]) -> str:
    """The expression's text, after lines for what it uses more than once."""
    uses: Counter[int] = Counter()
    order = list(subexpressions(root))
    for expr in order:
        if isinstance(expr, Apply):
            uses.update(id(arg) for arg in expr.args)
        elif isinstance(expr, LaneReduce):
            uses[id(expr.value)] += 1
    names: dict[int, str] = {}
    for expr in order:
        if uses[id(expr)] > 1 and isinstance(expr, Apply | LaneReduce):
            text = _expr(expr, names)
            names[id(expr)] = f"t{len(names)}"
            lines.append(f"{indent}{names[id(expr)]} := {text}")
    return _expr(root, names)


def _expr(expr: Expr, names: dict[int, str]) -> str:
    known = names.get(id(expr))
    if known is not None:
        return known
    match expr:
        case Const():
            return f"{expr.value!r}:{expr.dtype.name}"
        case Index():
            return f"index({expr.value})"
        case Var():
            return expr.name
        case Load():
            return f"{expr.buffer.name}[{_index(expr.index)}]"
        case Apply():
            args = ", ".join(_expr(arg, names) for arg in expr.args)
            given = f".{expr.dtype.name}" if expr.op in ("cast", "bitcast") else ""
            return f"{expr.op}{given}({args})"
        case Shuffle():
            return f"{_expr(expr.load, names)} of thread ^ {expr.mask}"
        case LaneReduce():
            return f"lanes {expr.combine} over {expr.var} in 0..{expr.lanes} of ({_expr(expr.value, names)})"


def _index(index: Sequence[DimLike]) -> str:
    return ", ".join(map(str, index))
