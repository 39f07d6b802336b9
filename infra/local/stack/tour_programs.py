"""The programs of the tour: only what the languages themselves bring, so that they run anywhere."""

from __future__ import annotations

MEAN = """\
import statistics
months = {"Jan": 120, "Feb": 95, "Mar": 143}
print("mean of", ", ".join(months), "=", round(statistics.mean(months.values()), 1))
"""

SHOUT = """\
tr 'a-z' 'A-Z' < /dev/stdin
"""

#: Bars as a PNG: signature, header, compressed rows that each begin with filter 0, end.
PLOT = """\
import os, struct, zlib
totals, width, height = {"Jan": 120, "Feb": 95, "Mar": 143}, 300, 160

def pixel(x, y):
    bar, at = divmod(x, width // len(totals))
    inside = at >= 20 and height - y <= list(totals.values())[bar]
    return bytes((37, 99, 235) if inside else (255, 255, 255))

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

rows = b"".join(b"\\0" + b"".join(pixel(x, y) for x in range(width)) for y in range(height))
with open(os.path.join(os.environ["OUT_DIR"], "totals.png"), "wb") as file:
    file.write(b"\\x89PNG\\r\\n\\x1a\\n")
    file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
print("plotted", ", ".join(totals))
"""
