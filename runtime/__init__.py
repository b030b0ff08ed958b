"""What runs: compiled graphs, their native code and its cache on disk, the native call, arenas, threads."""
