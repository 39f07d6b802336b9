"""Figures of an evaluation."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from tests.evaluation.attempt import Attempt, Spent
from tests.evaluation.cases import CASES
from tests.evaluation.pairs import NEAR_MISSES, PARAPHRASES, REPEATS
from tests.evaluation.report import (
    as_json,
    percentile,
    reuse_as_json,
    show,
    show_reuse,
    totals,
    wilson,
)
from tests.evaluation.reuse import Asked, Tally


def attempt(at: int, wrong: str | None, repairs: int, seconds: float) -> Attempt:
    spent = Spent(1 + repairs, 900, 100, 1500, 0.5)
    return Attempt(CASES[at], "id", "succeeded", wrong, repairs, seconds, spent)


FOUND = [
    attempt(0, None, 0, 1.0),
    attempt(1, None, 2, 2.0),
    attempt(2, "[red]found 1[/], expected 2", 0, 3.0),
    attempt(2, "found 1", 1, 4.0),
]


def test_totals_tell_the_first_program_from_repairs() -> None:
    figures = totals(FOUND)
    assert (figures["pass_at_1"], figures["pass_after_repair"]) == (0.25, 0.5)
    assert (figures["attempts"], figures["repairs"], figures["calls"]) == (4, 3, 7)
    assert (figures["input_tokens"], figures["output_tokens"]) == (3600, 400)
    assert figures["cost_usd"] == pytest.approx(0.006)
    assert (figures["seconds_p50"], figures["seconds_p95"]) == pytest.approx((2.5, 3.85))


def test_nothing_has_no_shares() -> None:
    figures = totals([])
    assert figures["attempts"] == 0
    assert figures["pass_at_1"] is figures["seconds_p50"] is figures["pass_at_1_interval"] is None
    json.dumps(as_json([], {}))


@pytest.mark.parametrize(
    ("successes", "count", "interval"),
    [(5, 10, (0.237, 0.763)), (0, 10, (0.0, 0.278)), (103, 103, (0.964, 1.0))],
)
def test_intervals_are_wilsons(successes: int, count: int, interval: tuple[float, float]) -> None:
    assert wilson(successes, count) == pytest.approx(interval, abs=5e-4)


def test_a_single_value_is_every_percentile() -> None:
    assert percentile([3.0], 95) == 3.0


@pytest.mark.parametrize("priced", [True, False])
def test_the_table_shows_each_attempt_and_what_is_wrong_as_it_is(priced: bool) -> None:
    console = Console(width=160, record=True, file=StringIO())
    show(console, FOUND, priced)
    shown = console.export_text()
    assert "[red]found 1[/], expected 2" in shown
    assert shown.count(CASES[2].id) == 2
    [last] = [line for line in shown.splitlines() if line.startswith("all")]
    assert "25.0% (5%–70%)" in last
    assert "50.0% (15%–85%)" in last
    assert ("0.0060" in last) is priced


def test_the_json_has_all_of_it() -> None:
    document = json.loads(json.dumps(as_json(FOUND, {"model": "m"})))
    assert document["model"] == "m"
    assert document["totals"]["pass_at_1"] == 0.25
    assert document["by_family"]["text"]["attempts"] == 4
    assert document["attempts"][1]["repairs"] == 2
    assert document["attempts"][1]["cost_microusd"] == 1500


def test_every_wrong_reuse_is_shown() -> None:
    tally = Tally(
        "similar",
        (
            Asked(NEAR_MISSES[0], reused=True, right=False),
            Asked(NEAR_MISSES[1], reused=False, right=True),
            Asked(PARAPHRASES[0], reused=True, right=True),
            Asked(REPEATS[0], reused=True, right=True),
        ),
    )
    assert [each.pair for each in tally.wrong] == [NEAR_MISSES[0]]
    console = Console(width=200, record=True, file=StringIO())
    show_reuse(console, [tally])
    shown = console.export_text()
    assert NEAR_MISSES[0].asked in shown
    assert NEAR_MISSES[1].asked not in shown
    [document] = reuse_as_json([tally])
    assert document["wrong"] == 1
    assert len(document["pairs"]) == 4
