"""Keys for seals."""

from __future__ import annotations

from pathlib import Path

from infra.local.seal_key import new_seal_key


def new_key(folder: Path, name: str = "seal.pem") -> Path:
    """A new key in a file of ``folder``."""
    path = folder / name
    path.write_text(new_seal_key())
    return path
