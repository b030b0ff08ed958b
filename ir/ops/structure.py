"""Ops about the graph itself."""

from __future__ import annotations

from typing import Any

from ..graph import IRError
from ..op import VARIADIC, Attr, Op, RegionRule, declare
from ..types import TensorType
from .common import integers, uniform

declare(
    Op(
        "detach",
        "The operand, through which no gradient flows. "
        "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.detach.html",
        infer=lambda x: x,
        numpy=lambda x: x.view(),
        lowering="view",
        vjp=lambda F, ctx, dy: [None],
        index_map=lambda types, result, index: [(0, index, None)],
        write_back=lambda F, base, view: view,
        samples=(uniform((3, 5), gradient=False), uniform((), gradient=False), integers((2, 3))),
    )
)


def _fused_infer(*operands: TensorType, **attrs: Any) -> TensorType:
    raise IRError("fused: its result types are those of its region's outputs; build it with region_node")


def _fused_numpy(*arrays: Any, **attrs: Any) -> Any:
    raise IRError("fused: its meaning is its region; evaluate it with ir/interpreter.py: evaluate_node")


declare(
    Op(
        "fused",
        "The nodes of its region as one kernel. `kind` says which lowering takes the group: loop, reduce, "
        "contraction, window, single or host.",
        infer=_fused_infer,
        numpy=_fused_numpy,
        attrs={"name": Attr("str"), "kind": Attr("str")},
        arity=(0, VARIADIC),
        lowering="region",
        region=RegionRule(
            types=lambda operands, results, attrs: (operands, results),
            numpy=lambda body, arrays, attrs: body(*arrays),
        ),
    )
)
