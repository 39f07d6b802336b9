"""Reads answers of chat completions, whole and streamed, no further than they may be long.

Servers that resemble OpenAI's differ in everything but the gist: they leave out fields or fill them
with null, put the content into parts, and answer in whole where a stream was asked for. What can be
understood is; the library's own readers demand more, and take whatever comes, however long it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.planning.answers import MAX_ANSWER_BYTES
from domain.strict_json import MAX_DEPTH, InvalidJson, read_json

#: Bytes that carry one streamed token: an event repeats the call's id and model around each.
_BYTES_PER_EVENT = 1024

#: Events around those of the tokens: roles, usage, what keeps the connection open.
_MORE_EVENTS = 1_000

#: Values and keys in an answer or an event, log probabilities that nobody asked for included.
_MAX_NODES = 20_000

#: Half of a character, as JSON escapes it; some servers cut an answer in the middle of one.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class AnswerCut(Exception):
    """The connection ended before the answer did."""


class AnswerTooLong(Exception):
    """The answer is longer than any that could be of use."""


class NotAnAnswer(Exception):
    """What came is not an answer of chat completions."""


class ProviderFailed(Exception):
    """The provider reported a failure in place of its answer, or in the middle of it."""


@dataclass(slots=True)
class Said:
    """What has been understood of an answer so far.

    Attributes:
        size: characters of all that the model said.
    """

    parts: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: str = ""
    finish_reason: str | None = None
    usage: Any = None
    bytes_read: int = 0
    size: int = 0

    @property
    def text(self) -> str:
        """The content of the message, or where a server has put the answer instead.

        That is the arguments of the tool by which it holds the model to a form, or, where it takes
        all that the model says for reasoning, that.
        """
        texts = map("".join, (self.parts, self.arguments, self.reasoning))
        text = next((text for text in texts if text.strip()), "")
        # Halves of characters that came one by one are put together.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def read_answer(chunks: AsyncIterator[bytes], said: Said, output_tokens: int) -> None:
    """Read an answer, one JSON document or server-sent events, into ``said`` as it comes.

    Args:
        chunks: of the body.
        said: takes what is understood, of an answer that ends in an exception, too.
        output_tokens: the most that the model may say.

    Raises:
        AnswerCut: it ended before the answer did.
        AnswerTooLong, NotAnAnswer, ProviderFailed: see there.
    """
    # As JSON inside of JSON, a character may take six.
    most = 6 * MAX_ANSWER_BYTES + _BYTES_PER_EVENT * output_tokens
    whole: list[bytes] = []
    events = _Events(2 * output_tokens + _MORE_EVENTS)
    async for line in _lines(_counted(chunks, said, most)):
        if whole or (events.none and line.lstrip().startswith((b"{", b"["))):
            whole.append(line)
        elif any(_take_event(data, said) for data in events.after(line)):
            return
    if whole:
        _take_whole(b"\n".join(whole), said)
    elif any(_take_event(data, said) for data in events.after(b"")):
        return
    elif events.none and said.bytes_read:
        raise NotAnAnswer("it is neither JSON nor server-sent events")
    elif said.finish_reason is None:
        raise AnswerCut("the stream ended in the middle of the answer")


class _Events:
    """The data of server-sent events, line by line.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    def __init__(self, most: int) -> None:
        self._data: list[bytes] = []
        self._left = most
        #: Whether no line was one of a stream.
        self.none = True

    def after(self, line: bytes) -> Iterable[bytes]:
        """What has become whole with a line."""
        name, _, value = line.partition(b":")
        if not line:
            data, self._data = self._data, []
            return self._counted(_separate(data))
        if name in (b"data", b"event", b"id", b"retry", b""):
            self.none = False
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        return ()

    def _counted(self, data: list[bytes]) -> list[bytes]:
        self._left -= len(data)
        if self._left < 0:
            raise AnswerTooLong("more events than the model may say tokens")
        return data


