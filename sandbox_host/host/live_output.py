"""A program's output that has not been reported to the application yet."""

from __future__ import annotations

import codecs
from typing import Literal

from domain.contracts.heartbeat import MAX_CHUNK_CHARACTERS, MAX_LIVE_CHARACTERS, OutputChunk

Stream = Literal["stdout", "stderr"]

#: Chunks sent at once. Encoded, a character takes at most six bytes, so this many stay below
#: 150 KB.
CHUNKS_AT_ONCE = 3

#: Bytes decoded at once: together with up to three bytes left over from a divided character, they
#: make no more characters than a chunk may have.
_STEP = MAX_CHUNK_CHARACTERS - 3

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class LiveOutput:
    """The output of one run on its way to the application.

    It takes the first `MAX_LIVE_CHARACTERS` bytes of both streams together (at most as many
    characters), so its memory is bounded and `feed` never waits. `chunks` returns the same chunks
    until `delivered` is called.
    """

    def __init__(self) -> None:
        self._waiting: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in self._waiting}
        self._remaining_bytes = MAX_LIVE_CHARACTERS
        self._sequence = 0
        self._handed: tuple[OutputChunk, ...] = ()

    def feed(self, stream: Stream, data: bytes) -> None:
        """Take the next bytes of a stream; those beyond the limit are dropped."""
        taken = data[: self._remaining_bytes]
        self._remaining_bytes -= len(taken)
        self._waiting[stream] += taken

    def chunks(self) -> tuple[OutputChunk, ...]:
        """The chunks to send now: those not delivered yet, else new ones."""
        if not self._handed:
            self._handed = tuple(self._next_chunks())
        return self._handed

    def delivered(self) -> None:
        """Note that the chunks returned last have arrived."""
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
