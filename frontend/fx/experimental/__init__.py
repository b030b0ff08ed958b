"""`torch.fx.experimental`: what programs ask about tracing by PyTorch's own tools."""
