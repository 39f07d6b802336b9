"""Timer functions: the safety nets behind the fast paths."""

from __future__ import annotations

import azure.functions as func

from domain.app import get_app
from domain.similarity.recall import check_active

bp = func.Blueprint()


@bp.function_name("relay_events")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_RELAY_SCHEDULE%", use_monitor=False)
async def relay_events(timer: func.TimerRequest) -> None:
    """Publish what a crash left between commit and publish."""
    app = await get_app()
    await app.relay.run_until_caught_up()


@bp.function_name("recover_stalled")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_RECOVERY_SCHEDULE%", use_monitor=False)
async def recover_stalled(timer: func.TimerRequest) -> None:
    """Publish again what no longer moves."""
    app = await get_app()
    await app.recovery.run()


@bp.function_name("run_projections")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_PROJECTIONS_SCHEDULE%", use_monitor=False)
async def run_projections(timer: func.TimerRequest) -> None:
    """Bring the read models that follow the log up to it."""
    app = await get_app()
    await app.projections.run_until_caught_up()


@bp.function_name("purge_expired")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_PURGE_SCHEDULE%", use_monitor=False)
async def purge_expired(timer: func.TimerRequest) -> None:
    """Throw away contents, live output and marks of recovery whose time is over."""
    app = await get_app()
    await app.artifacts.purge(app.settings.artifact_days)
    await app.run_output.purge()
    await app.reads.forget_recovered()


@bp.function_name("fill_embeddings")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_RECOVERY_SCHEDULE%", use_monitor=False)
async def fill_embeddings(timer: func.TimerRequest) -> None:
    """Give intents the vectors that they went without while the provider was away."""
    app = await get_app()
    await app.embedding_sweep.run()


@bp.function_name("check_similarity")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_SIMILARITY_SCHEDULE%", use_monitor=False)
async def check_similarity(timer: func.TimerRequest) -> None:
    """Compare index and exact search on a few stored vectors; what is wrong is logged."""
    app = await get_app()
    await check_active(app.pool)
