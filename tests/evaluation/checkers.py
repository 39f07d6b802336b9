"""Checkers of outputs: strict about the answer, lenient about what no user would mind.

Outputs come from programs that a model wrote: whatever one holds, `judge` says what is wrong with
it and raises nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import wave
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from tests.evaluation.case import Checker, Output

#: Bytes that one member of an archive may take unpacked.
_MAX_UNPACKED = 4 * 1024**2

_UNREADABLE = (
    ValueError,  # also bad JSON, bad UTF-8, and more than Python wants to parse of an int
    EOFError,
    OSError,  # also what Pillow and gzip say
    RecursionError,
    csv.Error,
    sqlite3.Error,
    wave.Error,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,  # a zip with a method that zipfile lacks
    RuntimeError,  # an encrypted zip
    ElementTree.ParseError,
    Image.DecompressionBombError,
)


class _MissingArtifact(ValueError):
    """A file that was asked for is not there."""


def judge(right: Checker, output: Output) -> str | None:
    """What is wrong with ``output``, in a sentence; None where it is right."""
    try:
        return right(output)
    except _UNREADABLE as error:
        return f"{type(error).__name__}: {error}"[:500]


def all_of(*checkers: Checker) -> Checker:
    """Each of ``checkers`` must find it right."""

    def check(output: Output) -> str | None:
        return next((wrong for each in checkers if (wrong := each(output))), None)

    return check


def text(expected: str, name: str | None = None) -> Checker:
    """Exactly this text, white space at the ends of lines and of the whole aside."""

    def check(output: Output) -> str | None:
        return _unequal(_clean(_read(output, name)), _clean(expected))

    return check


def any_order(*expected: str) -> Checker:
    """Exactly these lines, in whatever order."""

    def check(output: Output) -> str | None:
        found = [line.strip() for line in output.stdout.splitlines() if line.strip()]
        if Counter(found) == Counter(expected):
            return None
        return _unequal(sorted(found), sorted(expected))

    return check


def matches(pattern: str, name: str | None = None) -> Checker:
    """The whole text, cleaned, matches the regular expression."""

    def check(output: Output) -> str | None:
        found = _clean(_read(output, name))
        return None if re.fullmatch(pattern, found) else f"{_short(found)} does not match {pattern}"

    return check


def number(expected: float, *given: float, within: float = 0.0) -> Checker:
    """The last number printed; words around it do not matter.

    Args:
        expected: the answer.
        given: numbers of the question, which may be repeated: "1229 primes are below 10000".
        within: absolute tolerance.
    """

    def check(output: Output) -> str | None:
        found = _numbers(output.stdout)
        answers = [each for each in found if each not in given] or found
        if not answers:
            return f"no number in {_short(output.stdout)}"
        return None if _close(answers[-1], expected, within) else _unequal(answers[-1], expected)

    return check


def numbers(*expected: float, within: float = 0.0) -> Checker:
    """Exactly these numbers are printed, in this order; words around them do not matter."""

    def check(output: Output) -> str | None:
        found = _numbers(output.stdout)
        right = len(found) == len(expected) and all(
            _close(one, other, within) for one, other in zip(found, expected, strict=True)
        )
        return None if right else _unequal(found, list(expected))

    return check


def json_value(expected: object, name: str | None = None, within: float = 1e-9) -> Checker:
    """Exactly this JSON value: numbers within ``within``, members of objects in whatever order."""

    def check(output: Output) -> str | None:
        found = json.loads(_read(output, name))
        return None if _same(found, expected, within) else _difference(found, expected)

    return check


def json_lines(*expected: object) -> Checker:
    """One JSON value on each line, in this order."""

    def check(output: Output) -> str | None:
        found = [json.loads(line) for line in output.stdout.splitlines() if line.strip()]
        right = _same(found, list(expected), 1e-9)
        return None if right else _difference(found, list(expected))

    return check


def csv_rows(*expected: Sequence[str], name: str | None = None) -> Checker:
    """These rows of a CSV file, its header the first; how cells are quoted does not matter."""

    def check(output: Output) -> str | None:
        rows = csv.reader(io.StringIO(_read(output, name)))
        found = [[cell.strip() for cell in row] for row in rows if row]
        return _unequal(found, [list(row) for row in expected])

    return check


def image(
    name: str,
    size: tuple[int, int],
    pixels: Mapping[tuple[int, int], tuple[int, int, int]],
    kind: str = "PNG",
) -> Checker:
    """A picture of this kind and size, with these colours (red, green, blue) at these places."""

    def check(output: Output) -> str | None:
        with Image.open(io.BytesIO(_content(output, name))) as picture:
            if picture.format != kind or picture.size != size:
                return _unequal((picture.format, picture.size), (kind, size))
            colours = picture.convert("RGB")
        for place, colour in pixels.items():
            if (found := colours.getpixel(place)) != colour:
                return f"at {place}: {_unequal(found, colour)}"
        return None

    return check


def xml_counts(name: str, **expected: int) -> Checker:
    """How many elements of each name an XML or SVG file has."""

    def check(output: Output) -> str | None:
        # External entities are never fetched, and expat stops those that multiply.
        root = ElementTree.fromstring(_content(output, name))
        tags = Counter(each.tag.rpartition("}")[2] for each in root.iter())
        return _unequal({tag: tags[tag] for tag in expected}, expected)

    return check


def html_table(name: str, *expected: Sequence[str]) -> Checker:
    """The cells of all rows of the tables in an HTML file."""

    def check(output: Output) -> str | None:
        reader = _Cells()
        reader.feed(_read(output, name))
        return _unequal(reader.rows, [list(row) for row in expected])

    return check


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] = (self.rows[-1][-1] + data).strip()


def archive(name: str, members: Mapping[str, str]) -> Checker:
    """A zip file with exactly these text files, folders aside."""

    def check(output: Output) -> str | None:
        with zipfile.ZipFile(io.BytesIO(_content(output, name))) as opened:
            files = [each for each in opened.infolist() if not each.is_dir()]
            if any(each.file_size > _MAX_UNPACKED for each in files):
                return "a member is far too large"
            found = {each.filename: _clean(opened.read(each).decode()) for each in files}
        return _unequal(found, {path: _clean(content) for path, content in members.items()})

    return check


def gzipped(name: str, expected: str) -> Checker:
    """A gzip file of this text."""

    def check(output: Output) -> str | None:
        unpacking = zlib.decompressobj(wbits=31)
        found = unpacking.decompress(_content(output, name), _MAX_UNPACKED)
        if not unpacking.eof:
            return "it is cut short or far too large"
        return _unequal(_clean(found.decode()), _clean(expected))

    return check


def database(name: str, query: str, *expected: Sequence[object]) -> Checker:
    """An SQLite database in which ``query`` gives these rows."""

    def check(output: Output) -> str | None:
        content = _content(output, name)
        if not content:  # deserialize would want memory without end
            return "it is empty"
        connection = sqlite3.connect(":memory:")
        try:
            connection.deserialize(content)
            found = connection.execute(query).fetchmany(len(expected) + 1)
        finally:
            connection.close()
        return _unequal(found, [tuple(row) for row in expected])

    return check


def tone(name: str, hertz: float, seconds: float, rate: int) -> Checker:
    """A mono WAV file of 16 bits with one tone; its pitch is counted by its zero crossings."""

    def check(output: Output) -> str | None:
        with wave.open(io.BytesIO(_content(output, name))) as sound:
            form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            frames = sound.getnframes()
            if form != (1, 2, rate) or abs(frames - rate * seconds) > 1:
                return _unequal((*form, frames), (1, 2, rate, rate * seconds))
            samples = memoryview(sound.readframes(frames)).cast("h")
        signs = [sample > 0 for sample in samples if sample]
        ups = sum(not one and other for one, other in pairwise(signs))
        if abs(ups / seconds - hertz) > 2:
            return _unequal(f"{ups / seconds:g} Hz", f"{hertz:g} Hz")
        return None

    return check


def only(*names: str) -> Checker:
    """These artifacts and no others."""

    def check(output: Output) -> str | None:
        return _unequal(sorted(output.artifacts), sorted(names))

    return check


def _content(output: Output, name: str) -> bytes:
    if name not in output.artifacts:
        found = ", ".join(sorted(output.artifacts)) or "none"
        raise _MissingArtifact(f"no artifact {name}; there are: {found}")
    return output.artifacts[name]


def _read(output: Output, name: str | None) -> str:
    return output.stdout if name is None else _content(output, name).decode("utf-8-sig")


def _clean(raw: str) -> str:
    return "\n".join(line.rstrip() for line in raw.strip().splitlines())


_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")


def _numbers(raw: str) -> list[float]:
    """All numbers in a text; whole ones as int, so that no digit of a large one is lost."""
    found: list[float] = []
    for match in _NUMBER.findall(raw):
        digits = match.replace(",", "").replace("−", "-")
        found.append(int(digits) if digits.lstrip("+-").isdigit() else float(digits))
    return found


def _close(found: float, expected: float, within: float) -> bool:
    """Exact unless there is a tolerance: floats cannot tell neighbouring large integers apart."""
    return found == expected or (within > 0 and abs(found - expected) <= within)


def _same(found: Any, expected: Any, within: float) -> bool:
    """Equality of JSON values; unlike Python's, ``true`` is not 1."""
    if isinstance(expected, bool) or isinstance(found, bool):
        return found is expected
    if isinstance(expected, int | float):
        return isinstance(found, int | float) and _close(found, expected, within)
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_same(found[key], expected[key], within) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(_same(one, other, within) for one, other in zip(found, expected, strict=True))
        )
    return type(found) is type(expected) and bool(found == expected)


def _unequal(found: object, expected: object) -> str | None:
    return None if found == expected else _difference(found, expected)


def _difference(found: object, expected: object) -> str:
    return f"found {_short(found)}, expected {_short(expected)}"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 240 else f"{shown[:240]}…"
