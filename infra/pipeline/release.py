"""Puts a new version into production, and rolls back if it fails there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from infra.pipeline.azure import Site, swap
from infra.pipeline.client import PipelineError

Say = Callable[[str], None]
Verify = Callable[[], Awaitable[None]]


class RolledBack(PipelineError):
    """The new version failed in production; the previous version serves again."""


class RollBackFailed(PipelineError):
    """The new version failed, and so did rolling back: a person must act now."""


async def release(sites: Sequence[Site], group: str, verify: Verify, say: Say) -> None:
    """Swap ``sites`` in their order, then verify; on failure, swap back in reverse order.

    The order matters: the sandbox host comes first, as it reads the jobs of both the previous and
    the new version, and the application last.

    Args:
        sites: each with the slot that holds the new version.
        group: their resource group.
        verify: checks production; raises PipelineError if it fails.
        say: called with each step.

    Raises:
        RolledBack: the check failed; the message says why.
        RollBackFailed: swapping back or the check after it failed; the message says why, and which
            sites still have the new version.
    """
    swapped: list[Site] = []
    try:
        for site in sites:
            say(f"swapping {site.slot} of {site.name} into production")
            await swap(site, group)
            swapped.append(site)
        say("verifying production")
        await verify()
    except PipelineError as error:
        say(f"failed: {error}")
        await _roll_back(swapped, group, verify, say, str(error))
        raise RolledBack(str(error)) from None


async def _roll_back(
    swapped: list[Site], group: str, verify: Verify, say: Say, reason: str
) -> None:
    while swapped:
        site = swapped[-1]
        say(f"swapping {site.name} back")
        try:
            await swap(site, group)
        except PipelineError as error:
            names = ", ".join(site.name for site in swapped)
            raise RollBackFailed(
                f"{reason}; then {error}; still on the new version: {names}"
            ) from None
        swapped.pop()
    say("verifying the previous version")
    try:
        await verify()
    except PipelineError as error:
        raise RollBackFailed(
            f"{reason}; swapped back, but production still fails: {error}"
        ) from None
