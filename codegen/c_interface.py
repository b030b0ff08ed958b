"""The numbers of an exported library's C interface: dtype codes, statuses, the head of a file of weights.

What writes libraries (`llvm/library.py`), their headers and what loads them agree here. docs/export.md documents them.
"""

from __future__ import annotations

ABI_VERSION = 1
# Of weights in memory and in their file.
ALIGNMENT = 64
# Of a tensor's dtype in the C interface: the position here. Append only.
DTYPES = ("bool", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")

NULL_POINTER, NO_SUCH, BAD_DIMS, SMALL_ARENA, WRONG_CPU, NO_WEIGHTS, WRONG_WEIGHTS = range(-1, -8, -1)
# What each status means, and its name in the header. Those above 0 are the program's own checks.
STATUSES = {
    0: ("OK", ""),
    NULL_POINTER: ("NULL_POINTER", "a null pointer"),
    NO_SUCH: ("NO_SUCH", "there is no input or output of this number"),
    BAD_DIMS: ("BAD_DIMS", "a dim is not within its bounds"),
    SMALL_ARENA: ("SMALL_ARENA", "the arena is null or smaller than arena_bytes(dims)"),
    WRONG_CPU: ("WRONG_CPU", "the library has no code for this processor"),
    NO_WEIGHTS: ("NO_WEIGHTS", "the weights have not been set"),
    WRONG_WEIGHTS: ("WRONG_WEIGHTS", "these are not the weights that belong to the library"),
}

# A file of weights: magic, fingerprint (8 bytes each), the number of bytes of the weights, padding; then the weights.
WEIGHTS_MAGIC = b"VTRFYWT1"
WEIGHTS_HEADER = 64
# Names the functions of a library: they begin with its text and an underscore.
NAME_SYMBOL = "vitrify_exported_name"
