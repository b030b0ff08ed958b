"""Compiled programs on a GPU: the device protocol and its driver, the caching allocator, arrays in device memory, and
`GpuGraph`, a graph compiled to PTX."""
