"""What a program writes, kept up to a cap and always valid text."""

from __future__ import annotations

import codecs
import json
from bisect import bisect_right
from collections.abc import Callable

#: A program that writes this much to one stream is killed; up to here output is only cut.
FLOOD_BYTES = 16 * 1024**2

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class CappedStream:
    """Keeps the beginning of a byte stream and counts the rest.

    Args:
        cap: bytes kept, measured as UTF-8 *encoded in JSON*, where a quote takes two bytes and a
            control character six; so the kept text never grows past the cap in a message.
        tap: is shown the bytes as they come, kept or not.
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
        # A byte never takes less than one byte in JSON, so more than the cap is never of use.
        room = self._cap - len(self._kept)
        if room > 0:
            self._kept += data[:room]

    @property
    def flooded(self) -> bool:
        """Whether the stream went so far past any use that its writer should be stopped."""
        return self.total > FLOOD_BYTES

    @property
    def truncated(self) -> bool:
        """Whether `text` lacks something that was written."""
        self.text()
        return self._cut

    def text(self) -> str:
        """The kept text: NUL and invalid bytes are U+FFFD, no code point is cut in two.

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


def cut_to_json_size(text: str, cap: int) -> str:
    """The longest beginning of ``text`` that takes at most ``cap`` bytes inside a JSON string."""
    if json_bytes(text) <= cap:
        return text
    # Each look encodes in C what a loop over the characters would take a hundred times as long for.
    end = bisect_right(range(1, len(text) + 1), cap, key=lambda end: json_bytes(text[:end]))
    return text[:end]


def json_bytes(text: str) -> int:
    """Bytes of UTF-8 that ``text`` takes inside a JSON string."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - len('""')
