"""Keyset pagination by (time, id), newest first, with opaque cursors."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

Item = TypeVar("Item")

MAX_PAGE = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = struct.Struct(">q16s")

#: The first page begins after this: the latest time and the greatest id.
FIRST = (datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1))


class InvalidCursor(ValueError):
    """The cursor was not made by this system."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page; ``next_cursor`` is None on the last one."""

    items: list[Item]
    next_cursor: str | None


def encode_cursor(moment: datetime, row_id: UUID) -> str:
    """The cursor of the page that begins after this row."""
    micros = (moment - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(_FORM.pack(micros, row_id.bytes)).decode()


def decode_cursor(cursor: str | None) -> tuple[datetime, UUID]:
    """Time and id of the row after which the page begins; `FIRST` for None.

    Raises:
        InvalidCursor: not a cursor of `encode_cursor`.
    """
    if cursor is None:
        return FIRST
    try:
        micros, row_id = _FORM.unpack(base64.b64decode(cursor, altchars=b"-_", validate=True))
        return _EPOCH + timedelta(microseconds=micros), UUID(bytes=row_id)
    except (binascii.Error, struct.error, ValueError, OverflowError):
        raise InvalidCursor("cursor: not one of ours; use next_cursor of the page before") from None


def check_limit(limit: int) -> int:
    """``limit`` if it is a page size.

    Raises:
        ValueError: it is not between 1 and `MAX_PAGE`.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: {limit}, allowed are 1 to {MAX_PAGE}")
    return limit


def page_of(rows: list[Item], limit: int, key: str) -> Page[Item]:
    """The page of ``rows``, which were queried with ``limit`` + 1.

    Args:
        rows: with the attributes ``key`` (a datetime) and ``id``.
        limit: the size of the page.
        key: the name of the attribute by which the rows are ordered.
    """
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    cursor = encode_cursor(getattr(last, key), getattr(last, "id"))  # noqa: B009 generic rows
    return Page(rows[:limit], cursor)
