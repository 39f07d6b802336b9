"""The database is lost and brought back, as an operator would, while clients go on submitting."""

from __future__ import annotations

import pytest

from infra.local.drill.__main__ import drill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLP_SANDBOX_RUNTIMES", "bubblewrap")
    monkeypatch.setenv("QLP_SEAL_SCHEDULE", "* * * * * *")


async def test_a_lost_disk_loses_no_accepted_intent() -> None:
    figures = await drill("disaster", seconds=1, clients=1, pause=0.1)
    assert figures.accepted > 0
    assert figures.lost == 0
    assert figures.outcomes == {"succeeded": figures.accepted}
    assert set(figures.refused) <= {"503"}
    assert set(figures.checks.values()) == {0}, figures.checks


@pytest.mark.parametrize("scenario", ["mistake", "move"])
async def test_what_a_restore_forgets_is_noticed_and_can_be_submitted_again(scenario: str) -> None:
    figures = await drill(scenario, seconds=1, clients=1, pause=0.1)
    assert 0 < figures.lost < figures.accepted
    assert figures.outcomes == {"succeeded": figures.accepted - figures.lost}
    assert figures.resubmitted == figures.lost
    assert set(figures.refused) <= {"503"}
    # Heads that were kept elsewhere know of events that are gone; the rest fits together.
    assert figures.checks.pop("log verify --anchor") == 1
    assert set(figures.checks.values()) == {0}, figures.checks
