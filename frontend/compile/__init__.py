"""Tracing, specialization and calling of compiled functions: what stands behind `torch.compile`."""
