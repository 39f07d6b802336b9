"""Parts of a content: ``Range`` of RFC 9110, section 14."""

from __future__ import annotations

import re

# Numbers longer than that are past the end of anything.
_ONE = re.compile(
    r"bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*", re.IGNORECASE | re.ASCII
)


class Unsatisfiable(Exception):
    """No byte of the content is in the range."""


def wanted_part(header: str, size: int) -> range | None:
    """The positions that a ``Range`` header asks for; None for the whole.

    Anything but a single range of bytes is answered with the whole, which the RFC allows.

    Raises:
        Unsatisfiable: it begins past the end, or asks for the last 0 bytes.
    """
    match = _ONE.fullmatch(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        part = range(max(size - int(suffix), 0), size)
    else:
        if last is not None and int(last) < int(first):
            return None  # not a range: RFC 9110 has it ignored
        part = range(int(first), size if last is None else min(int(last) + 1, size))
    if not part:
        raise Unsatisfiable
    return part
