"""`torch.onnx`: imports, as programs do at their top; exporting is not there yet and says so where it is called."""
