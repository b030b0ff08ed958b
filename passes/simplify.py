"""Algebraic simplification: a table of small rules, each exact in IEEE arithmetic.

A rule sees one application of an op and gives a value that is the same in every bit (NaN payloads aside,
which IEEE 754 leaves open), or None. So `x * 1` becomes `x`, but `x + 0` stays, for it makes +0 of -0, and
so does `x * 0`, for x may be NaN. What a rule builds is simplified in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.graph import Graph
from ..ir.op import Op
from .regions import with_bodies
from .simplifier import Call, Rule, Simplifier
from .simplify_convolutions import taps_in_the_border
from .simplify_elements import (
    abs_of_sign_change,
    absorbing_element,
    broadcast_operands,
    convert_twice,
    divided_by_power_of_two,
    involution,
    negated_operand,
    neutral_element,
    number_of_the_dtype,
    same_operands,
    small_power,
    times_minus_one,
    where_clamped,
    where_decided,
    where_negated,
    where_within,
)
from .simplify_views import (
    concat_of_slices,
    detached,
    same_view_twice,
    slice_of_concat,
    transposed_product,
    view_of_nothing,
    whole_update,
)

RULES: dict[str, tuple[Rule, ...]] = {
    "add": (neutral_element, negated_operand),
    "sub": (neutral_element, negated_operand),
    "mul": (neutral_element, absorbing_element, times_minus_one),
    "div": (neutral_element, divided_by_power_of_two),
    "floor_divide": (neutral_element,),
    "pow": (neutral_element, small_power),
    "neg": (involution,),
    "abs": (abs_of_sign_change,),
    "maximum": (same_operands, neutral_element),
    "minimum": (same_operands, neutral_element),
    "logical_not": (involution,),
    "bitwise_not": (involution,),
    "logical_and": (neutral_element, absorbing_element),
    "logical_or": (neutral_element, absorbing_element),
    "logical_xor": (neutral_element,),
    "bitwise_and": (same_operands, neutral_element, absorbing_element),
    "bitwise_or": (same_operands, neutral_element),
    "bitwise_xor": (neutral_element,),
    "conv": (taps_in_the_border,),
    "conv_input_grad": (taps_in_the_border,),
    "conv_weight_grad": (taps_in_the_border,),
    "convert": (convert_twice,),
    "where": (where_decided, where_negated, where_within, where_clamped),
    "full": (number_of_the_dtype,),
    "reshape": (view_of_nothing, same_view_twice),
    "permute": (view_of_nothing, same_view_twice, transposed_product),
    "expand": (view_of_nothing, same_view_twice),
    "slice": (view_of_nothing, same_view_twice, slice_of_concat),
    "flip": (view_of_nothing, same_view_twice),
    "pad": (view_of_nothing,),
    "concat": (view_of_nothing, concat_of_slices),
    "update_slice": (whole_update,),
    "detach": (detached,),
}


@dataclass(frozen=True)
class Simplify:
    """One sweep in execution order, so that a rule finds its operands simplified already. `strict`: no product is
    turned round, since its kernel may add up in another order then."""

    strict: bool = False
    name: ClassVar[str] = "simplify"

    def run(self, graph: Graph) -> Graph:
        graph = with_bodies(graph, self.run)
        builder = Simplifier(graph, self._rules_for)
        for node in graph.nodes:
            builder.location = node.location
            simpler = None
            if len(node.outputs) == 1 and not node.regions:
                inputs = builder.mapped(node.inputs)
                simpler = builder.simpler(Call(node.op, inputs, node.attrs, node.outputs[0].type))
            if simpler is None:
                builder.keep(node)
            else:
                builder.substitute(node, (simpler,))
        return builder.done()

    def _rules_for(self, op: Op) -> tuple[Rule, ...]:
        """What may apply to an op, in the order of trying."""
        rules = RULES.get(op.name, ())
        if self.strict:
            rules = tuple(rule for rule in rules if rule is not transposed_product)
        return (*rules, broadcast_operands) if op.lowering == "pointwise" else rules
