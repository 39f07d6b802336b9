"""``qlp events``: watch events as they are recorded, export them, and import them elsewhere."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from psycopg_pool import AsyncConnectionPool

from domain.contracts.envelope import TENANT_PATTERN
from domain.eventlog.digests import StoredEvent
from domain.eventlog.heads import FORMAT, Heads, InvalidHeads
from domain.eventlog.intent_streams import stream_of
from domain.eventlog.log import EventLog
from domain.eventlog.scan import Filter, LogScanner
from domain.eventlog.staging import Staged
from domain.eventlog.transfer import MAX_TRAILER_BYTES, InvalidExport, encode_line, next_of
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Yes,
    confirm,
    note,
    owner_url,
    parse_intent_id,
    print_json,
    printable,
    run,
)
from domain.operations.cli.group import command_group, discard_output, nobody_reads
from domain.operations.cli.progress import progress_bar
from domain.operations.tail import Tail
from domain.operations.transfer import Imported, end_import, export_events, import_events

events = command_group("Watch, export and import events.")

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only types like this, for example 'IntentF*'; may be repeated."),
]

#: What event types consist of, and the wildcards of `Filter`.
_TYPE_PATTERN = re.compile(r"[\w.*?-]*", re.ASCII)


@events.command("tail")
def events_tail(
    tenant: Tenant = None,
    types: Types = None,
    stream: Annotated[
        str | None, typer.Option(help="Only this stream, by its id or that of its intent.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", help="now, start or, with --stream, a version.")
    ] = "now",
    json: AsJson = False,
) -> None:
    """Show events as they are recorded, one line each, until Ctrl-C.

    With --json each line is a CloudEvent as in an export.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        wanted = _wanted(tenant, types)
        tail = Tail(pool, nobody_reads)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, tail.stop)
        if sys.stdout.isatty():
            note("waiting for events; Ctrl-C ends")
        show = _show_json if json else _show
        async with aclosing(await _followed(pool, tail, wanted, stream, start)) as followed:
            async for event in followed:
                if not _written(show, event):
                    return

    run(work)


def _wanted(tenant: str | None, types: Sequence[str] | None) -> Filter:
    """What --tenant and --type select.

    Raises:
        Failure: that is nothing, whatever will be recorded.
    """
    if tenant is not None and not re.match(TENANT_PATTERN, tenant):
        raise Failure(f"{tenant!r} is not the id of a tenant")
    for pattern in types or ():
        if not _TYPE_PATTERN.fullmatch(pattern):
            raise Failure(
                f"--type {pattern!r} matches no event: types have letters, digits, '_', '.' and "
                "'-'; * stands for any text, ? for one character"
            )
    return Filter(tenant, tuple(types or ()))


async def _followed(
    pool: AsyncConnectionPool, tail: Tail, wanted: Filter, stream: str | None, start: str
) -> AsyncGenerator[StoredEvent, None]:
    if stream is not None:
        after = _after_version(start)
        return tail.stream(await _stream(pool, stream), wanted, after_version=after)
    if start not in ("now", "start"):
        raise Failure(f"--from {start}: must be now or start; a version needs --stream")
    tenant = wanted.tenant_id
    if tenant is not None and not await EventLog(pool).streams(tenant, 1):
        note(f"the tenant {tenant} has no events so far")
    return tail.log(wanted, from_start=start == "start")


async def _stream(pool: AsyncConnectionPool, given: str) -> str:
    """The stream with this id, or of the intent with this id, whose first event may yet come.

    Raises:
        Failure: the log has no such stream, and it is no intent's id.
    """
    scanner = LogScanner(pool)
    if await scanner.stream_version(given):
        return given
    stream = stream_of(parse_intent_id(given))
    if not await scanner.stream_version(stream):
        note(f"the stream {stream} has no events so far")
    return stream


def _after_version(start: str) -> int | None:
    if start == "now":
        return None
    if start == "start":
        return 0
    if start.isdecimal() and len(start) < 10 and int(start) > 0:
        return int(start) - 1
    raise Failure(f"--from {start}: must be now, start or a version from 1 on")


def _show(event: StoredEvent) -> bytes:
    moment = event.recorded_at.isoformat(sep=" ", timespec="milliseconds")
    where = f"{event.tenant_id}  {event.stream_id}  {event.version}  {event.type}"
    return f"{moment}  {printable(where)}\n".encode()


def _show_json(event: StoredEvent) -> bytes:
    return encode_line(event)


def _written(show: Callable[[StoredEvent], bytes], event: StoredEvent) -> bool:
    """Write an event; False if nobody reads any more, as after ``| head``."""
    try:
        sys.stdout.buffer.write(show(event))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        discard_output()
        return False
    return True


