"""``qlp log``: verify that nobody changed the log, keep the proof elsewhere, see who follows it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, FailFast, Field, ValidationError

from domain.contracts.strict_json import Time, read_as
from domain.contracts.validation import describe, matching
from domain.eventlog.followers import Followers
from domain.eventlog.models import Lag
from domain.eventlog.seals import Head, SealReads
from domain.operations.cli.console import AsJson, Failure, Limit, print_json, print_table, run
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import whole
from domain.operations.cli.progress import progress_bar
from domain.operations.log_findings import LogFinding
from domain.operations.log_integrity import LogVerifier, Verification

log = command_group("Verify the event log against its seals, and see who follows it.")

#: Largest file of heads, bytes; 1,000 heads take 200 KB.
MAX_HEADS_BYTES = 4 * 1024**2
_MAX_NODES = 10_000


class _Head(BaseModel):
    seq: int = Field(ge=1, lt=2**63)
    digest: Annotated[str, matching(r"[0-9a-f]{64}", "must be 64 hexadecimal digits")]
    events: int = 0
    sealed_at: Time = datetime.min


class _Heads(BaseModel):
    items: Annotated[list[_Head], FailFast()]


@log.command("verify")
def log_verify(
    from_seal: Annotated[
        int, whole(1, 10**15, help="Start at this seal, and trust what lies before it.")
    ] = 1,
    heads: Annotated[
        Path | None, typer.Option(help="Compare with the output of `qlp log heads --json`.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SEAL:DIGEST", help="A head that was kept elsewhere; may be repeated."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Verify every event, every seal and the chain of seals; only reads.

    Lists each event that was changed, removed, inserted or moved, or has a position or transaction
    that was never given out; each seal that was changed or removed; and missing versions. Exits
    with 1 if there are any. Only heads that were kept elsewhere show that all of it was rewritten.
    """
    kept = [_expected(each) for each in expect or ()]

    async def work(pool: AsyncConnectionPool) -> None:
        exported = [*(_read(heads) if heads is not None else []), *kept]
        with progress_bar("verifying", quiet=json) as bar:
            result = await LogVerifier(pool).verify(from_seal, exported, bar.show)
        if json:
            print_json(
                {
                    "intact": result.intact,
                    "seals": result.seals,
                    "events": result.events,
                    "unsealed": result.unsealed,
                    "heads": result.heads,
                    "findings": result.findings,
                    "suppressed": result.suppressed,
                    "head": result.head,
                }
            )
        else:
            _print(result)
        if not result.intact:
            raise typer.Exit(1)

    run(work)


@log.command("heads")
def log_heads(limit: Limit = 20, json: AsJson = False) -> None:
    """Show the digests of the last seals, newest first. Keep them outside of the database.

    The newest proves everything before it; older ones help to find where the log differs.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        found = await SealReads(pool).heads(limit)
        if json:
            print_json({"items": found})
            return
        rows = [(head.seq, head.sealed_at, head.events, head.digest) for head in found]
        columns = ("seal", "sealed", "events", "digest")
        print_table(columns, rows, "nothing is sealed yet; the function seal_log does that")

    run(work)


@log.command("followers")
def log_followers(json: AsJson = False) -> None:
    """List who follows the log, and how far behind each is; with --json, in each lane.

    Only lanes with events that are not processed yet are listed. One that stays there while others
    come and go is stuck: see the log of the application for the error.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        followers = Followers(pool)
        found = [
            (name, moved, await followers.lag(name))
            for name, moved in sorted((await followers.moved()).items())
        ]
        if json:
            print_json({"items": [_follower(*each) for each in found]})
            return
        rows = [
            (name, lag.events, f"{lag.seconds:.1f} s", lag.oldest, len(lag.lanes), moved)
            for name, moved, lag in found
        ]
        columns = ("follower", "lag", "behind", "in lane", "lanes behind", "last moved")
        print_table(columns, rows, "nothing follows the log yet; the application's timers do that")

    run(work)


def _follower(name: str, moved_at: datetime, lag: Lag) -> dict[str, object]:
    return {
        **{"name": name, "lag_events": lag.events, "lag_seconds": lag.seconds},
        **{"oldest_lane": lag.oldest, "moved_at": moved_at},
        "lanes": [
            {"lane": lane, "events": behind.events, "seconds": behind.seconds}
            for lane, behind in sorted(lag.lanes.items())
        ],
    }


def _read(path: Path) -> list[Head]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_HEADS_BYTES + 1)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    if len(content) > MAX_HEADS_BYTES:
        raise Failure(
            f"{path}: is larger than {MAX_HEADS_BYTES} bytes, too large for a file of heads"
        )
    try:
        heads = read_as(_Heads, content, max_nodes=_MAX_NODES).items
    except ValidationError as error:
        raise Failure(f"{path}: {describe(error)}; export with `qlp log heads --json`") from None
    return [Head(head.seq, head.digest, head.events, head.sealed_at) for head in heads]


def _expected(text: str) -> Head:
    seq, _, digest = text.partition(":")
    try:
        head = _Head(seq=int(seq) if seq.isascii() and seq.isdigit() else 0, digest=digest)
    except (ValidationError, ValueError):
        raise typer.BadParameter(
            f"--expect {text[:100]}: must be a seal's number and its digest, as `qlp log verify` "
            "shows them: 12:64 hexadecimal digits"
        ) from None
    return Head(head.seq, head.digest, head.events, head.sealed_at)


def _print(result: Verification) -> None:
    compared = f", {result.heads} exported heads" if result.heads else ""
    typer.echo(
        f"verified {result.events} events in {result.seals} seals{compared}; "
        f"{result.unsealed} events are not sealed yet"
    )
    if result.intact:
        typer.echo("the log is intact")
        if result.head is not None:
            head = f"{result.head.seq}:{result.head.digest}"
            typer.echo(f"to prove it later, keep this elsewhere: qlp log verify --expect {head}")
        return
    found = len(result.findings) + result.suppressed
    typer.echo(f"\n{found} findings{': the first of them' if result.suppressed else ':'}")
    columns = ("finding", "seal", "stream", "version", "position", "event", "detail")
    print_table(columns, [_row(each) for each in result.findings])


def _row(found: LogFinding) -> tuple[object, ...]:
    seal = "" if found.seal is None else str(found.seal)
    if found.positions is not None:
        seal += f" (positions {found.positions[0]} to {found.positions[1]})"
    where = (found.stream_id, found.version, found.position, found.event_id)
    return (found.kind, seal, *where, found.detail)
