"""``qlp projections``: show, rebuild, verify and resume read models."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from psycopg_pool import AsyncConnectionPool

from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Yes,
    confirm,
    print_json,
    print_json_line,
    print_table,
    printable,
    report,
    run,
    run_as_owner,
)
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import decimal, whole
from domain.operations.cli.progress import progress_bar
from domain.operations.projections import check_name, rebuild, resume, verify
from domain.projections.following.parked import parked_streams
from domain.projections.following.runner import ProjectionOutdated
from domain.projections.rebuild import contract as rebuild_contract
from domain.projections.rebuild.contract import RebuildPlan, Rebuilt
from domain.projections.rebuild.rebuild import Rebuild
from domain.projections.registry import Projections
from domain.projections.verify.contract import Difference, Verified

projections = command_group("Show, rebuild, verify and resume read models.")

#: Said where there was nothing to do.
_NOTHING = "nothing to do"

Name = Annotated[str, typer.Argument(help="A projection, as `qlp projections list` shows it.")]


@projections.command("list")
def projections_list(json: AsJson = False) -> None:
    """List projections with their lag, parked streams and problems."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await Projections(pool).status()
        if json:
            print_json({"items": [{**asdict(s), "problem": s.problem} for s in found]})
            return
        rows = [
            (
                *(s.name, s.kind, s.version, s.lag_events, f"{s.lag_seconds:.1f} s", s.parked),
                *("" if s.rebuilding is None else f"{s.rebuilding:.0%}", s.problem),
            )
            for s in found
        ]
        columns = ("projection", "kind", "version", "lag", "behind", "parked", "rebuild", "problem")
        print_table(columns, rows)

    run(work)


@projections.command("parked")
def projections_parked(
    name: Annotated[str | None, typer.Argument(help="Only this projection's.")] = None,
    json: AsJson = False,
) -> None:
    """List streams that a projection could not process, and why."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await parked_streams(pool, check_name(name) if name else None)
        if json:
            print_json({"items": found})
            return
        rows = [(p.projection, p.stream_id, p.from_version, p.parked_at, p.error) for p in found]
        columns = ("projection", "stream", "from version", "parked", "error")
        print_table(
            columns, rows, "no stream is parked: every projection processed all that it has read"
        )

    run(work)


@projections.command("resume")
def projections_resume(
    name: Name,
    stream: Annotated[
        str | None, typer.Argument(help="A parked stream; all of them if left out.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Catch up on parked streams once the cause is fixed.

    A stream that fails again stays parked, with the new error, and the exit code is 1.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        parked = [p.stream_id for p in await parked_streams(pool, check_name(name))]
        if stream is not None and stream not in parked:
            raise Failure(f"{name} has not parked {stream}; see `qlp projections parked {name}`")
        chosen = parked if stream is None else [stream]
        if dry_run:
            text = "\n".join(f"would resume {one}" for one in chosen)
            report(json, {"would_resume": chosen}, text or _NOTHING)
            return
        confirm(f"Resume {len(chosen)} streams of {name}?", yes)
        still = []
        for one in chosen:
            try:
                again = await resume(pool, name, one)
            except ProjectionOutdated as error:
                raise Failure(str(error)) from None
            if again is not None:
                still.append(again)
        failed = {again.stream_id for again in still}
        resumed = [one for one in chosen if one not in failed]
        lines = [f"resumed {one}" for one in resumed]
        lines += [f"still parked: {again.stream_id}: {again.error}" for again in still]
        report(json, {"resumed": resumed, "parked": still}, "\n".join(lines) or _NOTHING)
        if still:
            raise typer.Exit(1)

    run(work)


@projections.command("rebuild")
def projections_rebuild(
    name: Name,
    rate: Annotated[
        float | None, decimal(1, 1_000_000, help="Events a second, at most; no limit if left out.")
    ] = None,
    workers: Annotated[
        int | None,
        whole(1, 64, help="Processes that share the lanes; one per core, at most 4, if left out."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Build a projection again from the log, and swap it for the live one.

    Needs the owner of the tables (DATABASE_ADMIN_URL). Readers see the old tables until the swap,
    then the new ones; the old ones are dropped. If it is killed, run it again: it continues where
    it was. No message is published, no program is run and no model is asked.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        def rebuild_telling(on_progress: rebuild_contract.OnProgress) -> Rebuild:
            return rebuild(pool, name, rate=rate, workers=workers, on_progress=on_progress)

        plan = await _expected(rebuild_telling(lambda _: None).plan())
        if dry_run:
            report(json, {"would_rebuild": plan}, f"would rebuild {_describe_plan(plan)}")
            return
        confirm(f"Rebuild {_describe_plan(plan)}?", yes)
        with progress_bar("start", quiet=json) as bar:
            bar.show(plan.done, max(plan.events, 1))

            def show(progress: rebuild_contract.Progress) -> None:
                if json:
                    print_json_line(progress)
                bar.show(progress.events, progress.total, progress.stage)

            rebuilt = await _expected(rebuild_telling(show).run())
        if json:
            print_json_line(rebuilt)
        else:
            typer.echo(_describe_outcome(rebuilt))

    run_as_owner(work, "qlp-rebuild")


@projections.command("verify")
def projections_verify(
    name: Name,
    sample: Annotated[
        int | None, whole(1, 1_000_000, help="Compare only about this many random rows.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare every row with what the log says; only reads. Exits with 1 if any row differs."""

    async def work(pool: AsyncConnectionPool) -> None:
        verified = await verify(pool, name, sample)
        if json:
            print_json(verified)
        else:
            _print_verified(verified)
        if verified.differing:
            raise typer.Exit(1)

    run(work)


async def _expected(work: Awaitable[Any]) -> Any:  # noqa: ANN401
    try:
        return await work
    except rebuild_contract.RebuildFailed as error:
        raise Failure(str(error)) from None


def _print_verified(verified: Verified) -> None:
    for found in verified.differences:
        typer.echo(printable(_line_of(found)))
    hidden = verified.differing - len(verified.differences)
    if hidden:
        typer.echo(f"… and {hidden} more")
    if verified.unfoldable:
        typer.echo(f"{verified.unfoldable} streams are parked: this release cannot fold them")
    typer.echo(f"{verified.compared} rows compared, {verified.differing} differ")


def _line_of(found: Difference) -> str:
    key = ", ".join(f"{column} {value}" for column, value in found.key.items())
    if found.folded is None:
        return f"{found.table} {key}: the log has no such row"
    if found.live is None:
        return f"{found.table} {key}: the row is missing"
    sides = [
        f"{column}: events say {value!r}, the row says {found.live[column]!r}"
        for column, value in found.folded.items()
    ]
    return f"{found.table} {key}: {'; '.join(sides)}"


def _describe_plan(plan: RebuildPlan) -> str:
    resumed = f", going on after {plan.done:,}" if plan.done else ""
    return f"{plan.projection} ({', '.join(plan.tables)}) from {plan.events:,} events{resumed}"


def _describe_outcome(rebuilt: Rebuilt) -> str:
    resumed = f", {rebuilt.resumed_from:,} of them before" if rebuilt.resumed_from else ""
    parked = f"; {rebuilt.parked:,} streams are parked" if rebuilt.parked else ""
    return f"rebuilt {rebuilt.projection} from {rebuilt.events:,} events{resumed}{parked}"
