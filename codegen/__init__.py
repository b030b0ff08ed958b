"""Code generation: the loop IR, its construction from fused groups, and its emission for each target."""
