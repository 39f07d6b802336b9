"""Puts a new version into production and takes it back when it does not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from infra.pipeline.azure import Site, swap
from infra.pipeline.client import PipelineError

Say = Callable[[str], None]
Verify = Callable[[], Awaitable[None]]


class RolledBack(PipelineError):
    """The new version failed in production; the one before serves again."""


class RollBackFailed(PipelineError):
    """The new version failed, and taking it back did too: a person is needed now."""


async def release(sites: Sequence[Site], group: str, verify: Verify, say: Say) -> None:
    """Swap ``sites`` in their order, then verify; on failure swap back in reverse order.

    The order matters: the sandbox host goes first, since it reads the jobs of the version before
    and of the new one, and the application last.

    Args:
        sites: each with the slot that holds the new version.
        group: their resource group.
        verify: looks at production; raises PipelineError when it is not well.
        say: told each step.

    Raises:
        RolledBack: with what was wrong.
        RollBackFailed: with what was wrong, and which sites hold the new version still.
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
    say("verifying the version before")
    try:
        await verify()
    except PipelineError as error:
        raise RollBackFailed(
            f"{reason}; swapped back, but production is not well: {error}"
        ) from None
