"""A small memory of what was looked up, so that not every request asks the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

#: For how long a value is believed without asking again, in seconds, and how many are kept.
TTL_SECONDS = 30.0
MAX_ENTRIES = 10_000


class TtlCache(Generic[Value]):
    """The last `MAX_ENTRIES` values, each for `TTL_SECONDS`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def get(self, key: bytes) -> Value | None:
        """The value under ``key``, if it is young enough."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    def put(self, key: bytes, value: Value) -> None:
        """Remember ``value``."""
        self._entries[key] = (self._clock() + TTL_SECONDS, value)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def drop(self, unwanted: Callable[[Value], bool]) -> None:
        """Forget the values that are ``unwanted``."""
        for key in [key for key, (_, value) in self._entries.items() if unwanted(value)]:
            del self._entries[key]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
