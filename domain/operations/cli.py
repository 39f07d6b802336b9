"""``qlp``: the operator's command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, NoReturn
from uuid import UUID

import orjson
import psycopg
import typer
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from rich.console import Console
from rich.table import Table

from domain.access.store import ApiKeys, Role
from domain.database import open_pool
from domain.eventlog.log import EventLog
from domain.eventlog.migrate import MigrationError, check_schema, migrate
from domain.intents.state import CorruptStream
from domain.operations.replay import NoSuchStream, replay
from domain.projections.intents import IntentReads
from domain.projections.rejected import RejectedMessages
from domain.repository import IntentRepository, intent_of

cli = typer.Typer(
    help=(
        "Operate QLP: look at event streams, replay them, manage API keys, migrate the schema. "
        "Connects to DATABASE_URL; every command takes --json for scripts."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
streams = typer.Typer(help="Look at event streams and replay them.", no_args_is_help=True)
keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
rejected = typer.Typer(help="Messages that could not be processed.", no_args_is_help=True)
cli.add_typer(streams, name="streams")
cli.add_typer(keys, name="keys")
cli.add_typer(rejected, name="rejected")

AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for scripts.")]
IntentId = Annotated[str, typer.Argument(help="An intent's id, or its stream's.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")]


class _Failure(Exception):
    """What is wrong and what would help, for the operator."""


@streams.command("list")
def streams_list(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    limit: Limit = 20,
    after: Annotated[str | None, typer.Option(help="Start after this stream.")] = None,
    json: AsJson = False,
) -> None:
    """List streams by id: how many events each has, and when the first and last came."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await EventLog(pool).streams(tenant, limit, after)
        next_after = found[-1].stream_id if len(found) == limit else None
        if json:
            _print_json({"items": found, "next": next_after})
            return
        rows = [(s.stream_id, s.tenant_id, s.version, s.first_at, s.last_at) for s in found]
        _print_table(("stream", "tenant", "events", "first", "last"), rows)
        if next_after:
            Console(stderr=True).print(f"[dim]more with --after {next_after}[/]")

    _run(work)


@streams.command("show")
def streams_show(stream: IntentId, json: AsJson = False) -> None:
    """Show the events of one stream, with their data."""

    async def work(pool: AsyncConnectionPool) -> None:
        records = await IntentRepository(EventLog(pool)).history(_intent_id(stream))
        if not records:
            raise _Failure(f"the log has no events of {stream}")
        if json:
            _print_json({"items": records})
            return
        rows = [(r.version, r.recorded_at, r.type, orjson.dumps(r.data).decode()) for r in records]
        _print_table(("version", "recorded", "type", "data"), rows)

    _run(work)


@streams.command("replay")
def streams_replay(stream: IntentId, json: AsJson = False) -> None:
    """Fold a stream event by event and compare the result with the read model.

    Only reads: no message is published and no program run. Exits with 1 if they differ.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        repository = IntentRepository(EventLog(pool))
        result = await replay(repository, IntentReads(pool), _intent_id(stream))
        if json:
            _print_json(
                {
                    "intent_id": result.intent_id,
                    "tenant_id": result.tenant_id,
                    "steps": result.steps,
                    "matches": result.matches,
                    "differences": result.differences,
                }
            )
        else:
            rows = [(s.version, s.recorded_at, s.type, s.status) for s in result.steps]
            _print_table(("version", "recorded", "event", "status after it"), rows)
            _print_verdict(result.differences)
        if not result.matches:
            raise typer.Exit(1)

    _run(work)


@keys.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="Whose key; the tenant is made if it is new.")],
    role: Annotated[Role, typer.Option(help="What the key may do.")] = "client",
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    json: AsJson = False,
) -> None:
    """Create an API key. It is shown once; only a hash of it is stored."""

    async def work(pool: AsyncConnectionPool) -> None:
        store = ApiKeys(pool)
        await store.ensure_tenant(tenant)
        key = await store.create(tenant, role, label)
        if json:
            _print_json({"tenant": tenant, "role": role, "key": key})
        else:
            typer.echo(key)

    _run(work)


@keys.command("list")
def keys_list(json: AsJson = False) -> None:
    """List API keys, without their secrets."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await ApiKeys(pool).list()
        if json:
            _print_json({"items": found})
            return
        rows = [(k.id, k.tenant_id, k.role, k.label, k.created_at, k.revoked_at) for k in found]
        _print_table(("id", "tenant", "role", "label", "created", "revoked"), rows)

    _run(work)


