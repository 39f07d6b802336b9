"""What a program has printed and the application has not been told yet."""

from __future__ import annotations

import codecs
from typing import Literal

from domain.contracts.heartbeat import MAX_CHUNK_CHARACTERS, MAX_LIVE_CHARACTERS, OutputChunk

Stream = Literal["stdout", "stderr"]

#: Chunks handed over at once. Encoded, a character takes six bytes at most, so this many stay
#: below 150 KB.
CHUNKS_AT_ONCE = 3

#: Bytes decoded at once: with up to three left of a character cut before, they make no more
#: characters than a chunk may have.
_STEP = MAX_CHUNK_CHARACTERS - 3

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class LiveOutput:
    """The output of one run on its way to the application.

    Takes the first `MAX_LIVE_CHARACTERS` bytes of both streams together, which are as many
    characters or fewer, so its memory is bounded and `feed` never waits. Chunks are handed out
    again, unchanged, until `delivered` is called.
    """

    def __init__(self) -> None:
        self._waiting: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in self._waiting}
        self._room = MAX_LIVE_CHARACTERS
        self._sequence = 0
        self._handed: tuple[OutputChunk, ...] = ()

    def feed(self, stream: Stream, data: bytes) -> None:
        """Take the next bytes of a stream; what is past the bound is dropped."""
        taken = data[: self._room]
        self._room -= len(taken)
        self._waiting[stream] += taken

    def chunks(self) -> tuple[OutputChunk, ...]:
        """What to send now: what was not delivered before, else what has come since."""
        if not self._handed:
            self._handed = tuple(self._next_chunks())
        return self._handed

    def delivered(self) -> None:
        """The chunks handed out last have arrived."""
        self._handed = ()

    def _next_chunks(self) -> list[OutputChunk]:
        made: list[OutputChunk] = []
        for stream, waiting in self._waiting.items():
            while waiting and len(made) < CHUNKS_AT_ONCE:
                text = self._decoders[stream].decode(bytes(waiting[:_STEP]))
                del waiting[:_STEP]
                if text:
                    text = text.replace("\0", _REPLACEMENT)
                    made.append(OutputChunk(seq=self._sequence, stream=stream, text=text))
                    self._sequence += 1
        return made
