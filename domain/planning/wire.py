"""Reads answers of chat completions, whole and streamed, up to a limit of length.

Servers that resemble OpenAI's differ in many details: they leave out fields or fill them with null,
put the content into parts, and answer as a whole where a stream was asked for. Whatever can be
understood is accepted; the library's own readers demand more, and read answers of any length.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.contracts.strict_json import MAX_DEPTH, InvalidJson, TooMuchJson, read_json
from domain.models.failures import (
    ProviderFailed,
    failure_in,
    failure_of_choice,
    field_of,
    message_in,
)
from domain.planning.answers import MAX_ANSWER_BYTES
from domain.planning.extraction import END_OF_REASONING

#: The most bytes that carry one streamed token: its event repeats the call's id and model.
_BYTES_PER_EVENT = 1024

#: Events besides those of the tokens: roles, usage, what keeps the connection open.
_MORE_EVENTS = 1_000

#: Lines of an event: its data, type and id, and the empty one that ends it. They are bounded
#: because an empty line costs one byte to send, and a thousand times as much to process.
_LINES_PER_EVENT = 4

#: The most values and keys in an answer or an event, with log probabilities nobody asked for.
_MAX_NODES = 20_000

#: Nothing but one JSON object, perhaps in a fence.
_ALL_JSON = re.compile(r"\s*(?:```\w*\s*)?\{.*\}\s*(?:```\s*)?", re.DOTALL)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class AnswerCut(Exception):
    """The connection ended before the answer did."""


class AnswerTooLong(Exception):
    """The answer is longer than any useful one."""


class NotAnAnswer(Exception):
    """What came is not an answer of chat completions."""


@dataclass(slots=True)
class PartialAnswer:
    """What has been understood of an answer so far.

    Attributes:
        size: length of all that the model wrote, characters.
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
        """The content of the message, or what a server put in its place.

        That is the arguments of a tool call, by which some servers enforce the form; or the
        reasoning, where a server takes the whole text for it, if that is nothing but a JSON object.
        Reasoning towards an answer that never came is not an answer.
        """
        *_, thought = END_OF_REASONING.split("".join(self.reasoning))
        if not _ALL_JSON.fullmatch(thought):
            thought = ""
        texts = ("".join(self.parts), "".join(self.arguments), thought)
        text = next((text for text in texts if text.strip()), "")
        # Surrogate halves that came separately are joined.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def read_answer(
    chunks: AsyncIterator[bytes], answer: PartialAnswer, output_tokens: int
) -> None:
    """Read an answer, one JSON document or server-sent events, into ``answer`` as it comes.

    Args:
        chunks: the parts of the body.
        answer: receives what is understood, also of an answer that ends in an exception.
        output_tokens: the most that the model may write.

    Raises:
        AnswerCut: it ended before the answer did.
        AnswerTooLong, NotAnAnswer, ProviderFailed: see there.
    """
    # As JSON inside JSON, a character may take six bytes.
    most = 6 * MAX_ANSWER_BYTES + _BYTES_PER_EVENT * output_tokens
    lines: list[bytes] = []
    most_events = 2 * output_tokens + _MORE_EVENTS
    events = _Events(most_events)
    async for line in _lines(_counted(chunks, answer, most, _LINES_PER_EVENT * most_events)):
        if lines or (events.none and line.lstrip().startswith((b"{", b"["))):
            lines.append(line)
        elif any(_take_event(event, answer) for event in events.after(line)):
            return _check_said_something(answer)
    if len(whole := _documents(lines)) == 1:
        return _take_whole(whole[0], answer)
    if events.none and not whole and answer.bytes_read:
        raise NotAnAnswer("it is neither JSON nor server-sent events")
    last = events.counted([_Event(each) for each in whole]) if whole else events.after(b"")
    if not any(_take_event(event, answer) for event in last) and answer.finish_reason is None:
        raise AnswerCut("the stream ended in the middle of the answer")
    return _check_said_something(answer)


def _check_said_something(answer: PartialAnswer) -> None:
    """Raise unless a stream that has ended held some text, or said how it ended."""
    if answer.finish_reason is None and not answer.size and not answer.refusal:
        raise AnswerCut("the stream ended before the answer began")


def _documents(lines: list[bytes]) -> list[bytes]:
    """One JSON document over several lines, or one in each: a stream without its framing."""
    try:
        _json(lines[0])
    except (IndexError, NotAnAnswer):
        return [b"\n".join(lines)] if lines else []
    return [line for line in lines if line.strip()]


@dataclass(frozen=True, slots=True)
class _Event:
    """One event of a stream; ``failed`` if its name says that it reports an error."""

    data: bytes
    failed: bool = False


