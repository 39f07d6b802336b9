"""What clients are told of this host's own troubles."""

from __future__ import annotations

import re

#: A URL, and an absolute path, quoted as Python does it or bare, up to what cannot be of it.
_PATH = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s'\"<>]*"
    r"|(?<=')[~/](?:[^'\\\n]|\\.)*(?=')"
    r'|(?<=")[~/](?:[^"\\\n]|\\.)*(?=")'
    r"|(?<![\w.…/-])~?/[^\s'\"(),;:<>]+",
    re.IGNORECASE,
)


def without_paths(text: str) -> str:
    """``text`` with an ellipsis for every absolute path and URL in it."""
    return _PATH.sub("…", text)
