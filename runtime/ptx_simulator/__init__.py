"""PTX run by NumPy: what kernels mean, on a machine without a GPU, and what they do wrong.

`parser` reads the text, `control_flow` makes blocks of it, `decode` turns every instruction into a closure once,
`executor` runs all threads of many blocks in lockstep. `device.SimulatorDevice` is the door.
"""
