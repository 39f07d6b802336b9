"""When two sentences count as the same, and their Unicode forms."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import groupby
from typing import Literal

_LINE_END = re.compile(r"\r\n?")

#: So many marks may follow a letter; no language needs more. Python sorts longer runs in quadratic
#: time.
_MOST_MARKS = 30
_JOINER = "\N{COMBINING GRAPHEME JOINER}"
_MAY_HAVE_MANY = re.compile(rf"[^\x00-\x7f]{{{_MOST_MARKS + 1},}}")


def normalized(form: Literal["NFC", "NFKC"], text: str) -> str:
    """``text`` in a Unicode normal form, in a time that grows with its length alone.

    Runs of marks are parted as in UAX #15, "Stream-Safe Text Process".
    """
    return unicodedata.normalize(form, _MAY_HAVE_MANY.sub(_part_marks, text))


def _part_marks(found: re.Match[str]) -> str:
    parts = []
    for is_mark, run in groupby(found[0], lambda char: unicodedata.combining(char) > 0):
        marks = "".join(run)
        starts = range(0, len(marks), _MOST_MARKS) if is_mark else (0,)
        size = _MOST_MARKS if is_mark else len(marks)
        parts.append(_JOINER.join(marks[start : start + size] for start in starts))
    return "".join(parts)


def text_hash(text: str) -> bytes:
    """SHA-256 of the text, equal only for texts that are the same to the letter.

    A program may depend on the case of any letter and on any white space within the text, which may
    hold data. So the only differences ignored are white space at the ends, the kind of line ends,
    and canonical equivalence (Unicode's NFC).
    """
    exact = _LINE_END.sub("\n", normalized("NFC", text).strip())
    return hashlib.sha256(exact.encode(errors="surrogatepass")).digest()
