"""The graph IR: types, graphs, op declarations, and what is derived from them."""
