"""The loop IR: one loop-level language for all targets."""
