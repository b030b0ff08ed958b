"""The C header of an exported library."""

from __future__ import annotations

import textwrap

from ..codegen.c_interface import ABI_VERSION, DTYPES, STATUSES
from ..codegen.library import Library, Slot

_C_TYPES = {
    "bool": "uint8_t",
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "u64": "uint64_t",
    "i8": "int8_t",
    "i16": "int16_t",
    "i32": "int32_t",
    "i64": "int64_t",
    "f16": "uint16_t",
    "bf16": "uint16_t",
    "f32": "float",
    "f64": "double",
}


def header_text(library: Library) -> str:
    """Declarations of the library's functions, with what they take and give in comments."""
    n = library.name
    guard = f"{n.upper()}_H"
    dtypes = ", ".join(f"VITRIFY_{d.upper()} = {i}" for i, d in enumerate(DTYPES))
    statuses = "\n".join(
        f"    VITRIFY_{status} = {code}{',' if code > min(STATUSES) else ' '}"
        + (f"  /* {text} */" if text else "")
        for code, (status, text) in sorted(STATUSES.items(), reverse=True)
    )
    weights = ""
    if library.weights.file is not None:
        weights = f"""
/* Give the library the contents of {library.weights.file}, of `bytes` bytes at an address that is a multiple of 64
   (a mapped file is). They are not copied: they must stay until the last run. Once, before the first run. */
int32_t {n}_set_weights(const void *file, int64_t bytes);
"""
    dims = [
        f"   dims[{i}] = {s.name}, {s.low} to {s.high}"
        if s.high < 1 << 59
        else f"   dims[{i}] = {s.name}, at least {s.low}"
        for i, s in enumerate(library.dims)
    ]
    described = [
        "   inputs:",
        *(_described(i, slot) for i, slot in enumerate(library.inputs)),
        "   outputs:",
        *(_described(i, slot) for i, slot in enumerate(library.outputs)),
        *(["   dims, given to run and others as an array:"] if dims else ["   no dims: they may be NULL"]),
        *(f"  {line}" for line in dims),
    ]
    listing = "\n".join(described)
    return f"""/* {n}: made by vitrify.export. docs/export.md of vitrify has the whole story.

{listing}

   Arrays are row-major and contiguous. All functions may be called from any thread at any time; a run needs an arena
   of its own. They return 0 or a status; none of them allocates memory, prints or ends the program. */

#ifndef {guard}
#define {guard}

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#ifndef VITRIFY_EXPORTED_H
#define VITRIFY_EXPORTED_H

{_wrapped(f"enum vitrify_dtype {{ {dtypes} }};")}

/* A status above 0 is a check of the program that failed: an index out of range, say. Texts: {n}_error(status). */
enum vitrify_status {{
{statuses}
}};

typedef struct vitrify_tensor_info {{
    const char *name;
    int32_t dtype;          /* enum vitrify_dtype; a bool is a byte, f16 and bf16 are two bytes */
    int32_t rank;
    const int64_t *dims;    /* `rank` sizes; -1 for one that depends on the dims of the call */
    const char *shape;      /* the same as text, with names: "[batch, 784]" */
}} vitrify_tensor_info;

typedef struct vitrify_dim_info {{
    const char *name;
    int64_t low, high;      /* both included */
}} vitrify_dim_info;

#endif

#define {n.upper()}_ABI_VERSION {ABI_VERSION}

/* The version of this interface: compare it with {n.upper()}_ABI_VERSION. */
int32_t {n}_abi_version(void);

int32_t {n}_input_count(void);
int32_t {n}_output_count(void);
int32_t {n}_dim_count(void);

/* What input, output or dim number i is; NULL if there is none. */
const vitrify_tensor_info *{n}_input_info(int32_t i);
const vitrify_tensor_info *{n}_output_info(int32_t i);
const vitrify_dim_info *{n}_dim_info(int32_t i);

/* The bytes of scratch memory that a run with these dims needs, at any alignment; below 0: a status. */
int64_t {n}_arena_bytes(const int64_t *dims);

/* The sizes of an input or output for these dims, into `shape`, which holds `rank` of them. */
int32_t {n}_input_shape(int32_t i, const int64_t *dims, int64_t *shape);
int32_t {n}_output_shape(int32_t i, const int64_t *dims, int64_t *shape);

/* Compute the outputs. inputs, outputs: the addresses of the arrays; no output may overlap an input or another output.
   threads: how many may share the work, the caller among them. */
int32_t {n}_run(const void *const *inputs, void *const *outputs, const int64_t *dims,
{" " * (len(n) + 13)}void *arena, int64_t arena_bytes, int32_t threads);

/* What a status means; never NULL. */
const char *{n}_error(int32_t status);

/* The name of the file that holds the weights; NULL where they are in the library. */
const char *{n}_weights_file(void);
{weights}
#ifdef __cplusplus
}}
#endif

#endif
"""


def _described(number: int, slot: Slot) -> str:
    name = slot.name.replace("*/", "")
    shape = "".join(f"[{d}]" for d in slot.type.shape)
    return f"     {number}: {_C_TYPES[slot.type.dtype.name]} {name}{shape} ({slot.type.dtype.name})"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="    ", break_long_words=False)
