"""What went wrong with a call of a language model, and whether to try again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from domain.contracts.redaction import redact
from domain.intents.event_parts import CallOutcome
from domain.models.failures import ProviderFailed
from domain.models.retry_after import retry_after_of
from domain.planning.wire import AnswerCut, AnswerTooLong, NotAnAnswer

if TYPE_CHECKING:
    import openai

#: The most that is recorded of a provider's message, characters.
MAX_DETAIL = 500

#: The most of it that is read, characters: a key must not be cut before it is recognised.
_MAX_READ = 100_000

#: Those statuses below 500 after which a later try may help.
_PASSING = frozenset((408, 409, 425))

#: Error codes after which a later try does not help.
_MISTAKES = frozenset(
    (
        *("invalid_request_error", "invalid_request", "invalidparameter", "badrequesterror"),
        *("context_length_exceeded", "exceed_context_size_error", "model_not_found"),
        *("not_found_error", "authentication_error", "invalid_api_key", "permission_error"),
    )
)


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call without an answer.

    Attributes:
        detail: for the record: the provider's message, without what looks like a key.
        retry_after: the pause that the provider asks for, if it does.
        reached: whether the request may have been processed, and so may be billed.
    """

    outcome: CallOutcome
    detail: str
    retry_after: timedelta | None = None
    reached: bool = False


def failure_of(error: Exception) -> CallFailure:
    """What ``error``, raised by a call, means.

    Raises:
        Exception: ``error`` itself, if it is not one that a call may end in.
    """
    import httpx2  # with openai half of a cold start: only if a model is asked
    import openai

    match error:
        case openai.APIStatusError():
            return _of_status(error)
        case openai.APITimeoutError() | httpx2.TimeoutException():
            connecting = isinstance(error.__cause__ or error, httpx2.ConnectTimeout)
            return CallFailure("timed_out", "no answer in time", reached=not connecting)
        case TimeoutError():
            return CallFailure("timed_out", "no whole answer in time", reached=True)
        case openai.APIConnectionError():
            reached = not isinstance(error.__cause__, httpx2.ConnectError)
            why = clean(f"{error} {error.__cause__ or ''}")
            return CallFailure("unavailable", why, reached=reached)
        case ProviderFailed():
            return _of_report(error)
        case httpx2.HTTPError() | AnswerCut():
            return CallFailure("unavailable", clean(f"cut: {error}"), reached=True)
        case AnswerTooLong() | NotAnAnswer():
            return CallFailure("invalid", clean(f"not an answer: {error}"), reached=True)
        case AzureError():
            return CallFailure("unavailable", clean(f"no token from Azure: {error}"))
        case openai.OpenAIError():
            return CallFailure("unavailable", clean(str(error)))
        case _:
            raise error


def clean(text: str) -> str:
    """A provider's message as it may be kept: short, one line, no keys, no NUL."""
    line = " ".join(redact(text[:_MAX_READ].replace("\x00", "")).split())
    return line.encode(errors="replace").decode()[:MAX_DETAIL]


def _of_status(error: openai.APIStatusError) -> CallFailure:
    status = error.status_code
    # A message about a wrong key may contain parts of the key.
    message = "" if status == 401 else f": {_message_of(error)}"
    detail = clean(f"HTTP {status}{message}")
    retry_after = retry_after_of(error.response.headers)
    if status == 429:
        return CallFailure("rate_limited", detail, retry_after)
    if status in _PASSING or status >= 500:
        return CallFailure("unavailable", detail, retry_after)
    if "content_filter" in (error.code, error.type):
        return CallFailure("refused", detail)
    return CallFailure("rejected", detail)


def _of_report(error: ProviderFailed) -> CallFailure:
    """What a failure reported with status 200 means, by its code as far as that is known."""
    code = error.code.lower()
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else None
    outcome: CallOutcome = "unavailable"
    if "content_filter" in code:
        outcome = "refused"
    elif status == 429 or re.search(r"rate_?limit|throttl|too_?many|quota", code):
        outcome = "rate_limited"
    elif (status is not None and status < 500 and status not in _PASSING) or code in _MISTAKES:
        outcome = "rejected"
    detail = clean(f"HTTP {code}: {error}" if status is not None else f"{error.code} {error}")
    return CallFailure(outcome, detail, reached=error.begun or outcome == "unavailable")


def _message_of(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        message = body.get("message") or body.get("detail") or ""
        return f"{message} ({error.code})" if error.code else str(message)
    return str(body or "")
