"""Outages of the database: errors that are due to the server's state, not to the request.

What raised one can be repeated later unchanged, and whoever asked for it did nothing wrong: HTTP
answers 503, messages wait, timers try again at their next run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import psycopg

from domain.contracts.redaction import redact


class Outage(NamedTuple):
    """A state in which the database does not carry out requests.

    Attributes:
        problem: completes the sentence "the database …".
        stale: the connection may stay in that state after the server has recovered, so it must not
            be used again.
        passing: it concerns one statement, as a conflict with others does; the next may succeed.
    """

    problem: str
    stale: bool = False
    passing: bool = False


UNREACHABLE: Final = Outage("cannot be reached")

_RESTORING = Outage("is not set up, or is being restored")
_STORAGE = Outage("has trouble with its storage")
_PREPARED = Outage(
    "does not keep a session's prepared statements (a pooler in transaction mode in between?)",
    stale=True,
)

#: Connections learn the type of vectors when they are opened.
_WITHOUT_VECTORS = Outage(_RESTORING.problem, stale=True)

#: By SQLSTATE, or by its class, the first two characters; the longer key takes precedence.
#: Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
OUTAGES: Final[Mapping[str, Outage]] = {
    "08": UNREACHABLE,
    "25006": Outage("is read-only", stale=True),
    "25P03": Outage("ended a transaction that waited too long"),
    "25P04": Outage("ended a transaction that took too long"),
    "26000": _PREPARED,
    "28": Outage("refuses the login"),
    "3D000": Outage("does not exist"),
    "3F000": _RESTORING,
    "40": Outage("gave way to other transactions", passing=True),
    "42501": _RESTORING,
    "42883": _RESTORING,
    "42P01": _RESTORING,
    "42P05": _PREPARED,
    "53": Outage("is short of resources"),
    "53100": Outage("has no disk space left"),
    "53200": Outage("is out of memory"),
    "53300": Outage("has no connection left"),
    "55000": Outage("is not ready"),
    "55006": Outage("is busy", passing=True),
    "55P03": Outage("was waiting for a lock for too long", passing=True),
    "57": Outage("is shutting down or starting"),
    "57014": Outage("took too long, or was told to stop", passing=True),
    "57P05": Outage("ended an idle session"),
    "58": _STORAGE,
    "XX001": _STORAGE,
    "XX002": _STORAGE,
}

#: Errors whose SQLSTATE has many other causes, by the function in the server that raised them.
_BY_FUNCTION: Final[Mapping[tuple[str, str], Outage]] = {
    ("54000", "GetNewTransactionId"): Outage("takes no more transactions until it is vacuumed"),
    ("54000", "GetNewMultiXactId"): Outage("takes no more transactions until it is vacuumed"),
    ("0A000", "RevalidateCachedQuery"): Outage("has a changed schema", stale=True),
}


def outage_of(error: BaseException | None) -> Outage | None:
    """The outage that ``error`` reports; None for any other error.

    An exception group is an outage if all of its errors are.
    """
    if isinstance(error, BaseExceptionGroup):
        outages = [outage_of(each) for each in error.exceptions]
        return outages[0] if all(outages) else None
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state is None:
        if isinstance(error, psycopg.ProgrammingError) and "'Vector'" in str(error):
            return _WITHOUT_VECTORS
        # Errors of the client: lost, refused and timed-out connections, and exhausted pools. The
        # error that aborted a pipeline is raised as well, so PipelineAborted is not one.
        client = isinstance(error, psycopg.OperationalError)
        return (
            UNREACHABLE
            if client and not isinstance(error, psycopg.errors.PipelineAborted)
            else None
        )
    function = error.diag.source_function or ""
    return _BY_FUNCTION.get((state, function)) or OUTAGES.get(state) or OUTAGES.get(state[:2])


def describe_outage(error: BaseException) -> str:
    """One line for operators: the database's state and its error message."""
    if isinstance(error, BaseExceptionGroup):
        return describe_outage(error.exceptions[0])
    outage = outage_of(error) or UNREACHABLE
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"the database {outage.problem}: {redact(lines[0])}"