@events.command("export")
def events_export(
    file: Annotated[str, typer.Argument(help="A new file, or - for standard output.")] = "-",
    tenant: Tenant = None,
    types: Types = None,
    after: Annotated[
        str | None,
        typer.Option(
            help="Only what follows an earlier export: that file, or 'next' in its trailer."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write the events recorded so far as CloudEvents, one JSON line each, and a trailer.

    An export with --type cannot be imported: an import needs whole streams.
    """
    begin = _heads(after)

    async def work(pool: AsyncConnectionPool) -> None:
        wanted = _wanted(tenant, types)
        with _target(file) as target, progress_bar("exporting", quiet=json) as bar:
            done = await export_events(pool, wanted, begin, target.write, bar.show)
        if json:
            print_json(
                {
                    **{"events": done.events, "unknown": done.unknown, "next": str(done.end)},
                    **{"odd": done.odd, "first_odd": done.first_odd},
                }
            )
        else:
            note(f"exported {done.events} events, {done.unknown} of unknown types")
            if file != "-":
                note(f"what is recorded from now on: {_next_export(file, wanted)} FILE")
            if done.odd:
                note(f"{done.odd} have data that only PostgreSQL takes for JSON, exported as text:")
                _list(done.odd, done.first_odd)

    if json and file == "-":
        raise typer.BadParameter(
            "--json prints the report on standard output: name a file for the events"
        )
    run(work)


def _next_export(file: str, wanted: Filter) -> str:
    """The command that exports what follows, for a shell; without the new file's name."""
    options = ["--after", file]
    if wanted.tenant_id is not None:
        options += ["--tenant", wanted.tenant_id]
    for pattern in wanted.types:
        options += ["--type", pattern]
    return shlex.join(["qlp", "events", "export", *options])


def _heads(after: str | None) -> Heads:
    """Where an export begins: given by an earlier one, or by what its trailer says."""
    if after is None:
        return Heads.start()
    text = after if after.startswith(FORMAT) else _next_of(after)
    try:
        return Heads.parse(text)
    except InvalidHeads as error:
        raise typer.BadParameter(f"--after: 'next' of an export's trailer {error}") from None


def _next_of(file: str) -> str:
    """``next`` in the trailer of an export."""
    if Path(file).exists() and not Path(file).is_file():
        raise typer.BadParameter(f"--after {file}: is no regular file")
    try:
        with open(file, "rb") as export:
            size = export.seek(0, os.SEEK_END)
            export.seek(max(size - MAX_TRAILER_BYTES, 0))
            return next_of(export.read())
    except OSError as error:
        raise typer.BadParameter(
            f"--after {file}: {error.strerror}; it must be an export's file, or 'next' of its "
            f"trailer if that begins with {FORMAT}"
        ) from None
    except InvalidExport as error:
        raise typer.BadParameter(f"--after {file}: {error}") from None


@contextmanager
def _target(file: str) -> Iterator[BinaryIO]:
    """Where an export is written to; a file that could not be finished is removed."""
    try:
        if file == "-":
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as target:
                yield target
            return
        # It holds what users wrote: only the operator may read it.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as target:
                yield target
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            Path(file).unlink()
            raise
    except BrokenPipeError:
        raise typer.Exit(1) from None  # nobody reads any more, as after ``| head``
    except FileExistsError:
        what = "folder" if Path(file).is_dir() else "file"
        raise Failure(
            f"{file}: there is a {what} of this name; choose another name, or - for standard output"
        ) from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None


@events.command("import")
def events_import(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="An export, a pipe, or - for standard input."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish an import that broke off; reads no file.")
    ] = False,
    give_up: Annotated[
        bool,
        typer.Option("--give-up", help="Forget the rest of an import that cannot be finished."),
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="STREAM", help="Leave this stream out; may be repeated."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Append the events of exports: all or nothing, with their ids, versions and times.

    Several files are read at once, and imported as if they were one: an export, say, and those made
    --after it, in that order.

    Needs the owner of the tables (DATABASE_ADMIN_URL). Importing a file again changes nothing. The
    read model of the intents is written too, and the application continues those that have not
    ended. Streams that this release cannot fold are imported as they are, and listed. An export
    holds no vectors for the search for similar intents.

    Everything is checked before the first event is written. If the import breaks off after that,
    the next one finishes it, or --resume does.
    """
    if resume or give_up:
        if files or dry_run or without or (resume and give_up):
            raise typer.BadParameter(
                "--resume takes no file and no other option, nor does --give-up"
            )
        _end(give_up, yes, json)
        return
    if not files:
        raise typer.BadParameter("name the file of an export, or - for standard input")
    if len(files) > 1 and "-" in files:
        raise typer.BadParameter("several files are read at once, and - cannot be one of them")
    _import(files, without or (), dry_run, yes, json)


def _end(give_up: bool, yes: bool, json: bool) -> None:
    """Finish an import that broke off, or forget its rest."""
    done = "given_up" if give_up else "resumed"
    said = "the rest of the import is forgotten" if give_up else "the import is finished"

    def agree() -> None:
        question = "Forget what the import has not moved into the log? What was moved stays."
        confirm(question, yes, dry_run=False)

    async def work(_: AsyncConnectionPool) -> None:
        there_was_one = await end_import(owner_url(), give_up=give_up, confirm=agree)
        if json:
            print_json({done: there_was_one})
        else:
            note(said if there_was_one else "no import broke off")

    run(work)


def _import(
    files: Sequence[str], without: Collection[str], dry_run: bool, yes: bool, json: bool
) -> None:
    if files == ["-"] and not (dry_run or yes):
        raise typer.BadParameter(
            "standard input is the file, so nobody can confirm: try --dry-run, then use --yes"
        )

    async def work(_: AsyncConnectionPool) -> None:
        def agree(staged: Staged) -> bool:
            bar.stop()
            if not json:
                note(
                    f"events: {staged.events}, streams: {staged.streams}, "
                    f"tenants: {staged.tenants}; {staged.known} events are in this log already, "
                    f"{staged.new} are new"
                    + (f"; {staged.left_out} are left out" if staged.left_out else "")
                )
            if staged.new and not dry_run:
                confirm(f"Import {staged.new} events?", yes)
            return not dry_run

        def certain() -> None:
            if not json:
                note("moving them into the log; if that breaks off: qlp events import --resume")

        with ExitStack() as stack:
            sources = [stack.enter_context(_source(file, len(files) == 1)) for file in files]
            bar = stack.enter_context(progress_bar("reading", quiet=json))
            sizes = [_size(source) for source in sources]
            bar.show(0, sizes[0] if len(files) == 1 else sum(size or 0 for size in sizes))
            done = await import_events(
                owner_url(),
                sources[0] if len(files) == 1 else files,
                without=without,
                confirm=agree,
                progress=bar.show,
                accepted=certain,
            )
        _report(done, dry_run, json)

    run(work)


@contextmanager
def _source(file: str, alone: bool) -> Iterator[BinaryIO]:
    """The file or pipe that an import reads; no pipe, unless it is alone."""
    try:
        if file == "-":
            _check_mode(file, os.fstat(sys.stdin.fileno()).st_mode, alone)
            yield sys.stdin.buffer
            return
        _check_mode(file, os.stat(file).st_mode, alone)
        with open(file, "rb") as opened:
            yield opened
    except FileNotFoundError:
        raise Failure(f"{file}: there is no such file") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None


def _check_mode(file: str, mode: int, alone: bool) -> None:
    if stat.S_ISDIR(mode):
        raise Failure(f"{file}: is a folder; name the file of the export")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise Failure(f"{file}: is neither a file nor a pipe")
    if not alone and not stat.S_ISREG(mode):
        raise Failure(f"{file}: is a pipe; several at once must be files")


def _size(source: BinaryIO) -> int | None:
    """Bytes of a file; None for a pipe."""
    found = os.fstat(source.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _report(done: Imported, dry_run: bool, json: bool) -> None:
    if json:
        print_json({"dry_run": dry_run, "staged": done.staged, "new": done.staged.new,
                    "rows": done.rows, "unfinished": done.unfinished,
                    "unknown": done.unknown, "parked": done.parked,
                    "first_parked": done.first_parked})  # fmt: skip
    elif dry_run and done.staged.partial:
        note(
            f"{done.staged.partial} streams of the file lack versions that this log has: the file "
            "alone can be imported here, but not into a log without them; nothing was imported"
        )
    elif dry_run:
        note("the file is complete and can be imported; nothing was imported")
    else:
        note(
            f"imported {done.staged.new} events; {done.rows} intents are up to date, "
            f"{done.unfinished} of them have not ended; {done.unknown} events of unknown types"
        )
        if done.parked:
            note(f"this release cannot fold {done.parked} intents, which are parked:")
            _list(done.parked, done.first_parked)


def _list(count: int, first: tuple[str, ...]) -> None:
    for each in first:
        note(printable(f"  {each}"))
    if count > len(first):
        note(f"  and {count - len(first)} more")
