"""Transforms of graphs, a file each; `pipeline.py` is the visible list of them."""
