"""``qlp replay``: repeat messages of intents."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool

from domain.messaging.bus import bus_publisher
from domain.messaging.routing import Destinations
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Yes,
    confirm,
    parse_intent_id,
    print_json,
    printable,
    run,
)
from domain.operations.cli.progress import progress_bar
from domain.operations.cli.selecting import SelectionLimit, Where, print_preview
from domain.operations.redrive import Redrive, Redriven, Target, parse_rate
from domain.operations.selection import Selection, selection_of
from domain.runs.tokens import RunTokens
from domain.settings import Settings

_EFFECTS = {
    "publish": "its last event is announced again on the topic, with the same message id",
    "sandbox": "the job of its open run is sent to the sandbox again, with the same run id",
    "nowhere": "its events are folded and compared with the read model; nothing is sent",
}


def replay_command(
    intents: Annotated[
        list[str] | None, typer.Argument(help="Ids of intents, or of their streams.")
    ] = None,
    where: Where = None,
    to: Annotated[
        Target,
        typer.Option(
            help="Announce them (publish), send their jobs (sandbox), or only compare (nowhere)."
        ),
    ] = "nowhere",
    limit: SelectionLimit = 1000,
    rate: Annotated[str, typer.Option(metavar="N/s", help="Intents a second, at most.")] = "50/s",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Announce intents again, send their jobs again, or only compare them with the read model.

    Shows what matches and asks first; does nothing if other intents match by then. Message ids are
    those of the first time, so it is safe to repeat the command, after a crash too. Exits with 1 if
    --to nowhere finds differences.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        selection = selection_of([parse_intent_id(each) for each in intents or []], where)
        per_second = parse_rate(rate)
        async with AsyncExitStack() as stack:
            redrive = await _open(pool, to, stack, dry_run)
            await _replay(redrive, selection, per_second)

    async def _replay(redrive: Redrive, selection: Selection, per_second: float) -> None:
        found = await redrive.preview(selection, limit)
        if not json:
            print_preview(found, _EFFECTS[to])
        if dry_run or not found.selected:
            if json:
                print_json({"preview": found.summary(), "dry_run": dry_run, "result": None})
            return
        if to != "nowhere":
            confirm(f"Replay {len(found.selected)} to {to}?", yes)
        with progress_bar("replaying", quiet=json) as bar:
            result = await redrive.execute(
                selection,
                limit,
                to,
                found,
                per_second=per_second,
                progress=bar.show,
            )
        if json:
            print_json({"preview": found.summary(), "dry_run": False, "result": result.summary()})
        else:
            _print_result(result)
        if result.differences:
            raise typer.Exit(1)

    run(work)


async def _open(
    pool: AsyncConnectionPool, to: Target, stack: AsyncExitStack, dry_run: bool
) -> Redrive:
    if to == "nowhere" or dry_run:  # needs no bus
        return Redrive(pool, Destinations("", ""), None, RunTokens([]))
    settings = Settings.from_environment()
    publisher = await stack.enter_async_context(bus_publisher(settings))
    destinations = Destinations(settings.events_topic, settings.jobs_queue)
    return Redrive(pool, destinations, publisher, settings.run_tokens)


def _print_result(result: Redriven) -> None:
    words = {"publish": "announced again", "sandbox": "sent to the sandbox again"}
    typer.echo(f"\n{words.get(result.target, 'compared')}: {result.done}")
    for intent_id, why in result.skipped.items():
        typer.echo(printable(f"  skipped {intent_id}: {why}"))
    for intent_id, differences in result.differences.items():
        for name, (folded, row) in differences.items():
            text = f"  {intent_id} {name}: events say {folded!r}, read model says {row!r}"
            typer.echo(printable(text))
    if result.target == "nowhere" and not result.differences:
        typer.echo("the read model agrees with the events")
