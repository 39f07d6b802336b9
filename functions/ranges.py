"""Ranges of bytes: the ``Range`` header of RFC 9110, section 14."""

from __future__ import annotations

import re

# Longer numbers are beyond the end of any content.
_ONE = re.compile(
    r"bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*", re.IGNORECASE | re.ASCII
)


class Unsatisfiable(Exception):
    """No byte of the content is in the range."""


def wanted_part(header: str, size: int) -> range | None:
    """The positions that a ``Range`` header asks for; None for the whole content.

    Anything but a single range of bytes gets the whole content, which the RFC allows.

    Raises:
        Unsatisfiable: the range begins after the end, or has no bytes.
    """
    match = _ONE.fullmatch(header)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        part = range(max(size - int(suffix), 0), size)
    else:
        if last is not None and int(last) < int(first):
            return None  # invalid: RFC 9110 says to ignore it
        part = range(int(first), size if last is None else min(int(last) + 1, size))
    if not part:
        raise Unsatisfiable
    return part
