"""Files of all kinds, made with what a standard library brings."""

from __future__ import annotations

import gzip
import io
import math
import sqlite3
import struct
import wave
import zipfile
from collections.abc import Callable

from PIL import Image

from tests.evaluation.case import Case, left, node, python
from tests.evaluation.checkers import (
    all_of,
    archive,
    csv_rows,
    database,
    gzipped,
    html_table,
    image,
    json_value,
    only,
    text,
    tone,
    xml_counts,
)

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)

#: A PNG writer that reference programs begin with.
_PNG = """\
import os, struct, zlib

def png(name, rows):
    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    raw = b"".join(b"\\0" + b"".join(bytes(pixel) for pixel in row) for row in rows)
    with open(os.path.join(os.environ["OUT_DIR"], name), "wb") as file:
        file.write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header)
                   + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))

"""


def _picture(
    size: tuple[int, int],
    colour: Callable[[int, int], tuple[int, int, int]],
    kind: str = "PNG",
) -> bytes:
    drawn = Image.new("RGB", size)
    drawn.putdata([colour(x, y) for y in range(size[1]) for x in range(size[0])])
    content = io.BytesIO()
    drawn.save(content, kind)
    return content.getvalue()


def zipped(members: dict[str, str]) -> bytes:
    """A zip file of these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, member in members.items():
            packed.writestr(name, member)
    return content.getvalue()


def _sound(hertz: float, channels: int = 1) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as sound:
        sound.setparams((channels, 2, 8000, 0, "NONE", ""))
        for n in range(8000):
            sample = round(16000 * math.sin(2 * math.pi * hertz * n / 8000))
            sound.writeframes(struct.pack("<h", sample) * channels)
    return content.getvalue()


def _stock(*rows: tuple[str, int]) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table stock (item text, amount integer)")
    connection.executemany("insert into stock values (?, ?)", rows)
    connection.commit()
    return connection.serialize()


def _rss(*titles: str) -> str:
    items = "".join(f"<item><title>{title}</title></item>" for title in titles)
    return f"<rss><channel><title>News</title>{items}</channel></rss>"


CASES = (
    Case(
        "squares-csv",
        "easy",
        "Save a CSV file squares.csv with the header n,square and the numbers 1 to 5 with their "
        "squares.",
        python("""\
