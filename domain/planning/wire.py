"""Reads answers of chat completions, whole and streamed, no further than they may be long.

The library's own readers take whatever comes, however long it is; and servers that only resemble
OpenAI's leave out fields that its classes demand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, ValidationError

from domain.planning.answers import MAX_ANSWER_BYTES
from domain.strict_json import MAX_DEPTH, InvalidJson, read_json

#: Bytes that carry one streamed token: an event repeats the call's id and model around each.
_BYTES_PER_EVENT = 1024

#: Values and keys in an answer or an event, log probabilities that nobody asked for included.
_MAX_NODES = 20_000


class AnswerCut(Exception):
    """The connection ended before the answer did."""


class AnswerTooLong(Exception):
    """The answer is longer than any that could be of use."""


class NotAnAnswer(Exception):
    """What came is not an answer of chat completions."""


class ProviderFailed(Exception):
    """The provider reported a failure in the middle of its answer."""


@dataclass(slots=True)
class Said:
    """What has been understood of an answer so far."""

    parts: list[str] = field(default_factory=list)
    refusal: str = ""
    finish_reason: str | None = None
    usage: Any = None
    bytes_read: int = 0

    @property
    def text(self) -> str:
        """The content of the message."""
        return "".join(self.parts)


class _Tolerant(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Message(_Tolerant):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Tolerant):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Completion(_Tolerant):
    choices: Annotated[list[_Choice], FailFast()] = []
    usage: Any = None
    error: Any = None


async def read_whole(chunks: AsyncIterator[bytes], said: Said) -> None:
    """Read an answer that comes as one JSON document.

    Raises:
        AnswerTooLong, NotAnAnswer: see there.
    """
    body = bytearray()
    # As JSON inside of JSON, a character may take six.
    async for chunk in _counted(chunks, said, 6 * MAX_ANSWER_BYTES):
        body += chunk
    completion = _parsed(bytes(body))
    if not completion.choices:
        raise NotAnAnswer("it has no choices")
    _take(completion, said)


async def read_stream(chunks: AsyncIterator[bytes], said: Said, output_tokens: int) -> None:
    """Read an answer that comes as server-sent events, into ``said`` as it comes.

    Raises:
        AnswerCut: the events ended before the answer did.
        AnswerTooLong, NotAnAnswer, ProviderFailed: see there.
    """
    size = 0
    done = False
    most = 6 * MAX_ANSWER_BYTES + _BYTES_PER_EVENT * output_tokens
    async for data in _events(_counted(chunks, said, most)):
        if data == b"[DONE]":
            done = True
            break
        completion = _parsed(data)
        if completion.error is not None:
            raise ProviderFailed(_message_of(completion.error))
        size += _take(completion, said)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLong(f"more than {MAX_ANSWER_BYTES} bytes")
    if not done and said.finish_reason is None:
        raise AnswerCut("the stream ended in the middle of the answer")


def _take(completion: _Completion, said: Said) -> int:
    """Note what a part of the answer says; how many characters of content that is."""
    size = 0
    if completion.usage is not None:
        said.usage = completion.usage
    for choice in completion.choices[:1]:
        part = choice.message or choice.delta or _Message()
        said.parts.append(part.content or "")
        size = len(said.parts[-1])
        said.refusal += (part.refusal or "")[:1000]
        said.finish_reason = choice.finish_reason or said.finish_reason
    return size


async def _counted(chunks: AsyncIterator[bytes], said: Said, most: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        said.bytes_read += len(chunk)
        if said.bytes_read > most:
            raise AnswerTooLong(f"more than {most} bytes")
        yield chunk


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events: of each line ``data: …``, as this API sends them."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()


def _parsed(data: bytes) -> _Completion:
    try:
        return _Completion.model_validate(
            read_json(data, max_nodes=_MAX_NODES, max_depth=MAX_DEPTH)
        )
    except InvalidJson as error:
        raise NotAnAnswer(str(error)) from None
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise NotAnAnswer(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"[:300]) from None


def _message_of(error: Any) -> str:  # noqa: ANN401 whatever the provider sent
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:300]
