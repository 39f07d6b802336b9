"""Loads named SQL statements from ``.sql`` files.

A statement begins with a line ``-- name: some_name`` and ends before the next such line or at the
end of the file; its parameters are psycopg's ``%(name)s``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)[ \t]*$", re.MULTILINE)


def load_statements(path: Path) -> Mapping[str, bytes]:
    """The statements of a file by name, as bytes, which psycopg uses without conversion.

    Raises:
        ValueError: two statements share a name, or SQL stands before the first name.
    """
    before, *rest = _NAME.split(path.read_text("utf-8"))
    if any(line and not line.startswith("--") for line in map(str.strip, before.splitlines())):
        raise ValueError(f"{path.name}: SQL before the first '-- name:' line")
    statements: dict[str, bytes] = {}
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{path.name}: two statements are named {name!r}")
        statements[name] = text.strip().rstrip(";").encode()
    return statements
