"""Vectors of a model that is asked over the OpenAI API."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import random
import re
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import openai
import orjson
from openai import AsyncOpenAI, HttpxBinaryResponseContent

from domain.contracts.redaction import redact
from domain.models.failures import ReportedFailure, failure_in
from domain.models.retry_after import retry_after_of
from domain.similarity.embedder import DIMENSIONS, EmbeddingUnavailable, FailureKind

#: The most tokens of one text that OpenAI's embedding models take. A token is at least one byte of
#: UTF-8, so a text of so many bytes fits for certain; counting tokens would need a downloaded
#: vocabulary.
MAX_TEXT_TOKENS = 8_191

#: Per request: OpenAI allows 300,000 tokens and 2,048 texts; repeating smaller ones is cheaper.
MAX_REQUEST_BYTES, MAX_REQUEST_TEXTS = 250_000, 256

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 20.0

#: Statuses worth another try: timeout, conflict, failed inference (TEI), rate limit; and all from
#: 500 on.
_PASSING = frozenset({408, 409, 424, 425, 429})

#: The answer of a server that makes no vectors, such as llama.cpp unless started for them.
_NOT_IMPLEMENTED = 501

#: An error of the server itself. Some answer it for a text of which they can never make a vector
#: (Ollama, when it gets NaN).
_BROKE = 500

#: Time to find out which of the two it is, seconds.
_PROBE_SECONDS = 2.0

#: What a provider answers that refuses a request: its texts, or its parameters.
_REFUSED = frozenset({400, 413, 422})

#: A text that every working provider takes; it is asked for after a refusal.
_PROBE = "test"

#: How long an accepted request proves that the settings are right, seconds.
_ACCEPTED_SECONDS = 60.0

#: Unless the refusal names one of these.
_PARAMETERS = ("encoding_format", "dimensions", "model")

#: The lengths of vectors whose cosines single precision can compute.
_SHORTEST, _LONGEST = 1e-15, 1e15

#: 429 with this code means that the account is out of money: waiting does not help.
_NO_MONEY = "insufficient_quota"


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt failed; nothing of the texts or the answer is in ``reason``.

    Attributes:
        message: the provider's message, which may repeat the texts.
        broke: whether the status was `_BROKE`.
    """

    reason: str
    kind: FailureKind
    retry_after: float | None = None
    message: str = ""
    broke: bool = False


