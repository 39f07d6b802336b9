"""The projection ``error_patterns``: failures by tenant, code and normalised cause."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from domain.database.statements import load_statements
from domain.eventlog.intent_streams import intent_of
from domain.eventlog.models import InlineWrite
from domain.intents.events import IntentFailed
from domain.projections.following.contract import StreamEvent

_SQL = load_statements(Path(__file__).with_name("error_patterns.sql"))

MAX_CODE = 100
MAX_CAUSE = 300

#: Characters of a message that are read.
_MAX_MESSAGE = 2_000

#: In this order: quoted text may contain a path, a path an id, an id a number.
_VARIABLES = (
    (re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`|“[^”]*”"), "<text>"),
    (re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>]+", re.IGNORECASE), "<url>"),
    (re.compile(r"(?<![\w/<])(?:~|\.{1,2})?/[\w.@%+~-]+(?:/[\w.@%+~-]*)*"), "<path>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
)


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures of one pattern; the example is the first of them."""

    tenant_id: str
    code: str
    cause: str
    count: int
    first_seen: datetime
    last_seen: datetime
    example: UUID

    def __add__(self, other: Failures) -> Failures:
        first = min(self, other, key=lambda failures: (failures.first_seen, failures.example))
        return replace(
            first,
            count=self.count + other.count,
            last_seen=max(self.last_seen, other.last_seen),
        )


class ErrorPatterns:
    """The projection ``error_patterns``."""

    name = "error_patterns"
    version = 1
    tables = ("error_patterns",)

    def fold(self, event: StreamEvent) -> Failures | None:
        """One failure, if ``event`` is one."""
        record, what = event.record, event.event
        if not isinstance(what, IntentFailed):
            return None
        return Failures(
            tenant_id=record.tenant_id,
            code=_visible(what.cause.code)[:MAX_CODE],
            cause=normalise(what.cause.message),
            count=1,
            first_seen=record.recorded_at,
            last_seen=record.recorded_at,
            example=intent_of(record.stream_id),
        )

    def writes(self, changes: Sequence[Failures]) -> Sequence[InlineWrite]:
        """One upsert per pattern."""
        patterns: dict[tuple[str, str, str], Failures] = {}
        for change in changes:
            key = (change.tenant_id, change.code, change.cause)
            patterns[key] = patterns[key] + change if key in patterns else change
        return [
            InlineWrite(_SQL["add"], {name: getattr(pattern, name) for name in Failures.__slots__})
            # In this order, so that processes that write the same rows wait, and none is undone.
            for _, pattern in sorted(patterns.items(), key=lambda each: each[0])
        ]


def normalise(message: str) -> str:
    """``message`` with placeholders for its variable parts, at most `MAX_CAUSE` characters."""
    text = _visible(message[:_MAX_MESSAGE])
    for variable, placeholder in _VARIABLES:
        text = variable.sub(placeholder, text)
    return " ".join(text.split())[:MAX_CAUSE]


def _visible(text: str) -> str:
    # PostgreSQL's text cannot contain NUL; other control characters would affect terminals.
    return "".join(character if character.isprintable() else " " for character in text)
