"""A small cache whose entries expire, so that not every request queries the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

#: How long an entry is valid, in seconds, and how many entries are kept.
TTL_SECONDS = 30.0
MAX_ENTRIES = 10_000


class TtlCache(Generic[Value]):
    """The last `MAX_ENTRIES` values, each for `TTL_SECONDS`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def get(self, key: bytes) -> Value | None:
        """The value of ``key``; None if there is none or it has expired."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    def put(self, key: bytes, value: Value) -> None:
        """Store ``value``, in place of the oldest entry if there are too many."""
        self._entries[key] = (self._clock() + TTL_SECONDS, value)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def drop(self, unwanted: Callable[[Value], bool]) -> None:
        """Remove the values for which ``unwanted`` holds."""
        for key in [key for key, (_, value) in self._entries.items() if unwanted(value)]:
            del self._entries[key]

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