class OpenAiEmbedder:
    """Asks a model for vectors, in batches, with retries within a budget of time.

    Texts longer than the model takes are cut into pieces whose vectors are averaged by length
    (OpenAI's cookbook, "Embedding texts that are longer than the model's maximum context length").
    Vectors shorter than the column are padded with zeros, which changes no cosine.

    Args:
        client: that of the provider, which makes no retries itself.
        model: identifies the vectors.
        name: the provider's name of the model.
        dimensions: requested of a model that can shorten its vectors; None: its own.
        budget_seconds: time for one request with all its retries.
    """

    def __init__(
        self,
        client: AsyncOpenAI,
        model: str,
        name: str,
        dimensions: int | None,
        budget_seconds: float,
    ) -> None:
        self._client = client
        self._model = model
        self._name = name
        self._dimensions = dimensions
        self._budget = budget_seconds
        self._native: int | None = dimensions
        self._last: int | None = None  # dimensions of the last answer
        #: Whether base64 is asked for: some servers know only numbers, and refuse the parameter.
        self._packed = True
        self._accepted = -math.inf  # when a provider has last given vectors
        #: Tokens that the provider has counted so far.
        self.tokens = 0

    @property
    def model(self) -> str:
        """Identifies the vectors."""
        return self._model

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of `DIMENSIONS` for each text, in order.

        Raises:
            EmbeddingUnavailable: no answer within the budget, or a refusal; its message holds no
                text.
            ValueError: a text is empty.
        """
        if not all(text.strip() for text in texts):
            raise ValueError("text: it has no words to compare; give a sentence")
        pieces = [(index, piece) for index, text in enumerate(texts) for piece in _pieces(text)]
        found: list[list[tuple[int, list[float]]]] = [[] for _ in texts]
        for batch in _batches(pieces):
            vectors = await self._request([piece for _, piece in batch])
            for (index, piece), vector in zip(batch, vectors, strict=True):
                found[index].append((len(piece), vector))
        return [_padded(_average(parts)) for parts in found]

    async def _request(self, texts: Sequence[str]) -> list[list[float]]:
        began = time.monotonic()
        deadline = began + self._budget
        for attempt in count():
            answer = await self._attempt(texts, deadline)
            if isinstance(answer, _Failure) and answer.kind == "text":
                answer = await self._explained(answer, texts, deadline)
            if not isinstance(answer, _Failure):
                return answer
            wait = answer.retry_after
            if wait is None:
                # Jitter keeps many that failed together from coming back together.
                wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311
            if answer.kind != "outage" or time.monotonic() + wait >= deadline:
                if answer.broke and await self._takes_others(began):
                    answer = replace(answer, kind="text")
                raise EmbeddingUnavailable(
                    f"{self._model}: {answer.reason}", answer.kind, answer.retry_after
                )
            await asyncio.sleep(wait)
        raise AssertionError("count() does not end")

    async def _takes_others(self, since: float) -> bool:
        """Whether the provider has given vectors since then, or does so now, for other texts."""
        if self._accepted < since:
            await self._attempt([_PROBE], time.monotonic() + _PROBE_SECONDS)
        return self._accepted >= since

    async def _explained(
        self, refusal: _Failure, texts: Sequence[str], deadline: float
    ) -> list[list[float]] | _Failure:
        """Find out whether the texts are refused or the parameters, which may be corrected at once.

        Providers' messages differ too much to be interpreted, so another text is asked for.
        """
        recent = time.monotonic() < self._accepted + _ACCEPTED_SECONDS
        if recent and not any(name in refusal.message for name in _PARAMETERS):
            return refusal
        probe = await self._attempt([_PROBE], deadline)
        if self._packed and _is_refusal(probe):
            self._packed = False
            probe = await self._attempt([_PROBE], deadline)
            if not isinstance(probe, _Failure):
                return await self._attempt(texts, deadline)
            self._packed = True
        if isinstance(probe, _Failure) and _is_refusal(probe):
            message = probe.message.replace(self._client.api_key or "\n", "…")
            return replace(probe, reason=f"{probe.reason}: {message}", kind="settings")
        return probe if isinstance(probe, _Failure) else refusal

    async def _attempt(self, texts: Sequence[str], deadline: float) -> list[list[float]] | _Failure:
        seconds = max(deadline - time.monotonic(), 0.05)
        body: dict[str, Any] = {"model": self._name, "input": list(texts)}
        if self._packed:
            body["encoding_format"] = "base64"
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        try:
            async with asyncio.timeout(seconds):
                # The library's own method always asks for a format of the vectors.
                answer = await self._client.post(
                    "/embeddings",
                    body=body,
                    cast_to=HttpxBinaryResponseContent,
                    options={"timeout": seconds},
                )
                return self._read(answer.content, len(texts))
        except openai.APIStatusError as error:
            return _refusal(error)
        except (openai.APIConnectionError, TimeoutError) as error:
            timeout = isinstance(error, openai.APITimeoutError | TimeoutError)
            return _Failure("no answer in time" if timeout else "cannot be reached", "outage")
        except (openai.OpenAIError, _Malformed) as error:
            reason = str(error) if isinstance(error, _Malformed) else type(error).__name__
            return _Failure(f"the answer is unusable: {reason}", "settings")

    def _read(self, body: bytes, expected: int) -> list[list[float]] | _Failure:
        """The vectors of a response in the order of the texts; it may have none for one of them.

        Raises:
            _Malformed: the response is not as the API defines it.
        """
        try:
            answer = _json(body)
            if failure := failure_in(answer):
                return _reported(failure)
            items = list(answer["data"])
            if len(items) != expected:
                raise _Malformed(f"{len(items)} vectors for {expected} texts")
            vectors = _vectors(_ordered(items))
            tokens = _count((answer.get("usage") or {}).get("prompt_tokens"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _Malformed(
                f"not an answer of the embeddings API ({type(error).__name__})"
            ) from None
        self.tokens += tokens
        usable = [vector for vector in vectors if _SHORTEST < math.hypot(*vector) < _LONGEST]
        lengths = {len(vector) for vector in usable}
        reason = "a vector that is empty, zero, or not of finite numbers"
        if len(lengths) > 1 and self._native in lengths:
            reason = "a vector of other dimensions than the rest"
        else:
            self._check(lengths)
            if len(usable) == expected:
                self._accepted = time.monotonic()
                return vectors
        if self._native is None:
            raise _Malformed(reason)
        return _Failure(f"the answer is unusable: {reason}", "text")

    def _check(self, lengths: set[int]) -> None:
        """Raise unless the usable vectors of an answer have as many dimensions as those before.

        A single deviating answer is refused; if it repeats, the model answers like that, and the
        first answer was the deviation.
        """
        if lengths and (longest := max(lengths)) > DIMENSIONS:
            raise _Malformed(
                f"{longest} dimensions, {DIMENSIONS} fit: ask for fewer with "
                f"QLP_EMBEDDING_DIMENSIONS={DIMENSIONS}, or --dimensions {DIMENSIONS}"
            )
        if len(lengths) > 1:
            raise _Malformed(f"{min(lengths)} and {max(lengths)} dimensions in one answer")
        for length in lengths:
            before, self._last = self._last, length
            repeated = self._dimensions is None and before == length
            if self._native not in (None, length) and not repeated:
                raise _Malformed(f"{length} dimensions, expected {self._native}")
            self._native = length


class _Malformed(Exception):
    """What is wrong with an answer."""


def _json(body: bytes) -> Any:  # noqa: ANN401 JSON of an untrusted sender
    """The answer, or the first of a list (Gemini's errors).

    NaN and infinity are read, too, as servers in Python write them.
    """
    try:
        answer = orjson.loads(body)
    except ValueError:
        answer = json.loads(body)
    return next(iter(answer), None) if isinstance(answer, list) else answer


def _vectors(items: Sequence[Any]) -> list[list[float]]:
    """The vectors of an answer; an empty one for each that cannot be read, if others can.

    Raises:
        TypeError, ValueError: none can be read.
    """
    vectors: list[list[float]] = []
    unreadable: Exception | None = None
    for item in items:
        try:
            vectors.append(_numbers(item["embedding"]))
        except (TypeError, ValueError) as error:
            vectors.append([])
            unreadable = error
    if unreadable is not None and not any(vectors):
        raise unreadable
    return vectors


def _numbers(raw: Any) -> list[float]:  # noqa: ANN401 JSON of an untrusted sender
    """A vector as the API gives it: little-endian float32 in base64, or numbers.

    With null, which some servers put in place of NaN, the vector is empty.
    """
    if isinstance(raw, str):
        try:
            packed = base64.b64decode(raw, validate=True)
        except binascii.Error:
            raise ValueError("not base64") from None
        values = array("f")
        values.frombytes(packed)
        return values.tolist()
    if isinstance(raw, list) and len(raw) == 1 and isinstance(raw[0], list):
        [raw] = raw
    if raw is None or (isinstance(raw, list) and None in raw):
        return []
    if not isinstance(raw, list):
        raise TypeError("neither base64 nor numbers")
    if not all(type(value) in (int, float) for value in raw):
        raise TypeError("not numbers")
    return [float(value) for value in raw]


def _ordered(items: list[Any]) -> list[Any]:
    """The items of an answer in the order of the texts: by their indexes, if they have any.

    Some servers leave out an index of 0 (Gemini), or count from 1.
    """
    given = [item.get("index") for item in items]
    if all(index is None for index in given):
        return items
    indexes = [0 if index is None else index for index in given]
    if not all(type(index) is int for index in indexes):
        raise ValueError("indexes that are no numbers")
    by_index = dict(zip(indexes, items, strict=True))
    first = min(by_index)
    if first not in (0, 1) or sorted(by_index) != list(range(first, first + len(items))):
        raise ValueError("indexes that are not 0, 1, …")
    return [by_index[index] for index in sorted(by_index)]


def _count(given: object) -> int:
    """A number of tokens; 0 if it is none."""
    return given if type(given) is int and given > 0 else 0


def _is_refusal(answer: list[list[float]] | _Failure) -> bool:
    return isinstance(answer, _Failure) and answer.kind == "text" and bool(answer.message)


def _refusal(error: openai.APIStatusError) -> _Failure:
    code = error.code if isinstance(error.code, str) and error.code.isidentifier() else None
    reason = f"answers {error.status_code}{f' ({code[:40]})' if code else ''}"
    kind = "settings" if code == _NO_MONEY else _kind_of(error.status_code)
    broke = error.status_code == _BROKE
    pause = retry_after_of(error.response.headers)
    seconds = None if pause is None else pause.total_seconds()
    return _Failure(reason, kind, seconds, _message_of(error), broke)


def _kind_of(status: int) -> FailureKind:
    if status in _REFUSED:
        return "text"
    if status in _PASSING or (status >= 500 and status != _NOT_IMPLEMENTED):
        return "outage"
    return "settings"


def _reported(failure: ReportedFailure) -> _Failure:
    """A failure that is reported with status 200, as if its code were the status."""
    status = int(failure.code) if re.fullmatch(r"[45]\d\d", failure.code) else None
    kind: FailureKind = "outage" if status is None else _kind_of(status)
    reason = "reports an error with 200" if status is None else f"answers {status} within 200"
    return _Failure(reason, kind, message=failure.message or "nothing more", broke=status == _BROKE)


def _message_of(error: openai.APIStatusError) -> str:
    """The provider's message, in one line and short."""
    body = error.body
    if isinstance(body, dict):
        body = next(filter(None, map(body.get, ("message", "detail", "error"))), body)
    text = redact(str(body))  # before it is cut: half a key is not recognised
    return " ".join("".join(filter(str.isprintable, text)).split())[:200] or "nothing more"


def _pieces(text: str) -> Iterator[str]:
    """``text`` in pieces of at most `MAX_TEXT_TOKENS` bytes of UTF-8, cut between characters."""
    rest = text.encode(errors="replace")
    while len(rest) > MAX_TEXT_TOKENS:
        piece = rest[:MAX_TEXT_TOKENS].decode(errors="ignore")
        yield piece
        rest = rest[len(piece.encode()) :]
    yield rest.decode()


def _batches(pieces: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    batch: list[tuple[int, str]] = []
    size = 0
    for item in pieces:
        more = len(item[1].encode())
        if batch and (size + more > MAX_REQUEST_BYTES or len(batch) == MAX_REQUEST_TEXTS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += more
    if batch:
        yield batch


def _average(parts: Sequence[tuple[int, list[float]]]) -> list[float]:
    if len(parts) == 1:
        return parts[0][1]
    columns = zip(*([value * weight for value in vector] for weight, vector in parts), strict=True)
    summed = [math.fsum(column) for column in columns]
    length = math.hypot(*summed)
    return [value / length for value in summed] if length else parts[0][1]


def _padded(vector: list[float]) -> list[float]:
    return vector + [0.0] * (DIMENSIONS - len(vector))
