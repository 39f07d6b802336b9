"""Asks a language model over chat completions of the OpenAI API, for answers of a given form."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic

from pydantic import ValidationError

from domain.contracts.strict_json import read_as
from domain.intents.event_parts import Author, CallOutcome, ModelCall
from domain.models.client import CONNECT_SECONDS
from domain.models.settings import ModelSettings
from domain.planning.answers import MAX_ANSWER_BYTES, MAX_ANSWER_NODES, InvalidAnswer, describe
from domain.planning.extraction import objects_in
from domain.planning.failures import CallFailure, clean, failure_of
from domain.planning.model_request import Form, Meaning, ModelRequest
from domain.planning.prompt_files import Prompt
from domain.planning.wire import PartialAnswer, read_answer
from domain.telemetry import model_called

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

#: A larger figure cannot be the number of tokens that one call used.
_MOST_TOKENS = 10**8


#: How many repetitions of an answer within a text are read.
_MOST_OBJECTS = 8


@dataclass(frozen=True, slots=True)
class Reply(Generic[Meaning]):
    """The outcome of a call.

    Attributes:
        call: what is recorded of it.
        meaning: what the answer means; None unless the call's outcome is ``answered``.
        text: what the model wrote, unchanged.
        retry_after: the pause that the provider asks for.
    """

    call: ModelCall
    meaning: Meaning | None = None
    text: str = ""
    retry_after: timedelta | None = None


#: What a server says about a parameter that it does not know.
_UNKNOWN = re.compile(
    r"extra|not permitted|not allowed|unsupported|not supported|unrecogni[sz]ed|unknown|unexpected",
    re.IGNORECASE,
)


_OLDER_LIMIT = "max_tokens"


@dataclass(frozen=True, slots=True)
class _Dialect:
    """The parameters that not every server knows, and some refuse.

    Attributes:
        limit: the parameter for the most tokens of an answer; Mistral knows only the older name.
        usage: whether a stream is asked to report the tokens used.
    """

    limit: str = "max_completion_tokens"
    usage: bool = True

    def of(self, tokens: int, streamed: bool) -> dict[str, Any]:
        """The parameters."""
        options = {"stream_options": {"include_usage": True}} if streamed and self.usage else {}
        return {self.limit: tokens, **options}

    def after(self, error: APIStatusError) -> _Dialect | None:
        """Another dialect, without what an error refuses; None if it is about something else."""
        message = f"{error} {error.body}"
        if error.status_code not in (400, 422) or not _UNKNOWN.search(message):
            return None
        limit = _OLDER_LIMIT if self.limit in message else self.limit
        other = _Dialect(limit, self.usage and "stream_options" not in message)
        return other if other != self else None


class LanguageModel:
    """One model of one provider. A call is never repeated, and a failed one does not raise."""

    def __init__(self, client: AsyncOpenAI, model: str, settings: ModelSettings) -> None:
        self._client = client
        self._model = model
        self._settings = settings
        self._dialect = _Dialect()

    @property
    def model(self) -> str:
        """Its name, or that of its deployment."""
        return self._model

    @property
    def longest_call(self) -> timedelta:
        """After this time a call has ended, one way or the other."""
        return timedelta(seconds=self._settings.llm_timeout_seconds)

    def author(self, prompt: Prompt) -> Author:
        """The author to record for what this model answers to ``prompt``."""
        return Author(model=self._model, prompt=prompt.label)

    def bound(self, request: ModelRequest[Any, Any]) -> int:
        """The most tokens that asking may take, input and output together."""
        return request.input_bound() + self._settings.llm_output_tokens

    async def ask(self, request: ModelRequest[Form, Meaning]) -> Reply[Meaning]:
        """Make one call. What went wrong, if anything did, is in the reply."""
        began = time.monotonic()
        answer = PartialAnswer()
        failure: CallFailure | None = None
        meaning: Meaning | None = None
        try:
            await self._exchange(request, answer)
        except Exception as error:  # noqa: BLE001 what is no failure of a call is raised again
            failure = failure_of(error)
        else:
            failure = _not_usable(answer)
        if failure is None:
            try:
                meaning = request.understand(_formed(request.form, answer.text))
            except InvalidAnswer as error:
                failure = CallFailure("invalid", clean(str(error)), reached=True)
        call = self._record(request, answer, failure, time.monotonic() - began)
        model_called(call)
        return Reply(call, meaning, answer.text, failure.retry_after if failure else None)

    async def _exchange(self, request: ModelRequest[Any, Any], answer: PartialAnswer) -> None:
        # Half of a cold start: imported only if a model is asked.
        from openai import APIStatusError, Timeout

        seconds, most = self._settings.llm_timeout_seconds, self._settings.llm_output_tokens
        streamed = self._settings.llm_stream
        timeout = Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        schema = {"name": request.prompt.name, "strict": True, "schema": request.schema()}
        arguments: dict[str, Any] = {
            "model": self._model,
            "messages": request.messages(),
            "response_format": {"type": "json_schema", "json_schema": schema},
            "stream": streamed,
            "timeout": timeout,
        }
        create = self._client.chat.completions.with_streaming_response.create
        # The library's timeouts are between bytes; this one is for all of it.
        async with asyncio.timeout(seconds):
            dialect: _Dialect | None = self._dialect
            while dialect is not None:
                try:
                    async with create(**arguments, **dialect.of(most, streamed)) as response:
                        self._dialect = dialect
                        await read_answer(response.iter_bytes(), answer, most)
                        return
                except APIStatusError as error:
                    if (dialect := dialect.after(error)) is None:
                        raise

    def _record(
        self,
        request: ModelRequest[Any, Any],
        answer: PartialAnswer,
        failure: CallFailure | None,
        seconds: float,
    ) -> ModelCall:
        input_tokens, output_tokens, note = _tokens(request, answer, failure)
        settings = self._settings
        # USD per million tokens are millionths of a USD per token.
        cost = input_tokens * settings.llm_input_price + output_tokens * settings.llm_output_price
        detail = "; ".join(filter(None, (failure.detail if failure else None, note)))
        outcome: CallOutcome = failure.outcome if failure else "answered"
        return ModelCall(
            purpose=request.purpose,
            outcome=outcome,
            model=self._model,
            prompt=request.prompt.label,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_microusd=round(cost),
            latency_ms=round(seconds * 1e3),
            detail=detail or None,
        )


def _formed(form: type[Form], text: str) -> Form:
    """The answer as an instance of ``form``.

    Raises:
        InvalidAnswer: it is empty, too long, not JSON, or does not have the form.
    """
    data = text.encode(errors="surrogatepass")  # what is not Unicode is not JSON: found below
    if not data.strip():
        raise InvalidAnswer("the answer is empty")
    if len(data) > MAX_ANSWER_BYTES:
        raise InvalidAnswer(f"the answer takes {len(data)} bytes, the limit is {MAX_ANSWER_BYTES}")
    try:
        return read_as(form, data, max_nodes=MAX_ANSWER_NODES)
    except ValidationError as error:
        problem = describe(error)
    found: list[Form] = []
    for each in islice(objects_in(text, form.model_fields), _MOST_OBJECTS):
        with suppress(ValidationError):
            found.append(read_as(form, each.encode(), max_nodes=MAX_ANSWER_NODES))
    if not found:
        raise InvalidAnswer(problem)
    if any(other != found[0] for other in found):
        raise InvalidAnswer("answer: it holds several that differ; give one JSON object alone")
    return found[0]


#: Finish reasons of answers that were cut, at OpenAI, Mistral, Anthropic, Gemini and Z.ai.
_CUT = frozenset(
    (
        *("length", "model_length", "max_length", "max_tokens", "max_output_tokens"),
        *("model_context_window_exceeded", "context_length", "token_limit"),
    )
)
_FILTERED = frozenset(
    (
        *("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii"),
        *("sensitive", "guardrail_intervened", "refusal"),
    )
)


def _not_usable(answer: PartialAnswer) -> CallFailure | None:
    """Why an answer that was read to its end cannot be used; None if it can."""
    # Gemini adds details after a colon.
    reason = str(answer.finish_reason or "").partition(":")[0].strip().lower()
    if answer.refusal or reason in _FILTERED:
        return CallFailure("refused", clean(answer.refusal or "the content filter"), reached=True)
    if reason in _CUT:
        return CallFailure("truncated", "the answer was cut at its limit of tokens", reached=True)
    return None


def _tokens(
    request: ModelRequest[Any, Any], answer: PartialAnswer, failure: CallFailure | None
) -> tuple[int, int, str | None]:
    """Tokens of input and output: the provider's figures, else upper bounds; and a note."""
    if (reported := _reported(answer)) is not None:
        return *reported, None
    if failure is not None and not failure.reached:
        return 0, 0, None
    output = len(answer.text.encode(errors="replace")) + len(answer.refusal)
    return request.input_bound(), output, "tokens are bounds: the provider gave no usable figures"


def _reported(answer: PartialAnswer) -> tuple[int, int] | None:
    """Tokens of input and output as the provider counts them; None where that makes no sense.

    Some providers count reasoning only in the total.
    """
    usage = answer.usage if isinstance(answer.usage, dict) else {}
    given, made = (
        next((count for name in names if (count := _count(usage.get(name))) is not None), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    total = _count(usage.get("total_tokens"))
    if given is None and total is not None:
        given = max(total - (made or 0), 0)
    if not given or (made is None and total is None):
        return None  # every prompt has tokens: nothing was counted
    return given, max(made or 0, (total or 0) - given)


def _count(given: object) -> int | None:
    """A number of tokens; None if it is not one."""
    if (isinstance(given, float) and given.is_integer()) or (
        isinstance(given, str) and re.fullmatch(r"[0-9]{1,9}", given)
    ):
        given = int(given)
    return given if type(given) is int and 0 <= given <= _MOST_TOKENS else None
