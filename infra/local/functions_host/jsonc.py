"""JSON files as the .NET host reads them: with comments, at most 1 MiB."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from infra.local.functions_host.errors import HostStartupError

MAX_BYTES = 1024**2

# A string literal is matched first, so that // inside one is not taken for a comment.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``, or raise HostStartupError naming the file and the place.

    Comments are allowed because Newtonsoft.Json, which reads these files on Azure, allows them.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise HostStartupError(f"{path}: larger than {MAX_BYTES} bytes; is it the right file?")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise HostStartupError(f"{path}: cannot be read: {error}") from error
    try:
        value = json.loads(_STRING_OR_COMMENT.sub(_blank_comment, text))
    except (ValueError, RecursionError) as error:
        raise HostStartupError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise HostStartupError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _blank_comment(match: re.Match[str]) -> str:
    """Keep strings; turn a comment into blanks, so that error positions stay right."""
    text = match.group()
    return text if text.startswith('"') else re.sub(r"[^\n]", " ", text)
