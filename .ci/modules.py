"""Writes docs/modules.md: every module of the product, with the first line of its docstring."""

from __future__ import annotations

import ast
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "modules.md"

_HEAD = """# Every module in a line

The modules of `functions`, `domain`, `sandbox_host` and `infra`, made by `make modules` from their
docstrings. [Architecture](architecture.md) says what the packages are for, and which may import
which.
"""
_PACKAGES = ("functions", "domain", "sandbox_host", "infra")

#: Its docstring is the package's.
_PACKAGE = "__init__.py"


def page() -> str:
    """The page, as it should be."""
    modules = (
        module
        for package in _PACKAGES
        for module in (ROOT / package).rglob("*.py")
        if module.name != _PACKAGE
    )
    parts = [_HEAD]
    in_order = sorted(modules, key=lambda module: (module.parent, module.name))
    for folder, its in groupby(in_order, key=lambda module: module.parent):
        parts.append(f"## {_path(folder)}\n")
        if says := _says(folder / _PACKAGE):
            parts.append(f"{says}\n")
        parts.append("| module | |\n|---|---|")
        parts += [f"| [{one.stem}](../{_path(one)}) | {_says(one)} |" for one in its]
        parts.append("")
    return "\n".join(parts)


def _path(place: Path) -> str:
    return place.relative_to(ROOT).as_posix()


def _says(module: Path) -> str:
    source = module.read_text() if module.exists() else ""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("``", "`").replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page())
