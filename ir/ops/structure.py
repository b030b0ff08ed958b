"""Ops about the graph itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..graph import IRError
from ..op import VARIADIC, Attr, Op, RegionRule, declare
from ..types import TensorType
from .common import Array, Shape, integers, uniform

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

declare(
    Op(
        "later",
        "The first operand, to be read only when the second has been computed: a value that is computed again is not "
        "the one computed before, and not before it is wanted. Fusion takes it out.",
        infer=lambda x, after: x,
        numpy=lambda x, after: x.view(),
        arity=(2, 2),
        vjp=lambda F, ctx, dy: [dy, None],
        samples=(uniform((3, 5), (2,)), integers((2, 3), (2, 3))),
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


def _missing_derivative_numpy(dy: Array, function: str, shape: Shape, dtype: DType) -> Array:
    if 0 in shape:
        return np.zeros(tuple(map(int, shape)), dtype.numpy)
    raise RuntimeError(f"derivative for aten::{function} is not implemented")


declare(
    Op(
        "missing_derivative",
        "The gradient of an operand of `function`, which has none: an error where it is computed, unless it has no "
        "elements.",
        infer=lambda dy, function, shape, dtype: TensorType(shape, dtype),
        numpy=_missing_derivative_numpy,
        attrs={"function": Attr("str"), "shape": Attr("dims"), "dtype": Attr("dtype")},
        lowering="host",
        samples=(uniform((2, 0), gradient=False, function="floor_divide", shape=(0,), dtype=dtypes.f32),),
    )
)
