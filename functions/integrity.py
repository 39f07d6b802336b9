"""The timer function that seals the log."""

from __future__ import annotations

import azure.functions as func

from domain.app import App
from functions.triggers import on_timer

bp = func.Blueprint()


@bp.function_name("seal_log")
@bp.timer_trigger(arg_name="timer", schedule="%QLP_SEAL_SCHEDULE%", use_monitor=False)
@on_timer
async def seal_log(app: App) -> None:
    """Chain the events since the last seal, so that nobody can change them unnoticed."""
    await app.sealer.run_until_caught_up()