@keys.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `qlp keys list` shows it.")],
    dry_run: Annotated[bool, typer.Option(help="Only say what would be revoked.")] = False,
) -> None:
    """Revoke an API key; processes that know it forget it within 30 seconds."""

    async def work(pool: AsyncConnectionPool) -> None:
        store = ApiKeys(pool)
        found = next((key for key in await store.list() if key.id == key_id), None)
        if found is None:
            raise _Failure(f"there is no key {key_id}; see `qlp keys list`")
        if not dry_run:
            await store.revoke(key_id)
        word = "would revoke" if dry_run else "revoked"
        typer.echo(f"{word} {key_id} ({found.role} of {found.tenant_id}) {found.label}".strip())

    _run(work)


@rejected.command("list")
def rejected_list(limit: Limit = 20, json: AsJson = False) -> None:
    """List messages that could not be processed, newest first, and why."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = (await RejectedMessages(pool).list(limit=limit)).items
        if json:
            _print_json({"items": found})
            return
        rows = [
            (m.id, m.last_seen_at, m.source, m.deliveries, m.reason, m.description) for m in found
        ]
        _print_table(("id", "last seen", "source", "times", "reason", "description"), rows)

    _run(work)


@rejected.command("show")
def rejected_show(message_id: Annotated[str, typer.Argument()], json: AsJson = False) -> None:
    """Show one rejected message with its body."""

    async def work(pool: AsyncConnectionPool) -> None:
        message = await RejectedMessages(pool).get(_uuid(message_id))
        if message is None:
            raise _Failure(f"there is no rejected message {message_id}")
        if json:
            _print_json(message)
            return
        typer.echo(f"{message.reason}: {message.description}\n")
        typer.echo(message.body.decode(errors="backslashreplace"))

    _run(work)


@cli.command("migrate")
def migrate_command(json: AsJson = False) -> None:
    """Apply pending schema migrations, as the owner of the tables (DATABASE_ADMIN_URL).

    Forward only, each in a transaction; safe to run from several places at once.
    """
    url = os.environ.get("DATABASE_ADMIN_URL") or _database_url()
    applied = _guard(migrate(url))
    if json:
        _print_json({"applied": applied})
    else:
        typer.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


def main() -> None:
    """Entry point of the ``qlp`` command."""
    cli()


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        _fail("DATABASE_URL is not set; for the local stack: set -a; . .qlp/env; set +a")
    return url


@asynccontextmanager
async def _pool() -> AsyncIterator[AsyncConnectionPool]:
    pool = await open_pool(_database_url(), min_size=1, max_size=2, application_name="qlp-cli")
    try:
        await check_schema(pool)
        yield pool
    finally:
        await pool.close()


def _run(work: Callable[[AsyncConnectionPool], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with _pool() as pool:
            await work(pool)

    _guard(connected())


def _guard(work: Awaitable[Any]) -> Any:  # noqa: ANN401 whatever the work returns
    """Run ``work``; an expected failure becomes one line on standard error and exit code 1."""

    async def awaited() -> Any:  # noqa: ANN401
        return await work

    try:
        return asyncio.run(awaited())
    except (psycopg.OperationalError, PoolTimeout) as error:
        _fail(f"the database cannot be reached: {str(error).splitlines()[0]}")
    except (_Failure, NoSuchStream, CorruptStream, MigrationError, ValueError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(f"[red]qlp:[/] {message}", markup=True, highlight=False)
    raise typer.Exit(1)


def _uuid(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise _Failure(f"{value!r} is not an id") from None


def _intent_id(value: str) -> UUID:
    try:
        return intent_of(value)
    except ValueError:
        return _uuid(value)


def _print_json(value: Any) -> None:  # noqa: ANN401
    def default(item: Any) -> Any:  # noqa: ANN401
        if isinstance(item, bytes):
            return item.decode(errors="backslashreplace")
        raise TypeError(type(item).__name__)

    typer.echo(orjson.dumps(value, default=default, option=orjson.OPT_INDENT_2))


def _print_table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    Console(highlight=False).print(table)


def _cell(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="milliseconds"))
    return str(value)


def _print_verdict(differences: dict[str, tuple[Any, Any]]) -> None:
    if not differences:
        typer.echo("\nthe read model agrees with the events")
        return
    typer.echo("\nthe read model differs from the events:")
    for name, (folded, found) in differences.items():
        typer.echo(f"  {name}: events say {folded!r}, read model says {found!r}")
