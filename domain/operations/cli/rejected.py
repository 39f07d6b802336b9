"""``qlp rejected``: messages that could not be processed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from psycopg_pool import AsyncConnectionPool

from domain.messaging.rejected import RejectedMessage, RejectedMessages
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Limit,
    Yes,
    confirm,
    parse_id,
    print_json,
    print_table,
    printable,
    report,
    run,
)
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import whole

rejected = command_group("Show messages that could not be processed.")


@rejected.command("list")
def rejected_list(limit: Limit = 20, json: AsJson = False) -> None:
    """List messages that could not be processed, and why, newest first."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = (await RejectedMessages(pool).list(limit=limit)).items
        if json:
            print_json({"items": [_shown(message) for message in found]})
            return
        rows = [
            (
                *(m.id, m.last_seen_at, m.source, m.tenant_id, m.message_id),
                *(m.deliveries, m.reason, m.description),
            )
            for m in found
        ]
        print_table(
            (
                *("id", "last seen", "source", "tenant", "message"),
                *("deliveries", "reason", "description"),
            ),
            rows,
            "no message was rejected",
        )

    run(work)


def _shown(message: RejectedMessage) -> dict[str, Any]:
    """A rejected message without its body."""
    return {
        name: getattr(message, name)
        for name in RejectedMessage.__dataclass_fields__
        if name != "body"
    } | {"body_bytes": len(message.body)}


@rejected.command("purge")
def rejected_purge(
    older_than: Annotated[
        int,
        whole(
            1, 36_500, metavar="DAYS", help="Only those last seen this many days ago, or earlier."
        ),
    ],
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Delete rejected messages that have not come in again for some days."""

    async def work(pool: AsyncConnectionPool) -> None:
        store = RejectedMessages(pool)
        before = datetime.now(UTC) - timedelta(days=older_than)
        count = await store.count_older(before)
        if count and not dry_run:
            confirm(f"Delete {count} rejected messages last seen before {before:%Y-%m-%d}?", yes)
            count = await store.purge(before)
        text = f"{'would delete' if dry_run else 'deleted'}: {count}"
        report(json, {"before": before, "count": count, "dry_run": dry_run}, text)

    run(work)


@rejected.command("show")
def rejected_show(
    message_id: Annotated[str, typer.Argument(help="Its id, as `qlp rejected list` shows it.")],
    json: AsJson = False,
) -> None:
    """Show one rejected message with its body."""

    async def work(pool: AsyncConnectionPool) -> None:
        message = await RejectedMessages(pool).get(parse_id(message_id))
        if message is None:
            raise Failure(f"there is no rejected message {message_id}")
        if json:
            print_json(message)
            return
        for name, value in _shown(message).items():
            if value is not None:
                typer.echo(printable(f"{name}: {value}"))
        typer.echo("\n" + printable(message.body.decode(errors="backslashreplace")))

    run(work)
