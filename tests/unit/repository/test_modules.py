"""Every module says what it is for, and a page lists them."""

from __future__ import annotations

import runpy

from tests.support import ROOT


def test_the_page_of_modules_says_what_they_say_themselves() -> None:
    page = runpy.run_path(str(ROOT / ".ci/modules.py"))["page"]()
    assert (ROOT / "docs/modules.md").read_text() == page, "make modules"
