"""`torch._higher_order_ops`: functions of functions, by the names under which other libraries import them."""
