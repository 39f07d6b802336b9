"""What an examination found: one line a check, with the fix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import psycopg
from psycopg_pool import PoolTimeout

from domain.contracts.redaction import redact

Status = Literal["ok", "warn", "fail"]

_BY_GRAVITY: tuple[Status, ...] = ("fail", "warn")

#: One check may take this long, seconds.
CHECK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        check: what was looked at.
        status: ``warn``: something will need a hand; ``fail``: it is broken or unprotected now.
        detail: what was found.
        fix: what to do; empty where all is well.
    """

    check: str
    status: Status
    detail: str
    fix: str = ""


def worst(findings: Iterable[Finding]) -> Status:
    """The gravest status among ``findings``."""
    found = {finding.status for finding in findings}
    return next((status for status in _BY_GRAVITY if status in found), "ok")


def redacted(findings: Iterable[Finding]) -> list[Finding]:
    """``findings`` without secrets: they repeat what servers and drivers say."""
    return [replace(each, detail=redact(each.detail), fix=redact(each.fix)) for each in findings]


Check = Callable[[], Awaitable[Sequence[Finding]]]


async def on_database(name: str, check: Check) -> Sequence[Finding]:
    """The findings of ``check``; where the database refuses to answer it, that is the finding."""
    try:
        return await check()
    except (psycopg.Error, PoolTimeout) as error:
        detail = f"could not be checked: {first_line(error)}"
        return [Finding(name, "fail", detail, "see the database's log")]


def first_line(error: Exception) -> str:
    """What ``error`` says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