class _Events:
    """Server-sent events, line by line.

    llama.cpp reports an error in a field of that name, which is not in the standard.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    def __init__(self, most: int) -> None:
        self._data: list[bytes] = []
        self._failed = False
        self._left = most
        #: Whether no line so far was one of a stream.
        self.none = True

    def after(self, line: bytes) -> Sequence[_Event]:
        """The events that a line completes."""
        name, _, value = line.partition(b":")
        if not line:
            data, failed, self._data, self._failed = self._data, self._failed, [], False
            return self.counted([_Event(each, failed) for each in _separate(data)])
        if name in (b"data", b"event", b"id", b"retry", b"error", b""):
            self.none = False
        if name in (b"data", b"error"):
            self._data.append(value.removeprefix(b" "))
        self._failed |= name == b"error" or (name == b"event" and value.strip() == b"error")
        return ()

    def counted(self, events: Sequence[_Event]) -> Sequence[_Event]:
        """The same events, counted against the limit.

        Raises:
            AnswerTooLong: there were more.
        """
        self._left -= len(events)
        if self._left < 0:
            raise AnswerTooLong("more events than the model may say tokens")
        return events


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


async def _counted(
    chunks: AsyncIterator[bytes], answer: PartialAnswer, most: int, most_lines: int
) -> AsyncIterator[bytes]:
    lines = 0
    async for chunk in chunks:
        answer.bytes_read += len(chunk)
        if answer.bytes_read > most:
            raise AnswerTooLong(f"more than {most} bytes")
        lines += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
        if lines > most_lines:
            raise AnswerTooLong(f"more than {most_lines} lines")
        yield chunk


def _take_whole(body: bytes, answer: PartialAnswer) -> None:
    if answer.bytes_read > 6 * MAX_ANSWER_BYTES:
        raise AnswerTooLong(f"more than {6 * MAX_ANSWER_BYTES} bytes")
    completion = _json(body)
    choices = completion.get("choices")
    choice = _first(choices) or _only(choices)
    _take(completion, choice, choice.get("message") or choice.get("delta"), answer)
    if not isinstance(choices, list) or not choices:
        raise NotAnAnswer(f"it has no choices: {message_in(completion) or 'no more is said'}")


def _take_event(event: _Event, answer: PartialAnswer) -> bool:
    """Take in what an event says; returns whether it is the last."""
    data = event.data.strip()
    if data in (b"[DONE]", b'"[DONE]"'):
        return True
    if event.failed and not data.startswith(b"{"):
        raise ProviderFailed(data.decode(errors="replace"), begun=answer.size > 0)
    if data.startswith((b"{", b"[")):  # anything else only keeps the connection open
        chunk = _json(data)
        if event.failed:
            chunk.setdefault("error", dict(chunk))
        choice = _first(chunk.get("choices"))
        # Some servers repeat in each chunk, besides the new text, all that came before.
        delta = choice.get("delta")
        _take(chunk, choice, choice.get("message") if delta is None else delta, answer)
    return False


def _take(
    completion: dict[str, Any], choice: dict[str, Any], part: object, answer: PartialAnswer
) -> None:
    """Take in what a part of the answer, or all of it, says."""
    for usage in (
        completion.get("usage"),
        field_of(completion.get("x_groq"), "usage"),
        choice.get("usage"),
    ):
        if isinstance(usage, dict) and any(usage.values()):
            answer.usage = usage
    content = field_of(part, "content")
    calls = field_of(part, "tool_calls")
    call = _first(calls) or _only(calls)
    function = call.get("function") or field_of(part, "function_call")
    parts = _texts(choice.get("text") if part is None else content)
    arguments = _texts(field_of(function, "arguments"))
    reasoning = _texts(field_of(part, "reasoning_content") or field_of(part, "reasoning"))
    refusals = [*_texts(field_of(part, "refusal")), *_texts(content, "refusal")]
    answer.parts += parts
    answer.arguments += arguments
    answer.reasoning += reasoning
    answer.refusal = "".join([answer.refusal, *refusals])[:1000]
    answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    answer.size += sum(map(len, (*parts, *arguments, *reasoning)))
    if answer.size > MAX_ANSWER_BYTES:
        raise AnswerTooLong(f"more than {MAX_ANSWER_BYTES} characters")
    if failure := failure_in(completion) or failure_of_choice(choice):
        raise ProviderFailed(failure.message, failure.code, begun=answer.size > 0)


def _texts(content: object, kind: str = "text") -> list[str]:
    """The texts of a content: a string, parts of some kind, or the answer as JSON itself."""
    if isinstance(content, str):
        return [content] if kind == "text" else []
    if isinstance(content, dict) and content.get("type") not in ("text", "output_text"):
        return [json.dumps(content)] if kind == "text" else []
    parts = content if isinstance(content, list) else [content]
    found = (
        part if isinstance(part, str) and kind == "text" else field_of(part, kind)
        for part in parts
        if isinstance(part, str) or field_of(part, "type") in (kind, f"output_{kind}", None)
    )
    return [text for text in found if isinstance(text, str)]


def _first(values: object) -> dict[str, Any]:
    """The first of several choices or calls."""
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict) and value.get("index") in (0, None, "0"):
            return value
    return {}


def _only(values: object) -> dict[str, Any]:
    """The one choice or call that there is, whatever its number is."""
    one = values[0] if isinstance(values, list) and len(values) == 1 else None
    return one if isinstance(one, dict) else {}


def _json(data: bytes) -> dict[str, Any]:
    """A JSON object, or the first of a list.

    The JSON around the answer is read leniently, as by most readers: with surrogate halves (some
    servers cut an answer in the middle of a character), with NaN and infinity, and with the last
    value of a repeated key.

    Raises:
        NotAnAnswer: it is not one, or holds too much.
    """
    try:
        value = read_json(data, max_nodes=_MAX_NODES, max_depth=MAX_DEPTH)
    except TooMuchJson as error:
        raise NotAnAnswer(str(error)) from None
    except InvalidJson as error:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise NotAnAnswer(str(error)[:300]) from None
    if isinstance(value, list):
        value = next(iter(value), None)
    if not isinstance(value, dict):
        raise NotAnAnswer("it is not a JSON object")
    return value
