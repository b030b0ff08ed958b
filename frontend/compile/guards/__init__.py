"""What a compiled function relies on of Python values outside it, and how calls compare it."""
