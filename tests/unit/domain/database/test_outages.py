"""Which of PostgreSQL's errors are a state of the server, and which are about the request."""

from __future__ import annotations

import psycopg
import pytest
from pgvector import Vector
from psycopg import errors as pg
from psycopg.adapt import PyFormat, Transformer
from psycopg_pool import PoolClosed, PoolTimeout

from domain.database.outages import OUTAGES, describe_outage, outage_of

#: What the server says of itself: whole classes, and states out of others.
CLASSES = ("08", "28", "40", "53", "57", "58")
STATES = (
    *("25006", "25P03", "25P04", "26000", "3D000", "3F000", "42501", "42883", "42P01", "42P05"),
    *("55000", "55006", "55P03", "XX001", "XX002"),
)
KNOWN = sorted(code for code in pg._sqlcodes if len(code) == 5)


@pytest.mark.parametrize("code", KNOWN)
def test_each_state_is_an_outage_or_about_the_request(code: str) -> None:
    expected = code in STATES or code[:2] in CLASSES
    assert bool(outage_of(pg.lookup(code)("said the server"))) is expected


def test_the_table_names_only_states_that_exist() -> None:
    assert not [code for code in OUTAGES if len(code) == 5 and code not in KNOWN]
    assert not [code for code in OUTAGES if not any(known.startswith(code) for known in KNOWN)]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is lost"),
        pg.ConnectionTimeout("connection timeout expired"),
        PoolTimeout("couldn't get a connection after 10.00 sec"),
        PoolClosed("the pool 'qlp' is already closed"),
        ExceptionGroup("both", [pg.ReadOnlySqlTransaction("a"), pg.DiskFull("b")]),
    ],
)
def test_what_the_client_notices_by_itself_is_an_outage(error: Exception) -> None:
    assert outage_of(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("psycopg has no part in it"),
        psycopg.ProgrammingError("the query has 2 placeholders but 1 parameters were passed"),
        pg.PipelineAborted("another statement's error is the one that counts"),
        ExceptionGroup("one of two", [pg.DiskFull("a"), ValueError("b")]),
        None,
    ],
)
def test_a_mistake_is_no_outage(error: Exception | None) -> None:
    assert outage_of(error) is None


def test_an_outage_is_told_in_one_line() -> None:
    error = pg.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction\nLINE 1: …")
    assert describe_outage(error) == (
        "the database is read-only: cannot execute INSERT in a read-only transaction"
    )
    assert describe_outage(psycopg.OperationalError("")) == (
        "the database cannot be reached: OperationalError"
    )
    assert describe_outage(ExceptionGroup("all", [error])) == describe_outage(error)


def test_a_connection_that_was_opened_before_the_tables_were_there_is_not_used_again() -> None:
    with pytest.raises(psycopg.ProgrammingError) as caught:
        Transformer().get_dumper(Vector([1.0]), PyFormat.AUTO)
    outage = outage_of(caught.value)
    assert outage is not None
    assert outage.stale
