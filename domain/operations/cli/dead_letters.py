"""``qlp dead-letters``: messages that Service Bus gave up delivering."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from azure.servicebus.aio import ServiceBusClient

from domain.errors import OperationError
from domain.messaging.bus import (
    FORBIDDEN,
    FORBIDDEN_FIX,
    Entity,
    bus_client,
    entities_of,
    entity_named,
)
from domain.messaging.dead_letters import (
    Action,
    DeadLetter,
    DeadLetters,
    Settled,
    open_dead_letters,
)
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Limit,
    Yes,
    confirm,
    guard,
    print_json,
    print_table,
    printable,
)
from domain.operations.cli.group import command_group
from domain.operations.cli.progress import progress_bar
from domain.settings import Settings

dead_letters = command_group(
    "List, resend and remove messages that Service Bus gave up.\n\n"
    "Needs ServiceBusConnection or ServiceBusConnection__fullyQualifiedNamespace."
)

EntityName = Annotated[
    str, typer.Argument(help="A queue, or topic/subscription, as `qlp dead-letters list` shows it.")
]
MessageId = Annotated[
    list[str] | None,
    typer.Option("--message-id", help="Only the message with this id; may be repeated."),
]


@dead_letters.command("list")
def dead_letters_list(
    entity: Annotated[
        str | None, typer.Argument(help="Only this queue or topic/subscription.")
    ] = None,
    message_id: MessageId = None,
    limit: Limit = 100,
    json: AsJson = False,
) -> None:
    """List dead letters, with the reason, the number of deliveries and the age."""

    async def work(settings: Settings) -> None:
        chosen = entities_of(settings) if entity is None else [entity_named(settings, entity)]

        async def peek(client: ServiceBusClient, each: Entity) -> list[DeadLetter]:
            async with open_dead_letters(client, each) as letters:
                return await letters.peek(message_id or (), limit)

        async with bus_client(settings) as client:
            pages = await asyncio.gather(*(peek(client, each) for each in chosen))
        found = [letter for page in pages for letter in page]
        if json:
            print_json({"items": [_shown(letter) for letter in found]})
        elif found:
            _print_letters(found)
        else:
            typer.echo(f"no dead letters in {', '.join(each.name for each in chosen)}")

    _run(work)


@dead_letters.command("show")
def dead_letters_show(
    entity: EntityName,
    message_id: Annotated[str, typer.Argument(help="The message's id.")],
    json: AsJson = False,
) -> None:
    """Show the dead letters with one message id, with their bodies."""

    async def work(settings: Settings) -> None:
        chosen = entity_named(settings, entity)
        async with bus_client(settings) as client, open_dead_letters(client, chosen) as letters:
            found = await letters.peek([message_id])
        if not found:
            raise Failure(f"{entity} has no dead letter {message_id}")
        if json:
            print_json({"items": found})
            return
        for letter in found:
            for name, value in _shown(letter).items():
                if value not in (None, {}):
                    typer.echo(printable(f"{name}: {value}"))
            typer.echo("\n" + printable(letter.body.decode(errors="backslashreplace")))

    _run(work)


@dead_letters.command("resubmit")
def dead_letters_resubmit(
    entity: EntityName,
    message_id: MessageId = None,
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Send dead letters to their queue or topic again, with the same id, body and properties.

    The copy is sent before the dead letter is removed. A crash in between leaves both; consumers
    recognise the second by its id. The property qlp-resubmitted counts how often this was done. A
    subscription's dead letter goes to its topic, and so to every subscription of it. A message that
    no function can read, or that Service Bus refuses, is listed and remains a dead letter.
    """
    _change("resubmit", entity, message_id, limit, dry_run, yes, json)


@dead_letters.command("purge")
def dead_letters_purge(
    entity: EntityName,
    message_id: MessageId = None,
    limit: Limit = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Remove dead letters. This cannot be undone."""
    _change("purge", entity, message_id, limit, dry_run, yes, json)


def _change(
    action: Action,
    entity: str,
    message_ids: list[str] | None,
    limit: int,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    async def work(settings: Settings) -> None:
        chosen = entity_named(settings, entity)
        async with bus_client(settings) as client, open_dead_letters(client, chosen) as letters:
            found = await letters.peek(message_ids or (), limit)
            _require_all(found, message_ids, chosen)
            result: Settled | None = None
            if not json:
                _print_preview(found, chosen, action)
            if found and not dry_run:
                confirm(f"{action.capitalize()} {len(found)} of {entity}?", yes)
                result = await _settle(letters, action, found, json)
        if json:
            preview = [_shown(letter) for letter in found]
            print_json({"preview": preview, "dry_run": dry_run, "result": result})
        elif result is not None:
            _print_result(result)
        if result is not None and (result.duplicated or result.refused or result.missing):
            raise typer.Exit(1)

    _run(work)


async def _settle(
    letters: DeadLetters, action: Action, found: list[DeadLetter], quiet: bool
) -> Settled:
    settle = letters.resubmit if action == "resubmit" else letters.purge
    with progress_bar(action, quiet) as bar:
        return await settle(found, bar.show)


def _require_all(found: list[DeadLetter], message_ids: list[str] | None, entity: Entity) -> None:
    missing = set(message_ids or ()) - {letter.message_id for letter in found}
    if missing:
        raise Failure(f"{entity.name} has no dead letter {', '.join(sorted(missing))}")


def _print_preview(found: list[DeadLetter], entity: Entity, action: Action) -> None:
    typer.echo(f"dead letters of {entity.name} to {action}: {len(found)}")
    if found:
        _print_letters(found[:5])
    if len(found) > 5:
        typer.echo(f"… and {len(found) - 5} more")


def _print_letters(found: list[DeadLetter]) -> None:
    print_table(
        (
            "entity",
            "message",
            "subject",
            "age",
            "deliveries",
            "resubmitted",
            "reason",
            "description",
        ),
        [
            (
                *(each.entity, each.message_id, each.subject, _age(each), each.delivery_count),
                *(each.resubmitted, each.reason, each.description),
            )
            for each in found
        ],
    )


def _print_result(result: Settled) -> None:
    word = "sent again" if result.action == "resubmit" else "removed"
    typer.echo(f"\n{word}: {len(result.done)}")
    for name, why in result.duplicated.items():
        typer.echo(printable(f"  {name} was sent again, but is still a dead letter: {why}"))
    for name, why in result.refused.items():
        typer.echo(printable(f"  {name} was not sent and is still a dead letter: {why}"))
    for name in result.missing:
        typer.echo(printable(f"  {name} is gone, or locked by another receiver"))


def _age(letter: DeadLetter) -> timedelta | None:
    if letter.enqueued_at is None:
        return None
    enqueued = letter.enqueued_at
    if enqueued.tzinfo is None:
        enqueued = enqueued.replace(tzinfo=UTC)
    return timedelta(seconds=round((datetime.now(UTC) - enqueued).total_seconds()))


def _shown(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter without its body."""
    return {
        name: getattr(letter, name) for name in DeadLetter.__dataclass_fields__ if name != "body"
    } | {"body_bytes": len(letter.body)}


def _run(work: Callable[[Settings], Awaitable[None]]) -> None:
    async def awaited() -> None:
        try:
            await work(Settings.from_environment())
        except OperationError as error:
            if isinstance(error.__cause__, FORBIDDEN):
                raise Failure(f"{error}; {FORBIDDEN_FIX}") from None
            raise

    guard(awaited())
