"""`torch.onnx.symbolic_opset11`: nothing, for functions that are not called (`symbolic_helper`)."""

__all__: list[str] = []
