"""Scalar expressions of kernels as LLVM for NVPTX: what only GPUs have an instruction for, and shuffles."""

from __future__ import annotations

from ...ir import dtypes
from ..llvm.expressions import ExpressionEmitter
from ..llvm.text import Value
from ..loops.nodes import Apply


class PtxExpressions(ExpressionEmitter):
    """Expressions, among them shuffles and what only GPUs have an instruction for."""

    def _apply(self, expr: Apply) -> Value:
        if expr.op == "tf32":
            return self.rounded(self.value(expr.args[0]))
        if expr.op != "exp2_fast":
            return super()._apply(expr)
        name = "@llvm.nvvm.ex2.approx.ftz.f32"
        self.w.declare(name, f"declare float {name}(float)")
        x = self.value(expr.args[0])
        return self.w.pure(f"call float {name}({x})", x.level, dtypes.f32)

    def rounded(self, x: Value) -> Value:
        """As tf32."""
        name = "@llvm.nvvm.f2tf32.rna"
        self.w.declare(name, f"declare i32 {name}(float)")
        near = self.w.effect(f"call i32 {name}({x})", dtypes.u32)
        return self.ops.apply("bitcast", [near], dtypes.f32)

    def shuffle(self, value: Value, mask: int) -> Value:
        bits = value.dtype.itemsize * 8
        ops = self.ops
        if bits < 32:
            wide = ops.convert(value, dtypes.u32) if value.dtype is dtypes.bool_ else self._widened(value)
            moved = self._moved(wide, mask)
            if value.dtype is dtypes.bool_:
                return ops.compare("ne", moved, Value("0", dtypes.u32))
            return self._narrowed(moved, value)
        if bits == 32:
            return ops.apply(
                "bitcast", [self._moved(ops.apply("bitcast", [value], dtypes.u32), mask)], value.dtype
            )
        whole = ops.apply("bitcast", [value], dtypes.u64)
        low = ops.convert(whole, dtypes.u32)
        high = ops.convert(ops.apply("shr", [whole, Value("32", dtypes.u64)], dtypes.u64), dtypes.u32)
        halves = [ops.convert(self._moved(half, mask), dtypes.u64) for half in (low, high)]
        joined = ops.instruction(
            "or", [halves[0], ops.apply("shl", [halves[1], Value("32", dtypes.u64)], dtypes.u64)], dtypes.u64
        )
        return ops.apply("bitcast", [joined], value.dtype)

    def _widened(self, value: Value) -> Value:
        bits = self.ops.apply("bitcast", [value], dtypes.u16 if value.dtype.itemsize == 2 else dtypes.u8)
        return self.ops.convert(bits, dtypes.u32)

    def _narrowed(self, moved: Value, like: Value) -> Value:
        bits = self.ops.convert(moved, dtypes.u16 if like.dtype.itemsize == 2 else dtypes.u8)
        return self.ops.apply("bitcast", [bits], like.dtype)

    def _moved(self, value: Value, mask: int) -> Value:
        name = "@llvm.nvvm.shfl.sync.bfly.i32"
        self.w.declare(name, f"declare i32 {name}(i32, i32, i32, i32)")
        # Not `pure`: every thread of the warp must come to it together, so it stays where it is.
        return self.w.effect(f"call i32 {name}(i32 -1, i32 {value.text}, i32 {mask}, i32 31)", dtypes.u32)
