"""Reads JSON files with comments, at most 1 MiB, as the .NET host does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.local.functions_host.errors import HostStartupError
from infra.local.json_comments import blank_comments

MAX_BYTES = 1024**2


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Comments are allowed, since Newtonsoft.Json, which reads these files on Azure, allows them.

    Raises:
        HostStartupError: names the file and the position in it.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise HostStartupError(f"{path}: larger than {MAX_BYTES} bytes; is it the right file?")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HostStartupError(f"{path}: cannot be read: {error}") from error
    try:
        value = json.loads(blank_comments(text))
    except (ValueError, RecursionError) as error:
        raise HostStartupError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise HostStartupError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
