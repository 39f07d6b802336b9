"""Timer functions: the safety nets behind the fast paths."""

from __future__ import annotations

import azure.functions as func

from domain.app import get_app

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
