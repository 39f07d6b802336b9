"""Timer functions: publish and recover what was lost, project, check, seal, delete what expired."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable

import azure.functions as func

from domain.app import App, get_app
from domain.retry import reason_to_wait

logger = logging.getLogger(__name__)

bp = func.Blueprint()


def on_timer(
    work: Callable[[App], Awaitable[object]],
) -> Callable[[func.TimerRequest], Awaitable[None]]:
    """Make a timer function of ``work``; during an outage, it is left to the next run."""

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


@bp.function_name("relay_events")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_RELAY_SCHEDULE%", use_monitor=False)
@on_timer
async def relay_events(app: App) -> None:
    """Publish events that a crash has left unpublished."""
    await app.relay.run_until_caught_up()


@bp.function_name("recover_stalled")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_RECOVERY_SCHEDULE%", use_monitor=False)
@on_timer
async def recover_stalled(app: App) -> None:
    """Publish stalled intents again; retry messages that an earlier release could not process."""
    await app.held.retake()
    await app.recovery.run()


@bp.function_name("review_dead_letters")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_DEAD_LETTERS_SCHEDULE%", use_monitor=False)
@on_timer
async def review_dead_letters(app: App) -> None:
    """Record dead letters that can never be processed, and count the others."""
    await app.dead_letters.refresh()


@bp.function_name("run_projections")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_PROJECTIONS_SCHEDULE%", use_monitor=False)
@on_timer
async def run_projections(app: App) -> None:
    """Bring the read models that follow the log up to date."""
    await app.projections.run_until_caught_up()


@bp.function_name("purge_expired")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_PURGE_SCHEDULE%", use_monitor=False)
@on_timer
async def purge_expired(app: App) -> None:
    """Delete artifacts, live output and notes of recovery and of sending that have expired."""
    await app.artifacts.purge(app.settings.artifact_days)
    await app.run_output.purge()
    await app.reads.forget_recovered()
    await app.relay.purge()


@bp.function_name("fill_embeddings")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_RECOVERY_SCHEDULE%", use_monitor=False)
@on_timer
async def fill_embeddings(app: App) -> None:
    """Give intents the vectors that they lack because the provider did not answer."""
    await app.embedding_sweep.run()


@bp.function_name("check_similarity")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_SIMILARITY_SCHEDULE%", use_monitor=False)
@on_timer
async def check_similarity(app: App) -> None:
    """Compare index and exact search on a few stored vectors; problems are logged."""
    await app.operations.check_similarity()


@bp.function_name("seal_log")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_SEAL_SCHEDULE%", use_monitor=False)
@on_timer
async def seal_log(app: App) -> None:
    """Chain the events since the last seal, so that nobody can change them unnoticed."""
    await app.sealer.run_until_caught_up()
