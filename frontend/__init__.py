"""vitrify: PyTorch's API, eager over NumPy, compiled through LLVM."""
