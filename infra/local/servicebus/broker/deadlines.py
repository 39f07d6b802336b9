"""Heaps with removable entries: deadlines, and a queue of sequence numbers."""

from __future__ import annotations

import heapq

#: A heap is rebuilt once its entries exceed twice the number of valid ones by more than this.
_SLACK = 64


class Deadlines:
    """One deadline per key; its memory is proportional to the number of keys."""

    def __init__(self) -> None:
        self._current: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def set(self, key: int, when: int | None) -> None:
        """Set the deadline of ``key``; None removes it."""
        if when is None:
            self._current.pop(key, None)
        elif self._current.get(key) != when:
            self._current[key] = when
            heapq.heappush(self._heap, (when, key))
        if len(self._heap) > 2 * len(self._current) + _SLACK:
            self._heap = [(when, key) for key, when in self._current.items()]
            heapq.heapify(self._heap)

    def next(self) -> int | None:
        """The earliest deadline."""
        while self._heap and self._current.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: int) -> int | None:
        """Remove and return one key whose deadline is not after ``now``."""
        when = self.next()
        if when is None or when > now:
            return None
        _, key = heapq.heappop(self._heap)
        del self._current[key]
        return key


class ReadyQueue:
    """Sequence numbers in ascending order; its memory is proportional to their number."""

    def __init__(self) -> None:
        self._members: set[int] = set()
        self._heap: list[int] = []

    def __len__(self) -> int:
        return len(self._members)

    def add(self, sequence_number: int) -> None:
        """Add a number that is not in the queue."""
        self._members.add(sequence_number)
        heapq.heappush(self._heap, sequence_number)

    def discard(self, sequence_number: int) -> None:
        """Remove a number."""
        self._members.discard(sequence_number)
        if len(self._heap) > 2 * len(self._members) + _SLACK:
            self._heap = sorted(self._members)

    def first(self) -> int | None:
        """The lowest number, which stays in the queue."""
        while self._heap and self._heap[0] not in self._members:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None
