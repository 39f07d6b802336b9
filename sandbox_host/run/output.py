"""A program's output, kept up to a limit and as valid text."""

from __future__ import annotations

import codecs
import json
from bisect import bisect_right
from collections.abc import Callable

#: A program that writes more than this to one stream is killed; up to here, output is only cut.
FLOOD_BYTES = 16 * 1024**2

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class CappedStream:
    """Keeps the beginning of a byte stream and counts the rest.

    Args:
        cap: bytes kept, measured as UTF-8 *encoded in JSON*, in which a quote takes two bytes and a
            control character six; so the text never takes more than the cap in a message.
        tap: called with all bytes as they come, kept or not.
    """

    def __init__(self, cap: int, tap: Callable[[bytes], None] | None = None) -> None:
        self._cap = cap
        self._tap = tap
        self._kept = bytearray()
        self._text: str | None = None
        self._cut = False
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        if self._tap is not None:
            self._tap(data)
        # A byte takes at least one byte in JSON, so more bytes than the cap are never needed.
        remaining_bytes = self._cap - len(self._kept)
        if remaining_bytes > 0:
            self._kept += data[:remaining_bytes]

    @property
    def flooded(self) -> bool:
        """Whether so much was written that the program should be killed."""
        return self.total > FLOOD_BYTES

    @property
    def truncated(self) -> bool:
        """Whether `text` lacks anything that was written."""
        self.text()
        return self._cut

    def text(self) -> str:
        """The kept text; NUL and invalid bytes become U+FFFD, and no character is divided.

        Call it when the stream has ended.
        """
        if self._text is None:
            complete = self.total <= len(self._kept)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            decoded = decoder.decode(bytes(self._kept), final=complete)
            decoded = decoded.replace("\0", _REPLACEMENT)
            self._text = cut_to_json_size(decoded, self._cap)
            self._cut = not complete or len(self._text) < len(decoded)
        return self._text


def stopping_floods(stream: CappedStream, on_flood: Callable[[], None]) -> Callable[[bytes], None]:
    """A sink that feeds ``stream``, and calls ``on_flood`` once far too much was written."""

    def feed(data: bytes) -> None:
        stream.feed(data)
        if stream.flooded:
            on_flood()

    return feed


def cut_to_json_size(text: str, cap: int) -> str:
    """The longest beginning of ``text`` that takes at most ``cap`` bytes inside a JSON string."""
    if json_bytes(text) <= cap:
        return text
    # Each step encodes in C; a loop over the characters would take a hundred times as long.
    end = bisect_right(range(1, len(text) + 1), cap, key=lambda end: json_bytes(text[:end]))
    return text[:end]


def json_bytes(text: str) -> int:
    """Bytes of UTF-8 that ``text`` takes inside a JSON string."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
