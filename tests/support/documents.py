"""The pages that people read."""

from __future__ import annotations

from pathlib import Path

from tests.support import ROOT

PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/README.md"})


def ids(page: Path) -> str:
    """A page's name in the names of tests."""
    return str(page.relative_to(ROOT))
