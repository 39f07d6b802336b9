"""Failures, grouped by what they have in common."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.projections.following.error_patterns import MAX_CAUSE, ErrorPatterns, normalise
from tests.support.intents.histories import Histories, run, table

PATTERNS = b"""
    select tenant_id, code, cause, failures, first_seen, last_seen, example_intent_id
    from error_patterns order by tenant_id, code, cause
"""


async def test_failures_that_differ_only_in_particulars_are_one_pattern(
    pool: AsyncConnectionPool,
) -> None:
    histories = Histories.over(pool)
    ids = [await histories.exited(code=code) for code in (1, 2, 137)]
    other = await histories.exited("other")
    await histories.succeeded()
    await run(pool, ErrorPatterns())
    rows: list[Any] = await table(pool, PATTERNS)
    cause = "The program exited with code <n>; see stderr."
    assert [row[:4] for row in rows] == [
        ("acme", "program_exited", cause, 3),
        ("other", "program_exited", cause, 1),
    ]
    assert [row[6] for row in rows] == [ids[0], other], "the first one is the example"


async def test_a_pattern_knows_when_it_was_seen_first_and_last_whatever_the_batches(
    pool: AsyncConnectionPool,
) -> None:
    histories = Histories.over(pool)
    first = await histories.exited()
    await run(pool, ErrorPatterns())
    [before] = await table(pool, PATTERNS)
    await histories.exited()
    await run(pool, ErrorPatterns(), page=1)
    [after] = await table(pool, PATTERNS)
    assert after[3] == 2
    assert after[4] == before[4]
    assert isinstance(after[5], datetime)
    assert isinstance(before[5], datetime)
    assert after[5] > before[5]
    assert after[6] == first


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("exit code 137", "exit code <n>"),
        ("took 1.5 s of 10", "took <n> s of <n>"),
        ("run 97f4323d-9a50-4e5b-8560-4c79604a7306 is gone", "run <id> is gone"),
        ("no file '/tmp/a b.txt' here", "no file <text> here"),
        ('key "k1" and "k2"', "key <text> and <text>"),
        ("at /var/lib/x-1/y.py:12", "at <path>:<n>"),
        ("read ./data/in.csv", "read <path>"),
        ("GET https://example.org/a?b=1 failed", "GET <url> failed"),
        ("address 0x7ffe1234", "address <hex>"),
        ("digest 9f86d081884c7d65", "digest <hex>"),
        ("it doesn't and it can't", "it doesn't and it can't"),
        ("a\x00b\x1b[31m  c\n", "a b [<n>m c"),
        ("and/or", "and/or"),
    ],
)
def test_particulars_are_taken_out(message: str, pattern: str) -> None:
    assert normalise(message) == pattern


@pytest.mark.parametrize("unit", ["'", '"', "/a", "a://", "1.", "0x", "f", "`x", "-", "a" * 30])
def test_no_message_is_too_long_or_too_odd(unit: str) -> None:
    began = time.process_time()
    assert len(normalise(unit * 500_000)) <= MAX_CAUSE
    assert time.process_time() - began < 0.5


async def test_the_oddest_failure_fits_its_row(pool: AsyncConnectionPool) -> None:
    message = "\U0001f642\x00\U0001f643" * 2_000
    await Histories.over(pool).unplannable(message, code="\x00" + "\U0001f642" * 500)
    assert await run(pool, ErrorPatterns()) == 2
    [row] = await table(pool, PATTERNS)
    assert row[3] == 1
