"""Finds failures that model providers report in answers with status 200."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from domain.contracts.redaction import redact

#: Characters of a provider's message that are read.
_MAX_READ = 100_000

#: Finish reasons of aborted answers, of Mistral, OpenRouter, vLLM, DeepSeek and Z.ai.
_BROKEN_OFF = frozenset(("error", "abort", "insufficient_system_resource", "network_error"))

#: Fields with a provider's message and code.
_MESSAGES = ("message", "error_msg", "status_msg", "detail", "msg")
_CODES = ("code", "status", "status_code", "error_code", "type")


class ProviderFailed(Exception):
    """The provider reported a failure instead of an answer, or in the middle of one.

    Attributes:
        code: the provider's name for the failure, or an HTTP status, as text; empty if not given.
        begun: part of the answer had arrived before.
    """

    def __init__(self, message: str, code: str = "", *, begun: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.begun = begun


@dataclass(frozen=True, slots=True)
class ReportedFailure:
    """A failure as a provider reports it; for ``code`` see `ProviderFailed`."""

    message: str
    code: str


def field_of(value: object, name: str) -> Any:  # noqa: ANN401 anything JSON
    """A member of a JSON object; None if there is none, or ``value`` is not an object."""
    return value.get(name) if isinstance(value, dict) else None


def failure_in(completion: Mapping[str, Any]) -> ReportedFailure | None:
    """The failure that an answer, or a chunk of one, reports; None if it reports none."""
    for each in _failures(completion):
        if each:
            return _reported(each)
    return None


def failure_of_choice(choice: Mapping[str, Any]) -> ReportedFailure | None:
    """The failure with which a choice ended; None if it did not fail."""
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
    """A provider's message; empty if there is none."""
    return _shortened(next(filter(None, map(failure.get, _MESSAGES)), ""))


def _reported(failure: object) -> ReportedFailure:
    if not isinstance(failure, dict):
        return ReportedFailure(_shortened(failure), "")
    code = next(filter(None, map(failure.get, _CODES)), "")
    return ReportedFailure(message_in(failure) or _shortened(failure), redact(str(code))[:100])


def _shortened(message: object) -> str:
    """The beginning of a provider's message; redacted first: a cut key is not recognised."""
    return redact(str(message)[:_MAX_READ])[:300]