def _separate(lines: list[bytes]) -> list[bytes]:
    """One event's data; several where a server leaves out the empty lines between them."""
    if len(lines) < 2:
        return lines
    try:
        _json(joined := b"\n".join(lines))
    except NotAnAnswer:
        return lines
    return [joined]


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines that end with CRLF, LF or CR, or with the body; without a byte order mark."""
    rest = bytearray()
    first = True
    async for chunk in chunks:
        *ended, begun = chunk.split(b"\n")
        for part in ended:
            for line in _split(bytes(rest) + part, first):
                yield line
            rest.clear()
            first = False
        rest += begun
    if rest:
        for line in _split(bytes(rest), first):
            yield line


def _split(line: bytes, first: bool) -> Iterator[bytes]:
    if first:
        line = line.removeprefix(_BYTE_ORDER_MARK).lstrip()
    yield from line.removesuffix(b"\r").split(b"\r")


async def _counted(chunks: AsyncIterator[bytes], said: Said, most: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        said.bytes_read += len(chunk)
        if said.bytes_read > most:
            raise AnswerTooLong(f"more than {most} bytes")
        yield chunk


def _take_whole(body: bytes, said: Said) -> None:
    if said.bytes_read > 6 * MAX_ANSWER_BYTES:
        raise AnswerTooLong(f"more than {6 * MAX_ANSWER_BYTES} bytes")
    completion = _json(body)
    _take(completion, said)
    if not isinstance(completion.get("choices"), list) or not completion["choices"]:
        raise NotAnAnswer(f"it has no choices: {_message_of(completion)}")


def _take_event(data: bytes, said: Said) -> bool:
    """Note what an event says; whether it is the last."""
    if data.strip() == b"[DONE]":
        return True
    if data.strip():
        _take(_json(data), said)
    return False


def _take(completion: dict[str, Any], said: Said) -> None:
    """Note what a part of the answer, or all of it, says."""
    usage = completion.get("usage") or _field(completion.get("x_groq"), "usage")
    if isinstance(usage, dict):
        said.usage = usage
    if completion.get("error") or completion.get("object") == "error":
        raise ProviderFailed(_message_of(completion))
    choice = _first(completion.get("choices"))
    part = choice.get("message") or choice.get("delta")
    content, call = _field(part, "content"), _first(_field(part, "tool_calls"))
    parts = _texts(choice.get("text") if part is None else content)
    arguments = _texts(_field(call.get("function"), "arguments"))
    reasoning = _texts(_field(part, "reasoning_content") or _field(part, "reasoning"))
    refusals = [*_texts(_field(part, "refusal")), *_texts(content, "refusal")]
    said.parts += parts
    said.arguments += arguments
    said.reasoning += reasoning
    said.refusal = "".join([said.refusal, *refusals])[:1000]
    said.finish_reason = choice.get("finish_reason") or said.finish_reason
    said.size += sum(map(len, (*parts, *arguments, *reasoning)))
    if said.size > 2 * MAX_ANSWER_BYTES:
        raise AnswerTooLong(f"more than {2 * MAX_ANSWER_BYTES} characters")


def _texts(content: object, kind: str = "text") -> list[str]:
    """The texts of a content: a string, parts of some kind, or the answer as JSON itself."""
    if isinstance(content, str):
        return [content] if kind == "text" else []
    if isinstance(content, dict):
        return [json.dumps(content)] if kind == "text" else []
    parts = content if isinstance(content, list) else []
    found = (
        part if isinstance(part, str) and kind == "text" else _field(part, kind)
        for part in parts
        if isinstance(part, str) or _field(part, "type") in (kind, f"output_{kind}", None)
    )
    return [text for text in found if isinstance(text, str)]


def _field(value: object, name: str) -> Any:  # noqa: ANN401 anything JSON
    return value.get(name) if isinstance(value, dict) else None


def _first(values: object) -> dict[str, Any]:
    """The first of several choices or calls."""
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict) and value.get("index") in (0, None):
            return value
    return {}


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = read_json(data, max_nodes=_MAX_NODES, max_depth=MAX_DEPTH)
    except InvalidJson as error:
        if not _HALF.search(data) or len(data) > _BYTES_PER_EVENT * 64:
            raise NotAnAnswer(str(error)[:300]) from None
        value = _with_halves(data)
    if not isinstance(value, dict):
        raise NotAnAnswer("it is not a JSON object")
    return value


def _with_halves(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise NotAnAnswer("it is not JSON") from None


def _message_of(completion: dict[str, Any]) -> str:
    """What a provider says of a failure, wherever it says it."""
    error = completion.get("error")
    for said in (_field(error, "message"), error, *map(completion.get, ("message", "detail"))):
        if said:
            return str(said)[:300]
    return "no more is said"
