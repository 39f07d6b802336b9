"""What all commands of ``qlp`` share: connections, errors in one line, tables and JSON."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, NoReturn
from uuid import UUID

import orjson
import typer
from psycopg_pool import AsyncConnectionPool

from domain.contracts.redaction import redact
from domain.database.migrate import MigrationError, check_schema
from domain.database.outages import describe_outage, outage_of
from domain.database.pool import open_pool, try_connection
from domain.errors import OperationError
from domain.eventlog.intent_streams import intent_of
from domain.eventlog.models import RecordedEvent
from domain.intents.evolve import CorruptStream
from domain.operations.cli.asking import asked
from domain.operations.cli.numbers import whole
from domain.operations.cli.table import table_lines
from domain.operations.replay import NoSuchStream
from domain.settings import InvalidSettings, database_setting
from domain.similarity.embedder import EmbeddingUnavailable
from domain.similarity.models import IndexingFailed

# psycopg warns of connections that end; what a command needs to say of failures, `guard` says.
logging.getLogger("psycopg").setLevel(logging.ERROR)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
IntentId = Annotated[str, typer.Argument(help="The id of an intent, or of its stream.")]
Limit = Annotated[int, whole(1, 1000, help="At most this many.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


#: Exit code of a command that cannot begin because a setting is wrong.
WRONG_SETTING = 2


class Failure(Exception):
    """A command failed; the message says what is wrong and what would help."""


_EXPECTED = (
    *(Failure, OperationError, NoSuchStream, CorruptStream, MigrationError, ValueError),
    *(IndexingFailed, EmbeddingUnavailable),
)


def database_url() -> str:
    """DATABASE_URL; if it is missing or wrong, the command ends and says how to set it."""
    url = _setting("DATABASE_URL")
    if url is None:
        message = "DATABASE_URL is not set; for the local stack: set -a; . .qlp/env; set +a"
        fail(message, WRONG_SETTING)
    return url


def owner_url() -> str:
    """DATABASE_ADMIN_URL, else DATABASE_URL; if it is wrong, the command ends and says why."""
    return _setting("DATABASE_ADMIN_URL") or database_url()


def _setting(name: str) -> str | None:
    try:
        return database_setting(name)
    except InvalidSettings as error:
        fail(str(error), WRONG_SETTING)


@asynccontextmanager
async def _pool(url: str, application_name: str, role: str) -> AsyncIterator[AsyncConnectionPool]:
    # One connection first: it fails at once and says why, where a pool would keep trying.
    await try_connection(url)
    # Verifying a projection takes three: the fresh tables, the runner's lease, and the log.
    pool = await open_pool(
        url, min_size=1, max_size=3, role=role, application_name=application_name
    )
    try:
        await check_schema(pool)
        yield pool
    finally:
        await pool.close()


def run(work: Callable[[AsyncConnectionPool], Awaitable[None]]) -> None:
    """Run ``work`` with connections of the application's role; see `guard` for its failures."""
    _run(work, database_url(), "qlp-cli", "qlp_app")


def run_as_owner(
    work: Callable[[AsyncConnectionPool], Awaitable[None]], application_name: str
) -> None:
    """Run ``work`` with connections of the tables' owner (DATABASE_ADMIN_URL)."""
    _run(work, owner_url(), application_name, "none")


def _run(
    work: Callable[[AsyncConnectionPool], Awaitable[None]],
    url: str,
    application_name: str,
    role: str,
) -> None:
    async def connected() -> None:
        async with _pool(url, application_name, role) as pool:
            await work(pool)

    guard(connected())


def guard(work: Awaitable[Any]) -> Any:  # noqa: ANN401 whatever the work returns
    """Run ``work``; an expected failure becomes one line on standard error and exit code 1.

    If a setting is wrong, the exit code is `WRONG_SETTING`.
    """

    async def awaited() -> Any:  # noqa: ANN401
        return await work

    try:
        return asyncio.run(awaited())
    except InvalidSettings as error:
        fail(str(error), WRONG_SETTING)
    except _EXPECTED as error:
        fail(str(error))
    except Exception as error:
        if outage_of(error) is None:
            raise
        fail(describe_outage(error))


def fail(message: str, code: int = 1) -> NoReturn:
    """Print what is wrong on standard error, and exit with ``code``."""
    typer.echo(typer.style("qlp: ", fg="red") + printable(redact(message)), err=True)
    raise typer.Exit(code)


def confirm(question: str, yes: bool, *, dry_run: bool = True) -> None:
    """Go on only if the operator agrees, when asked or beforehand with --yes.

    Args:
        question: can be answered with yes or no.
        yes: they have agreed beforehand.
        dry_run: whether --dry-run goes with the command.

    Raises:
        Failure: standard input is no terminal, so nobody can be asked.
        typer.Abort: they do not agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        advice = "try --dry-run, then use --yes" if dry_run else "use --yes"
        raise Failure(f"nobody can confirm, as standard input is no terminal: {advice}")
    if not asked(question, err=True):
        raise typer.Abort


def parse_id(value: str) -> UUID:
    """``value`` as a UUID.

    Raises:
        Failure: it is none.
    """
    try:
        return UUID(value)
    except ValueError:
        raise Failure(f"{value!r} is not an id") from None


def parse_intent_id(value: str) -> UUID:
    """The id of an intent, from that or from its stream's id.

    Raises:
        Failure: it is neither.
    """
    try:
        return intent_of(value)
    except ValueError:
        return parse_id(value)


def report(json: bool, value: Any, text: str) -> None:  # noqa: ANN401
    """Print what was done: ``value`` as JSON, or ``text`` for people."""
    if json:
        print_json(value)
    else:
        typer.echo(printable(text))


def print_json_line(value: Any) -> None:  # noqa: ANN401
    """Print JSON in one line, at once: for progress."""
    typer.echo(orjson.dumps(value))
    sys.stdout.flush()


def print_json(value: Any) -> None:  # noqa: ANN401
    """Print indented JSON; takes dataclasses, events, ids and times too."""

    def default(item: Any) -> Any:  # noqa: ANN401
        if isinstance(item, bytes):
            return item.decode(errors="backslashreplace")
        if isinstance(item, RecordedEvent):
            columns = {k: v for k, v in item._asdict().items() if not k.endswith("_json")}
            return {**columns, **item.raw_json}
        raise TypeError(type(item).__name__)

    typer.echo(orjson.dumps(value, default=default, option=orjson.OPT_INDENT_2))


def print_table(
    columns: tuple[str, ...], rows: Sequence[Sequence[Any]], empty: str = "nothing"
) -> None:
    """Print a table; on a terminal, no wider than that if it can be.

    Args:
        columns: their names.
        rows: each with a value for every column.
        empty: printed instead if there are no rows.
    """
    if not rows:
        typer.echo(empty)
        return
    width = (
        shutil.get_terminal_size().columns
        if sys.stdout is not None and sys.stdout.isatty()
        else None
    )
    cells = [[printable(_cell(value)) for value in row] for row in rows]
    header, *lines = table_lines([columns, *cells], width)
    typer.echo("\n".join([typer.style(header, bold=True), *lines]))


def note(message: str) -> None:
    """Print a remark on standard error, apart from the output."""
    typer.echo(typer.style(printable(message), dim=True), err=True)


def printable(text: str) -> str:
    """``text`` with control characters escaped: what users wrote must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _cell(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ", timespec="seconds")).removesuffix("+00:00") + "Z"
    return str(value)
