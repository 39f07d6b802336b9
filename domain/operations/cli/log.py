"""``qlp log``: verify that nobody changed the log, prove what is in it, see who follows it."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool

from domain.contracts.connections import seal_anchor
from domain.eventlog.followers import Followers
from domain.eventlog.models import Lag
from domain.operations.cli.console import (
    AsJson,
    Failure,
    Limit,
    parse_id,
    print_json,
    print_table,
    run,
)
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import whole
from domain.operations.cli.progress import progress_bar
from domain.operations.log_findings import LogFinding
from domain.operations.log_integrity import LogVerifier, UnknownSeal, Verification
from domain.operations.proof import NoProof, prove
from domain.sealing.anchors import AnchorUnavailable, Kept
from domain.sealing.keys import InvalidKey, PublicKey
from domain.sealing.places import anchor_at, is_url
from domain.sealing.reads import SealReads
from domain.sealing.seal import Seal

log = command_group("Verify the event log, prove events, and see who follows it.")

_MAX_KEY_CHARACTERS = 10_000
_SEAL_NUMBER, _DIGEST = re.compile(r"[1-9][0-9]{0,17}"), re.compile("[0-9a-f]{64}")


@log.command("verify")
def log_verify(
    since: Annotated[
        int,
        whole(0, 10**15, metavar="SEAL", help="Trust this seal, and all that it covers."),
    ] = 0,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|URL",
            help="Seals that were kept elsewhere: a file, or a container of Azure Blob Storage.",
        ),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="SEAL:DIGEST", help="A seal that was kept elsewhere."),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="A public key (PEM): no other one may have signed seals."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Verify every event, its place in its lane's chain, and every seal; only reads.

    Names what was changed, removed, inserted or moved, and what is missing; exits with 1 if there
    is anything. Who can write everything, and sign, can hide what he did, but not from seals that
    were kept elsewhere. The options may be repeated, but for --since.
    """
    expected = [_expected(each) for each in expect or ()]
    anchors = [_anchor(each) for each in anchor or ()]
    trusted = [_public_key(each) for each in key or ()]

    async def work(pool: AsyncConnectionPool) -> None:
        kept = [*expected]
        for each in anchors:
            kept += await _kept(each)
        with progress_bar("verifying", quiet=json) as bar:
            try:
                result = await LogVerifier(pool).verify(since, kept, trusted, bar.show)
            except UnknownSeal as error:
                raise Failure(f"--since {since}: {error}") from None
        if json:
            print_json(
                {
                    "intact": result.intact,
                    "seals": result.seals,
                    "events": result.events,
                    "unsealed": result.unsealed,
                    "anchored": result.anchored,
                    "findings": result.findings,
                    "suppressed": result.suppressed,
                    "signed_by": [*result.signed_by.values()],
                    "last": _shown(result.last) if result.last is not None else None,
                }
            )
        else:
            _print(result)
        if not result.intact:
            raise typer.Exit(1)

    run(work)


@log.command("seals")
def log_seals(
    limit: Limit = 20,
    text: Annotated[
        bool,
        typer.Option("--text", help="Print them whole, one in each line, as an anchor has them."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the last seals, newest first. Keep them outside of the database.

    The newest proves everything before it; older ones help to find where the log differs.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        found = await SealReads(pool).newest(limit)
        if json:
            print_json({"items": [_shown(seal) for seal in found]})
            return
        if text:
            for seal in reversed(found):
                typer.echo(str(seal))
            return
        rows = [
            (each.number, each.sealed_at, each.events, each.key_id or "none", each.digest.hex())
            for each in found
        ]
        columns = ("seal", "sealed", "events", "key", "digest")
        print_table(columns, rows, "nothing is sealed yet; the function seal_log does that")

    run(work)


@log.command("prove")
def log_prove(
    event_id: Annotated[str, typer.Argument(help="The id of an event.")], json: AsJson = False
) -> None:
    """Prove that an event is in the log, and what it says; the proof is printed with --json.

    Whoever has it needs no access to check it: docs/security/check_proof.py is all that it takes.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        event = parse_id(event_id)
        try:
            proof = await prove(pool, event)
        except NoProof as error:
            raise Failure(str(error)) from None
        if json:
            print_json(proof)
            return
        seal, lane, place = (proof[name] for name in ("seal", "lane", "lane_position"))
        signed = "signed" if proof["public_key"] else "not signed: set QLP_SEAL_SIGNER"
        typer.echo(
            f"event {event} at place {place} of lane {lane} is covered by seal "
            f"{Seal.parse(seal).number}, which is {signed}; --json prints the proof"
        )

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


def _shown(seal: Seal) -> dict[str, object]:
    return {
        "seal": seal.number,
        "sealed_at": seal.sealed_at,
        "events": seal.events,
        "digest": seal.digest.hex(),
        "key_id": seal.key_id,
        "text": str(seal),
    }


def _anchor(where: str) -> str:
    if not is_url(where):
        return str(Path(where).absolute())
    try:
        return seal_anchor(where)
    except ValueError as error:
        raise typer.BadParameter(f"--anchor: {error}") from None


async def _kept(where: str) -> list[Kept]:
    """What an anchor holds."""
    credential = None
    if is_url(where):
        from azure.identity.aio import DefaultAzureCredential  # slow, and seldom needed

        credential = DefaultAzureCredential()
    anchor = anchor_at(where, credential)
    assert anchor is not None
    try:
        kept = [each async for each in anchor.kept()]
    except AnchorUnavailable as error:
        raise Failure(str(error)) from None
    finally:
        if credential is not None:
            await credential.close()
    if not kept:
        raise Failure(f"{anchor.name}: holds no seal; `qlp log seals --text` prints some")
    return kept


def _public_key(path: Path) -> PublicKey:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return PublicKey.parse(file.read(_MAX_KEY_CHARACTERS))
    except OSError as error:
        raise typer.BadParameter(f"--key {path}: {error.strerror}") from None
    except InvalidKey as error:
        raise typer.BadParameter(f"--key {path}: {error}") from None


def _expected(text: str) -> Kept:
    number, _, digest = text.partition(":")
    if not _SEAL_NUMBER.fullmatch(number) or not _DIGEST.fullmatch(digest):
        raise typer.BadParameter(
            f"--expect {text[:100]}: must be a seal's number and its digest, as `qlp log verify` "
            "shows them: 12:64 hexadecimal digits"
        )
    return Kept(int(number), bytes.fromhex(digest))


def _print(result: Verification) -> None:
    kept = f", {result.anchored} of them kept elsewhere" if result.anchored else ""
    typer.echo(
        f"verified {result.events} events in {result.seals} seals{kept}; "
        f"{result.unsealed} events are not sealed yet"
    )
    for by in result.signed_by.values():
        who = f"signed by key {by.key_id}" if by.key_id is not None else "not signed"
        typer.echo(f"seals {by.first} to {by.last}: {by.seals} {who}")
    if result.intact:
        typer.echo("the log is intact")
        if result.last is not None:
            last = f"{result.last.number}:{result.last.digest.hex()}"
            typer.echo(f"to prove it later, keep this elsewhere: qlp log verify --expect {last}")
        return
    found = len(result.findings) + result.suppressed
    typer.echo(f"\n{found} findings{': the first of them' if result.suppressed else ':'}")
    columns = ("finding", "seal", "lane", "place", "stream", "version", "event", "detail")
    print_table(columns, [_row(each) for each in result.findings])


def _row(found: LogFinding) -> tuple[object, ...]:
    where = (found.seal, found.lane, found.lane_position, found.stream_id, found.version)
    return (found.kind, *where, found.event_id, found.detail)
