"""The media type of an artifact, by its name; what a browser may show it as, by its content too.

Whether a browser may show it inline also depends on the content, which must be what the name says.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

UNKNOWN = "application/octet-stream"

#: A fixed list, so that the result does not depend on the machine's ``mime.types``.
_TYPES = {
    ".bmp": "image/bmp",
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".htm": "text/html",
    ".html": "text/html",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xml": "application/xml",
    ".zip": "application/zip",
}

#: How contents of pictures begin; WebP has its mark after the length.
_PICTURES = {
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    # Scripts in it do not run, because of the Content-Security-Policy that artifacts are sent with.
    "image/svg+xml": re.compile(rb"[^\x00]{0,4096}<svg[\s>/]", re.DOTALL),
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}

#: Types that are shown as plain text.
_READABLE = frozenset(
    {
        "application/json",
        "text/csv",
        "text/markdown",
        "text/plain",
        "text/tab-separated-values",
    }
)


def media_type_of(name: str) -> str:
    """The media type of a file of this name."""
    return _TYPES.get(PurePosixPath(name).suffix.lower(), UNKNOWN)


def picture_type(media_type: str, content: bytes) -> str | None:
    """``media_type`` if it is a picture's and the content begins like one; else None."""
    begins = _PICTURES.get(media_type)
    return media_type if begins is not None and begins.match(content) else None


def shown_as(media_type: str, content: bytes) -> str | None:
    """The media type as which a browser may show a file inline; None if it must download it.

    A picture whose content does not begin like one is not shown; text is shown as plain text.
    """
    return "text/plain" if media_type in _READABLE else picture_type(media_type, content)
