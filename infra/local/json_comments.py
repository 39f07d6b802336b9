"""Comments in JSON files, as .NET's readers allow them: ``//`` and ``/* */``."""

from __future__ import annotations

import re

# A string literal is matched first, so that // inside one is not taken for a comment.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def blank_comments(text: str) -> str:
    """``text`` with spaces in place of its comments, so that the positions in errors stay right."""
    return _STRING_OR_COMMENT.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    text = match.group()
    return text if text.startswith('"') else re.sub(r"[^\n]", " ", text)
