"""A release that fails is rolled back, and the operator is told which sites still run it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from infra.pipeline.azure import Site
from infra.pipeline.client import PipelineError
from infra.pipeline.release import RollBackFailed, RolledBack, release
from tests.support.azure_cli import AzureCli

SITES = [Site("webapp", "sandbox", "next"), Site("functionapp", "app", "next")]


def swapped(azure_cli: AzureCli) -> list[str]:
    """Kind and name of each site whose slots were swapped; nothing else was called."""
    words = [line.split() for line in azure_cli.calls.splitlines()]
    assert all(line[1:4] == ["deployment", "slot", "swap"] for line in words)
    return [f"{line[0]} {line[line.index('--name') + 1]}" for line in words]


def verdicts(*problems: str) -> Callable[[], Awaitable[None]]:
    """A verification that finds these problems, one a call; an empty one means that it passes."""
    left = list(problems)

    async def verify() -> None:
        if problem := left.pop(0):
            raise PipelineError(problem)

    return verify


async def test_a_good_release_swaps_in_order_and_stays(azure_cli: AzureCli) -> None:
    said: list[str] = []
    await release(SITES, "group", verdicts(""), said.append)
    assert swapped(azure_cli) == ["webapp sandbox", "functionapp app"]
    assert "--resource-group group" in azure_cli.calls
    assert "--slot next --target-slot production" in azure_cli.calls
    assert said[-1] == "verifying production"


async def test_a_version_that_fails_in_production_is_rolled_back(azure_cli: AzureCli) -> None:
    with pytest.raises(RolledBack, match="3 of 8 checks failed"):
        await release(SITES, "group", verdicts("3 of 8 checks failed", ""), lambda _: None)
    assert swapped(azure_cli) == [
        *("webapp sandbox", "functionapp app"),
        *("functionapp app", "webapp sandbox"),
    ]


async def test_only_what_was_swapped_is_swapped_back(azure_cli: AzureCli) -> None:
    azure_cli.fail_call(2)
    with pytest.raises(RolledBack, match="app: swap: ERROR: the slot is busy"):
        await release(SITES, "group", verdicts(""), lambda _: None)
    assert swapped(azure_cli) == ["webapp sandbox", "functionapp app", "webapp sandbox"]


async def test_a_swap_back_that_fails_names_what_still_runs_the_new_version(
    azure_cli: AzureCli,
) -> None:
    azure_cli.fail_call(4)
    with pytest.raises(RollBackFailed, match=r"too slow; then .*; still on the new version: sand"):
        await release(SITES, "group", verdicts("too slow"), lambda _: None)


async def test_the_previous_version_is_verified_after_a_rollback(azure_cli: AzureCli) -> None:
    with pytest.raises(RollBackFailed, match="swapped back, but production still fails: still"):
        await release(SITES, "group", verdicts("broken", "still broken"), lambda _: None)
    assert len(swapped(azure_cli)) == 4


async def test_a_missing_azure_command_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RolledBack, match="az: not found"):
        await release(SITES, "group", verdicts(""), lambda _: None)


@pytest.mark.parametrize(
    "text", ["", "app", "webapp:name", "webapp::slot", "vm:a:b", "webapp:a:b:c"]
)
def test_an_incomplete_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="functionapp:NAME:SLOT"):
        Site.parse(text)
