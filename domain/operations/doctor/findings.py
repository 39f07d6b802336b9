"""What an examination found, with the fix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import psycopg
from psycopg_pool import PoolTimeout

from domain.contracts.redaction import redact

Status = Literal["ok", "warn", "fail"]

_WORST_FIRST: tuple[Status, ...] = ("fail", "warn")

#: How long one check may take, seconds.
CHECK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was examined.
        status: ``warn``: needs attention soon; ``fail``: is broken or unprotected now.
        detail: what was found.
        fix: what to do; empty if nothing is wrong.
    """

    check: str
    status: Status
    detail: str
    fix: str = ""


def worst(findings: Iterable[Finding]) -> Status:
    """The worst status among ``findings``."""
    found = {finding.status for finding in findings}
    return next((status for status in _WORST_FIRST if status in found), "ok")


def redacted(findings: Iterable[Finding]) -> list[Finding]:
    """``findings`` without secrets, which messages of servers and drivers may hold."""
    return [replace(each, detail=redact(each.detail), fix=redact(each.fix)) for each in findings]


Check = Callable[[], Awaitable[Sequence[Finding]]]


async def on_database(name: str, check: Check) -> Sequence[Finding]:
    """The findings of ``check``; if the database refuses to answer, that is the finding."""
    try:
        return await check()
    except (psycopg.Error, PoolTimeout) as error:
        detail = f"could not be checked: {first_line(error)}"
        return [Finding(name, "fail", detail, "see the database's log")]


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
