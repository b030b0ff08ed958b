"""From a convolution in a group's body to Winograd's kernels, where they are cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Node, Value
from ..loops.nodes import Buffer, Expr, Load, Var
from ..target import Target
from .context import LowerContext
from .contraction import Access, Axis, is_linear
from .contraction_forms import ranked_forms
from .contraction_lower import SUM, Epilogue
from .contraction_operands import Operands, as_stored
from .conv import conv_contractions
from .indexing import BodyEvaluator, IndexTuple
from .winograd import launch_winograd
from .winograd_matrices import TAPS
from .winograd_plan import Sizes, ranked_winograd
from .winograd_transforms import Planes, Winograd


def winograd_on_cpu(ctx: LowerContext, node: Node, operands: Operands, epilogue: Epilogue) -> bool:
    """Launches the convolution (its input gradient) by Winograd's filtering and returns True, if its kernel is 3x3 with
    stride 1 in the planes and that is cheaper."""
    target = ctx.target
    if not isinstance(target, Target):
        return False
    problem = _problem(target, node, operands, epilogue)
    if problem is None:
        return False
    steady = ctx.storage(problem.weight.buffer) in ctx.fixed
    (contraction,) = conv_contractions(node, _Unlaunched(operands))
    contraction = replace(contraction, resident=frozenset({1} if steady else ()))
    sizes = problem.sizes
    direct = ranked_forms(ctx, contraction, (), target)[0].cycles
    plan = ctx.choose(node.op.name, lambda count: ranked_winograd(sizes, target, direct, steady, count))
    if plan is None:
        return False
    launch_winograd(ctx, problem, plan)
    return True


def _problem(target: Target, node: Node, operands: Operands, epilogue: Epilogue) -> Winograd | None:
    if node.op.name not in ("conv", "conv_input_grad"):
        return None
    image, weight = node.inputs
    (result,) = node.outputs
    attrs = node.attrs
    rank = result.type.rank - 2
    flipped = node.op.name == "conv_input_grad"
    between = attrs["stride"][:-2]  # from plane to plane
    fits = (
        result.type.dtype in (dtypes.f32, dtypes.f16, dtypes.bf16)
        and rank in (2, 3)
        and weight.type.shape[-2:] == (TAPS, TAPS)
        and (attrs["stride"][-2:], attrs["dilation"], attrs["groups"]) == ((1, 1), (1,) * rank, 1)
        and not (flipped and any(step != 1 for step in between))
    )
    shape = (*weight.type.shape[2:], *image.type.shape[1:], *result.type.shape[1:])
    sides = [size for size in shape if isinstance(size, int)]
    if not fits or len(sides) < len(shape):
        return None
    kernel, sides = sides[:rank], sides[rank:]
    padding = [k - 1 - p if flipped else p for k, p in zip(kernel, attrs["padding"])]
    if min(padding) < 0:
        return None
    channels, outputs = sides[0], sides[rank + 1]
    (*deep, height, width), (*out_deep, out_height, out_width) = sides[1 : rank + 1], sides[rank + 2 :]
    if width == 1 or out_width == 1:  # no row for vectors to run along
        return None
    planes = None
    batch, taps = result.type.shape[0], kernel[0] if deep else 1
    if deep:
        if channels % target.lanes(dtypes.f32):  # a vector of channels is of one plane
            return None
        planes = Planes(taps, channels, between[0], padding[0], deep[0], out_deep[0])
        batch = batch * planes.out
    sizes = Sizes(
        batch, taps * channels, outputs, height, width, (padding[-2], padding[-1]), out_height, out_width
    )
    n, c, o = Axis("n", batch), Axis("c", channels), Axis("o", outputs)
    y, x, ky, kx = Axis("y", height), Axis("x", width), Axis("ky", TAPS), Axis("kx", TAPS)
    z, kz = [Axis("z", size).var for size in deep], [Axis("kz", taps).var for _ in deep]
    read = _view(operands, image, (n.var, c.var, *z, y.var, x.var))
    if flipped:
        kernels = _view(operands, weight, (c.var, o.var, *(taps - 1 - k for k in kz), ky.var, kx.var))
    else:
        kernels = _view(operands, weight, (o.var, c.var, *kz, ky.var, kx.var))
    if read is None or read.stride("x") != 1:
        return None
    if kernels is None or (kernels.stride("kx"), kernels.stride("ky")) != (1, TAPS):
        return None
    to: IndexTuple = (n.var, o.var, Axis("y", out_height).var, Axis("x", out_width).var)
    if planes is not None:
        to = (dims.floordiv(n.var, planes.out), o.var, dims.mod(n.var, planes.out), *to[2:])
    flops = 2 * dims.product(result.type.shape) * sizes.channels * TAPS * TAPS
    memo: dict[int, Expr] = {}
    known = epilogue.known(Var(SUM, dtypes.f32))
    elements = [e.at({}, memo, known) for e in epilogue.elements(to)]
    return Winograd(node.op.name, sizes, read, kernels, flipped, elements, SUM, flops, planes)


def _view(operands: Operands, value: Value, index: IndexTuple) -> Access | None:
    """The operand where its elements lie, at a linear index; None where they must be copied first."""
    for flatten in (None, operands.ctx.flat):
        found = as_stored(BodyEvaluator(operands.body, operands.args, flatten=flatten).at(value, index))
        if isinstance(found, Load) and all(map(is_linear, found.index)):
            return Access(found.buffer, found.index)
    return None


@dataclass(frozen=True)
class _Unlaunched:
    """Operands as the direct way would read them, without the copies, to reckon with."""

    operands: Operands

    def read(self, value: Value, index: IndexTuple) -> Access:
        return _view(self.operands, value, index) or Access(self._buffer(value, value.type.shape), index)

    def bordered(
        self,
        value: Value,
        low: Sequence[int],
        step: Sequence[int],
        space: Sequence[DimLike],
        index: IndexTuple,
    ) -> Access:
        return Access(self._buffer(value, (*value.type.shape[:2], *space)), index)

    def step(self, value: Value) -> int:
        return 1

    @property
    def has_phases(self) -> bool:
        return False

    def phased(
        self, value: Value, low: Sequence[int], space: Sequence[DimLike], phases: int, index: IndexTuple
    ) -> Access:
        raise NotImplementedError("phased copies")

    def _buffer(self, value: Value, shape: Sequence[DimLike]) -> Buffer:
        return Buffer("operand", self.operands.first(value).dtype, tuple(shape))
