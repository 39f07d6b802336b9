"""What providers of models report of their failures in answers that have status 200."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from domain.contracts.redaction import redact

#: Characters of a provider's words that are looked at.
_MAX_READ = 100_000

#: Why an answer ended that its provider broke off: Mistral, OpenRouter, vLLM, DeepSeek, Z.ai.
_BROKEN_OFF = frozenset(("error", "abort", "insufficient_system_resource", "network_error"))

#: Where a provider puts its words and its code.
_MESSAGES = ("message", "error_msg", "status_msg", "detail", "msg")
_CODES = ("code", "status", "status_code", "error_code", "type")


class ProviderFailed(Exception):
    """The provider reported a failure in place of its answer, or in the middle of it.

    Attributes:
        code: its name for the failure, or an HTTP status, as text; empty where it gives none.
        begun: the model had said something before.
    """

    def __init__(self, message: str, code: str = "", *, begun: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.begun = begun


@dataclass(frozen=True, slots=True)
class ReportedFailure:
    """What a provider says of a failure; for ``code`` see `ProviderFailed`."""

    message: str
    code: str


def field_of(value: object, name: str) -> Any:  # noqa: ANN401 anything JSON
    """A member of a value that may not be a JSON object; None without it."""
    return value.get(name) if isinstance(value, dict) else None


def failure_in(completion: Mapping[str, Any]) -> ReportedFailure | None:
    """The failure that an answer, or a part of one, reports; None where it reports none."""
    for each in _failures(completion):
        if each:
            return _reported(each)
    return None


def failure_of_choice(choice: Mapping[str, Any]) -> ReportedFailure | None:
    """The failure by which a choice ended."""
    reason = choice.get("finish_reason")
    if choice.get("error"):
        return _reported(choice["error"])
    if isinstance(reason, str) and reason.lower() in _BROKEN_OFF:
        return ReportedFailure(f"the answer ended with {reason}", "")
    return None


def _failures(completion: Mapping[str, Any]) -> Iterator[object]:
    yield completion.get("error")
    if completion.get("object") == "error" or completion.get("error_msg"):
        yield completion
    if "choices" not in completion or completion["choices"] is None:
        errors = completion.get("errors")  # Cloudflare
        yield next(iter(errors), None) if isinstance(errors, list) else errors
        status = completion.get("base_resp")  # MiniMax
        yield status if field_of(status, "status_code") else None


def message_in(failure: Mapping[str, Any]) -> str:
    """What a provider says; empty if nothing."""
    return _shortened(next(filter(None, map(failure.get, _MESSAGES)), ""))


def _reported(failure: object) -> ReportedFailure:
    if not isinstance(failure, dict):
        return ReportedFailure(_shortened(failure), "")
    code = next(filter(None, map(failure.get, _CODES)), "")
    return ReportedFailure(message_in(failure) or _shortened(failure), redact(str(code))[:100])


def _shortened(words: object) -> str:
    """A provider's words; a key among them must not be cut before it is recognised."""
    return redact(str(words)[:_MAX_READ])[:300]
