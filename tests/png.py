"""Reading screenshots."""

from __future__ import annotations

import struct
import zlib


def pixels_of(data: bytes) -> list[list[bytes]]:
    """Rows of pixels of an 8-bit RGB or RGBA PNG (https://www.w3.org/TR/png/), unfiltered."""
    width, height = struct.unpack(">II", data[16:24])
    size = {2: 3, 6: 4}[data[25]]
    packed, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(packed), width * size
    rows, before = [], bytearray(stride)
    for y in range(height):
        start = y * (stride + 1)
        row = bytearray(raw[start + 1 : start + 1 + stride])
        _unfilter(raw[start], row, before, size)
        rows.append([bytes(row[x : x + 3]) for x in range(0, stride, size)])
        before = row
    return rows


def _unfilter(kind: int, row: bytearray, above: bytearray, size: int) -> None:
    for x in range(len(row)):
        left = row[x - size] if x >= size else 0
        corner = above[x - size] if x >= size else 0
        guess = (0, left, above[x], (left + above[x]) // 2, _paeth(left, above[x], corner))[kind]
        row[x] = (row[x] + guess) & 255


def _paeth(a: int, b: int, c: int) -> int:
    distances = [(abs(b - c), a), (abs(a - c), b), (abs(a + b - 2 * c), c)]
    return min(distances, key=lambda pair: pair[0])[1]
