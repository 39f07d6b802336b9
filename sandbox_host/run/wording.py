"""Removes details of this host from messages for clients."""

from __future__ import annotations

import re

#: A URL, or an absolute path: quoted as Python quotes it, or bare up to what cannot belong to it.
_PATH = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s'\"<>]*"
    r"|(?<=')[~/](?:[^'\\\n]|\\.)*(?=')"
    r'|(?<=")[~/](?:[^"\\\n]|\\.)*(?=")'
    r"|(?<![\w.…/-])~?/[^\s'\"(),;:<>]+",
    re.IGNORECASE,
)


def without_paths(text: str) -> str:
    """``text`` with every absolute path and URL replaced by an ellipsis."""
    return _PATH.sub("…", text)
