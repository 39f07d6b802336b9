"""When two sentences are the same."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LINE_END = re.compile(r"\r\n?")


def text_hash(text: str) -> bytes:
    """SHA-256 of the text, equal only for texts that ask for the same to the letter.

    What a program was written for may depend on any letter's case and any white space within the
    text, which may hold data. So it forgives only white space at the ends, the kind of line ends,
    and canonical equivalence (Unicode's NFC).
    """
    exact = _LINE_END.sub("\n", unicodedata.normalize("NFC", text).strip())
    return hashlib.sha256(exact.encode(errors="surrogatepass")).digest()
