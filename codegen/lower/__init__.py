"""Fused graphs to loop programs: `lower_graph`, and a lowering for each kind of group."""

from .context import LowerContext, LowerOptions
from .program import lower_graph

__all__ = ["LowerContext", "LowerOptions", "lower_graph"]
