"""``qlp streams``: look at event streams and replay them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer
from psycopg_pool import AsyncConnectionPool

from domain.application.repository import IntentRepository
from domain.eventlog.log import EventLog
from domain.eventlog.models import RecordedEvent
from domain.operations.cli.console import (
    AsJson,
    Failure,
    IntentId,
    Limit,
    note,
    parse_intent_id,
    print_json,
    print_table,
    printable,
    run,
)
from domain.operations.cli.group import command_group
from domain.operations.replay import replay
from domain.operations.time_travel import StreamThen, parse_as_of, travel
from domain.projections.intents import IntentReads

streams = command_group("Look at event streams and replay them.")


@streams.command("list")
def streams_list(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    limit: Limit = 20,
    after: Annotated[str | None, typer.Option(help="Start after this stream.")] = None,
    json: AsJson = False,
) -> None:
    """List streams by id, with the number of their events and the time of the last."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await EventLog(pool).streams(tenant, limit, after)
        next_after = found[-1].stream_id if len(found) == limit else None
        if json:
            print_json({"items": found, "next": next_after})
            return
        rows = [(s.stream_id, s.version, s.last_at, s.tenant_id) for s in found]
        empty = "no streams" if tenant is None else f"no streams of the tenant {tenant}"
        print_table(
            ("stream", "events", "last", "tenant"), rows, empty + (" after that" if after else "")
        )
        if next_after:
            note(f"more with --after {next_after}")

    run(work)


@streams.command("show")
def streams_show(
    stream: IntentId,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|VERSION",
            help="As it was then: a time such as 2026-03-01T12:00:00Z, or a version.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show the events of a stream with their data.

    With --as-of, first the status after each event until then and the intent's state at that point,
    then those events alone.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        repository = IntentRepository(EventLog(pool))
        intent_id = parse_intent_id(stream)
        if as_of is not None:
            then = await travel(repository, intent_id, parse_as_of(as_of))
            print_json(then) if json else _print_then(then)
            return
        records = await repository.history(intent_id)
        if not records:
            raise Failure(f"the log has no events of {stream}")
        if json:
            print_json({"items": records})
        else:
            _print_events(records)

    run(work)


def _print_then(then: StreamThen) -> None:
    moment = "" if isinstance(then.as_of, int) else f"at {then.as_of}: "
    typer.echo(f"{moment}version {then.version} of {then.latest_version}\n")
    steps = [(s.version, s.recorded_at, s.type, s.status) for s in then.history]
    print_table(("version", "recorded", "event", "status after it"), steps)
    if then.unreadable is not None:
        typer.echo(printable(f"\nunreadable from there on: {then.unreadable}"))
    if then.state:
        typer.echo("\nthe intent then:")
        typer.echo(textwrap.indent(printable(_indented(then.state)), "   "))
    typer.echo("\nits events:")
    _print_events(then.events)


def _print_events(records: Sequence[RecordedEvent]) -> None:
    for record in records:
        moment = record.recorded_at.isoformat(sep=" ", timespec="milliseconds")
        typer.echo(f"{record.version}  {printable(record.type)}  {moment}")
        typer.echo(textwrap.indent(printable(_data(record)), "   "))


def _data(record: RecordedEvent) -> str:
    """The data, indented; as stored if they cannot be read."""
    try:
        return _indented(record.data)
    except ValueError:
        return record.data_json


def _indented(value: dict[str, Any]) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


@streams.command("replay")
def streams_replay(stream: IntentId, json: AsJson = False) -> None:
    """Fold a stream event by event, and compare the result with the read model.

    Only reads: no message is published, and no program is run. Exits with 1 if they differ.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        repository = IntentRepository(EventLog(pool))
        result = await replay(repository, IntentReads(pool), parse_intent_id(stream))
        if json:
            print_json(
                {
                    "intent_id": result.intent_id,
                    "tenant_id": result.tenant_id,
                    "steps": result.steps,
                    "matches": result.matches,
                    "differences": result.differences,
                }
            )
        else:
            rows = [
                (s.version, s.recorded_at.strftime("%H:%M:%S.%f")[:-3], s.type, s.status)
                for s in result.steps
            ]
            print_table(("version", "recorded", "event", "status after it"), rows)
            _print_verdict(result.differences)
        if not result.matches:
            raise typer.Exit(1)

    run(work)


def _print_verdict(differences: dict[str, tuple[Any, Any]]) -> None:
    if not differences:
        typer.echo("\nthe read model agrees with the events")
        return
    typer.echo("\nthe read model differs from the events:")
    for name, (folded, found) in differences.items():
        typer.echo(f"  {name}: events say {folded!r}, read model says {found!r}")