import csv, os
with open(os.path.join(os.environ["OUT_DIR"], "squares.csv"), "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["n", "square"])
    writer.writerows([n, n * n] for n in range(1, 6))
"""),
        csv_rows(
            ["n", "square"],
            *([str(n), str(n * n)] for n in range(1, 6)),
            name="squares.csv",
        ),
        left(
            {"squares.csv": "1,1\n2,4\n3,9\n4,16\n5,25\n"},
            {"squares.csv": "n,square\n0,0\n1,1\n2,4\n3,9\n4,16\n"},
            {"square.csv": "n,square\n1,1\n2,4\n3,9\n4,16\n5,25\n"},
        ),
    ),
    Case(
        "report-json",
        "easy",
        "Write report.json with the number of items, their total and the dearest one's name, as "
        "count, total and dearest: tea 3.50, cake 4.25, juice 2.75",
        node("""\
const fs = require("fs"), path = require("path");
const items = [["tea", 3.5], ["cake", 4.25], ["juice", 2.75]];
fs.writeFileSync(path.join(process.env.OUT_DIR, "report.json"), JSON.stringify({
  count: items.length,
  total: items.reduce((sum, [, price]) => sum + price, 0),
  dearest: items.reduce((a, b) => (b[1] > a[1] ? b : a))[0],
}));
"""),
        json_value({"count": 3, "total": 10.5, "dearest": "cake"}, "report.json"),
        left(
            {"report.json": '{"count": 3, "total": 10.5, "dearest": 4.25}'},
            {"report.json": '{"count": "3", "total": 10.5, "dearest": "cake"}'},
        ),
    ),
    Case(
        "red-picture",
        "medium",
        "Make a PNG of 64 by 48 pixels, all pure red, named red.png. Only the standard library, no "
        "Pillow.",
        python(_PNG + 'png("red.png", [[(255, 0, 0)] * 64] * 48)\n'),
        image("red.png", (64, 48), dict.fromkeys(((0, 0), (63, 47), (30, 20)), RED)),
        left(
            {"red.png": _picture((48, 64), lambda x, y: RED)},
            {"red.png": _picture((64, 48), lambda x, y: BLUE)},
            {"red.png": _picture((64, 48), lambda x, y: RED, "BMP")},
            {"red.png": "<svg/>"},
        ),
    ),
    Case(
        "chessboard",
        "hard",
        "Draw a chessboard as board.png: 8 by 8 fields of 10 pixels each, the field in the top "
        "left corner white, the others alternating black and white. No third-party libraries.",
        python(
            _PNG
            + """\
row = lambda y: [((255,) * 3, (0,) * 3)[(x // 10 + y // 10) % 2] for x in range(80)]
png("board.png", [row(y) for y in range(80)])
"""
        ),
        image(
            "board.png",
            (80, 80),
            {(5, 5): WHITE, (15, 5): BLACK, (5, 15): BLACK, (75, 75): WHITE, (75, 5): BLACK},
        ),
        left(
            {"board.png": _picture((80, 80), lambda x, y: (BLACK, WHITE)[(x // 10 + y // 10) % 2])},
            {"board.png": _picture((80, 80), lambda x, y: (WHITE, BLACK)[x // 10 % 2])},
            {"board.png": _picture((8, 8), lambda x, y: (WHITE, BLACK)[(x + y) % 2])},
        ),
    ),
    Case(
        "bar-plot",
        "hard",
        "Plot these totals as bars, a PNG totals.png of 300 by 200 pixels on white: Jan 50, Feb "
        "200, Mar 100. Each bar takes a third of the width, stands on the bottom edge, is as many "
        "pixels high as its total, and pure blue. No axes or labels, standard library only.",
        python(
            _PNG
            + """\
totals = [50, 200, 100]
pixel = lambda x, y: (0, 0, 255) if 200 - y <= totals[x // 100] else (255, 255, 255)
png("totals.png", [[pixel(x, y) for x in range(300)] for y in range(200)])
"""
        ),
        image(
            "totals.png",
            (300, 200),
            {
                **{(50, 195): BLUE, (50, 155): BLUE, (50, 145): WHITE, (50, 5): WHITE},
                **{(150, 195): BLUE, (150, 5): BLUE},
                **{(250, 195): BLUE, (250, 105): BLUE, (250, 95): WHITE},
            },
        ),
        left(
            # Upside down: bars that hang from the top edge.
            {
                "totals.png": _picture(
                    (300, 200), lambda x, y: BLUE if y < (50, 200, 100)[x // 100] else WHITE
                )
            },
            {"totals.png": _picture((300, 200), lambda x, y: WHITE)},
        ),
    ),
    Case(
        "bar-chart-svg",
        "medium",
        "Draw an SVG bar chart chart.svg with exactly one rect element for each of Jan 120, Feb "
        "95, Mar 143 (no rect for the background) and exactly one text element with each month's "
        "name.",
        python("""\
import os
bars = ""
for i, (month, total) in enumerate([("Jan", 120), ("Feb", 95), ("Mar", 143)]):
    bars += f'<rect x="{i * 60 + 10}" y="{150 - total}" width="40" height="{total}"/>'
    bars += f'<text x="{i * 60 + 15}" y="170">{month}</text>'
with open(os.path.join(os.environ["OUT_DIR"], "chart.svg"), "w") as file:
    file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="200" height="180">{bars}</svg>')
"""),
        xml_counts("chart.svg", svg=1, rect=3, text=3),
        left(
            {"chart.svg": "<svg><rect/><rect/><rect/><rect/><text/><text/><text/></svg>"},
            {"chart.svg": "<svg><rect/><rect/><rect/></svg>"},
            {"chart.svg": "<svg><rect/><rect/><rect/><text/><text/><text/>"},
        ),
    ),
    Case(
        "zip",
        "medium",
        "Pack two text files into notes.zip: a.txt that says 'alpha' and docs/b.txt that says "
        "'beta'.",
        python("""\
import os, zipfile
with zipfile.ZipFile(os.path.join(os.environ["OUT_DIR"], "notes.zip"), "w") as packed:
    packed.writestr("a.txt", "alpha")
    packed.writestr("docs/b.txt", "beta")
"""),
        archive("notes.zip", {"a.txt": "alpha", "docs/b.txt": "beta"}),
        left(
            {"notes.zip": zipped({"a.txt": "alpha", "b.txt": "beta"})},
            {"notes.zip": zipped({"a.txt": "beta", "docs/b.txt": "alpha"})},
            {"notes.zip": "a.txt docs/b.txt"},
        ),
    ),
    Case(
        "gzip",
        "easy",
        "Write the numbers 1 to 1000, one per line, gzip-compressed into numbers.txt.gz",
        python("""\
import gzip, os
with gzip.open(os.path.join(os.environ["OUT_DIR"], "numbers.txt.gz"), "wt") as file:
    for n in range(1, 1001):
        print(n, file=file)
"""),
        gzipped("numbers.txt.gz", "\n".join(str(n) for n in range(1, 1001))),
        left(
            {"numbers.txt.gz": "\n".join(str(n) for n in range(1, 1001))},
            {"numbers.txt.gz": gzip.compress("\n".join(map(str, range(1000))).encode())},
            {"numbers.txt.gz": gzip.compress(b"1\n2\n3\n")[:-4]},
        ),
    ),
    Case(
        "sqlite",
        "medium",
        "Make an SQLite database stock.db with a table stock (item text, amount integer) and the "
        "rows bolt 40, nut 25, gear 7.",
        python("""\
import os, shutil, sqlite3
db = sqlite3.connect("stock.db")
db.execute("create table stock (item text, amount integer)")
db.executemany("insert into stock values (?, ?)", [("bolt", 40), ("nut", 25), ("gear", 7)])
db.commit()
db.close()
shutil.copy("stock.db", os.environ["OUT_DIR"])
"""),
        database(
            "stock.db",
            "select item, amount from stock order by item",
            *(("bolt", 40), ("gear", 7), ("nut", 25)),
        ),
        left(
            {"stock.db": _stock(("bolt", 40), ("nut", 25))},
            {"stock.db": _stock(("bolt", 25), ("nut", 40), ("gear", 7))},
            {"stock.db": b"SQLite format 3\0" + bytes(200)},
        ),
    ),
    Case(
        "html-table",
        "medium",
        "Make a web page totals.html with a table: a header row month, total, then Jan 120, Feb 95,"
        " Mar 143 and a last row with 'sum' and the sum.",
        python("""\
import os
rows = [("Jan", 120), ("Feb", 95), ("Mar", 143)]
rows.append(("sum", sum(total for _, total in rows)))
body = "".join(f"<tr><td>{month}</td><td>{total}</td></tr>" for month, total in rows)
with open(os.path.join(os.environ["OUT_DIR"], "totals.html"), "w") as file:
    file.write("<!doctype html><title>Totals</title>"
               f"<table><tr><th>month</th><th>total</th></tr>{body}</table>")
"""),
        html_table(
            "totals.html",
            *(["month", "total"], ["Jan", "120"], ["Feb", "95"], ["Mar", "143"], ["sum", "358"]),
        ),
        left(
            {
                "totals.html": "<table><tr><th>month<th>total<tr><td>Jan<td>120<tr><td>Feb<td>95"
                "<tr><td>Mar<td>143</table>"
            },
            {"totals.html": "<table><tr><td>sum</td><td>358</td></tr></table>"},
        ),
    ),
    Case(
        "sine-wave",
        "hard",
        "Generate a one-second 440 Hz sine tone as a.wav: mono, 16 bit, 8000 samples per second.",
        python("""\
import math, os, struct, wave
with wave.open(os.path.join(os.environ["OUT_DIR"], "a.wav"), "wb") as sound:
    sound.setparams((1, 2, 8000, 0, "NONE", ""))
    for n in range(8000):
        sample = round(16000 * math.sin(2 * math.pi * 440 * n / 8000))
        sound.writeframes(struct.pack("<h", sample))
"""),
        tone("a.wav", hertz=440, seconds=1, rate=8000),
        left(
            {"a.wav": _sound(220)},
            {"a.wav": _sound(440, channels=2)},
            {"a.wav": _sound(440)[:4000]},
        ),
    ),
    Case(
        "three-parts",
        "medium",
        "Split the nine words one two three four five six seven eight nine into three files "
        "part-1.txt, part-2.txt and part-3.txt with three words each, one word per line, in their "
        "order.",
        node("""\
const fs = require("fs"), path = require("path");
const words = "one two three four five six seven eight nine".split(" ");
for (let part = 0; part < 3; part++)
  fs.writeFileSync(path.join(process.env.OUT_DIR, `part-${part + 1}.txt`),
                   words.slice(part * 3, part * 3 + 3).join("\\n") + "\\n");
"""),
        all_of(
            only("part-1.txt", "part-2.txt", "part-3.txt"),
            text("one\ntwo\nthree", "part-1.txt"),
            text("four\nfive\nsix", "part-2.txt"),
            text("seven\neight\nnine", "part-3.txt"),
        ),
        left(
            {
                "part-1.txt": "one\nfour\nseven",
                "part-2.txt": "two\nfive\neight",
                "part-3.txt": "three\nsix\nnine",
            },
            {
                "part-0.txt": "one\ntwo\nthree",
                "part-1.txt": "four\nfive\nsix",
                "part-2.txt": "seven\neight\nnine",
            },
        ),
    ),
    Case(
        "feed",
        "medium",
        "Write an RSS file feed.xml with one channel titled News and two items titled 'First & "
        "foremost' and 'Second'. Each item has only a title.",
        python("""\
import os
from xml.etree import ElementTree as ET
rss = ET.Element("rss", version="2.0")
channel = ET.SubElement(rss, "channel")
ET.SubElement(channel, "title").text = "News"
for title in ("First & foremost", "Second"):
    ET.SubElement(ET.SubElement(channel, "item"), "title").text = title
ET.ElementTree(rss).write(os.path.join(os.environ["OUT_DIR"], "feed.xml"), encoding="utf-8")
"""),
        xml_counts("feed.xml", rss=1, channel=1, item=2),
        left(
            {"feed.xml": _rss("First & foremost", "Second")},  # not escaped: not XML
            {"feed.xml": _rss("First &amp; foremost")},
        ),
    ),
)
