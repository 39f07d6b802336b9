"""When two sentences count as the same."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LINE_END = re.compile(r"\r\n?")


def text_hash(text: str) -> bytes:
    """SHA-256 of the text, equal only for texts that are the same to the letter.

    A program may depend on the case of any letter and on any white space within the text, which may
    hold data. So the only differences ignored are white space at the ends, the kind of line ends,
    and canonical equivalence (Unicode's NFC).
    """
    exact = _LINE_END.sub("\n", unicodedata.normalize("NFC", text).strip())
    return hashlib.sha256(exact.encode(errors="surrogatepass")).digest()
