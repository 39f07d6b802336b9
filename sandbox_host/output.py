"""What a program writes, kept up to a cap and always valid text."""

from __future__ import annotations

import codecs

#: A program that writes this much to one stream is killed; up to here output is only cut.
FLOOD_BYTES = 16 * 1024**2

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SHORT_ESCAPES = frozenset('"\\\b\f\n\r\t')
_FIRST_PRINTABLE = 0x20


class CappedStream:
    """Keeps the beginning of a byte stream and counts the rest.

    Args:
        cap: bytes kept, measured as UTF-8 *encoded in JSON*, where a quote takes two bytes and a
            control character six; so the kept text never grows past the cap in a message.
    """

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._kept = bytearray()
        self._text: str | None = None
        self._cut = False
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
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
            self._text = _cut_to_json_size(decoded, self._cap)
            self._cut = not complete or len(self._text) < len(decoded)
        return self._text


def _cut_to_json_size(text: str, cap: int) -> str:
    """The longest beginning of ``text`` that takes at most ``cap`` bytes inside a JSON string."""
    used = 0
    for index, character in enumerate(text):
        used += _json_size(character)
        if used > cap:
            return text[:index]
    return text


def _json_size(character: str) -> int:
    if character in _SHORT_ESCAPES:
        return 2
    if ord(character) < _FIRST_PRINTABLE:
        return 6
    return 1 if character.isascii() else len(character.encode())
