"""Tables in plain text. Nothing is cut off, so an id can be copied wherever it is shown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from rich.cells import cell_len

_GAP = 2

#: No column is folded to less than this, characters.
_LEAST_WIDTH = 30


def table_lines(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The rows as lines, without spaces at their ends.

    Args:
        rows: of cells; the first may be the header.
        width: of the terminal, to which the widest column of sentences is folded between words.
            Cells without spaces are never folded, so lines may be longer. None: any width will do.
    """
    cells = [["\\n".join(cell.splitlines()) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip_longest(*cells, fillvalue="")]
    excess = sum(widths) + _GAP * (len(widths) - 1) - (width or 0)
    if width is not None and excess > 0 and (column := _foldable(cells, widths)) is not None:
        widths[column] = max(widths[column] - excess, _LEAST_WIDTH, _longest_word(cells, column))
    return [line for row in cells for line in _folded(row, widths)]


def _foldable(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> int | None:
    """The widest column of sentences; None if there is none."""
    found = [at for at, wide in enumerate(widths) if wide > _LEAST_WIDTH > _word_of(cells, at)]
    return max(found, key=widths.__getitem__, default=None)


def _word_of(cells: Sequence[Sequence[str]], column: int) -> int:
    """Length of the longest cell of a column that is a single word, such as an id."""
    return max((len(row[column]) for row in cells if " " not in row[column]), default=0)


def _longest_word(cells: Sequence[Sequence[str]], column: int) -> int:
    return max((len(word) for row in cells for word in row[column].split()), default=0)


def _folded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [
        textwrap.wrap(cell, wide, break_long_words=False, break_on_hyphens=False)
        if cell_len(cell) > wide
        else [cell]
        for cell, wide in zip(row, widths, strict=True)
    ]
    return [
        (" " * _GAP)
        .join(part + " " * (wide - cell_len(part)) for part, wide in zip(line, widths, strict=True))
        .rstrip()
        for line in zip_longest(*parts, fillvalue="")
    ]
