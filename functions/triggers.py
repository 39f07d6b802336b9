"""What timer functions share: an outage is left to the next run, and is one line in the log."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable

import azure.functions as func

from domain.app import App, get_app
from domain.retry import reason_to_wait

logger = logging.getLogger(__name__)


def on_timer(
    work: Callable[[App], Awaitable[object]],
) -> Callable[[func.TimerRequest], Awaitable[None]]:
    """A timer function out of ``work``, which is left to the next run during an outage."""

    @functools.wraps(work)
    async def function(timer: func.TimerRequest) -> None:
        try:
            await work(await get_app())
        except Exception as error:
            if (reason := reason_to_wait(error)) is None:
                raise
            logger.warning("%s waits for its next run: %s", work.__name__, reason)

    # The host reads names and annotations: it must see this function's, not the wrapped one's.
    del function.__wrapped__
    function.__annotations__ = {"timer": func.TimerRequest, "return": None}
    return function
