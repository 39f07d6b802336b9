"""``qlp projections``: how read models are doing; rebuild, verify and resume them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer
from psycopg_pool import AsyncConnectionPool
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Yes,
    confirm,
    print_json,
    print_table,
    printable,
    run,
    run_as_owner,
)
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import decimal, whole
from domain.operations.cli.projections_text import (
    describe_outcome,
    describe_plan,
    print_verified,
)
from domain.operations.projections import check_name, rebuild, resume, verify
from domain.projections.following.parked import parked_streams
from domain.projections.following.runner import ProjectionOutdated
from domain.projections.rebuild import contract as rebuild_contract
from domain.projections.rebuild.rebuild import Rebuild
from domain.projections.registry import Projections

projections = command_group("Read models: how they do; rebuild, verify, resume them.")

Name = Annotated[str, typer.Argument(help="A projection's name, as `qlp projections list` has it.")]


@projections.command("list")
def projections_list(json: AsJson = False) -> None:
    """List projections with their lag, parked streams, and what is wrong with them."""

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
    """List streams that a projection could not take, and why."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await parked_streams(pool, check_name(name) if name else None)
        if json:
            print_json({"items": found})
            return
        rows = [(p.projection, p.stream_id, p.from_version, p.parked_at, p.error) for p in found]
        columns = ("projection", "stream", "from version", "parked", "error")
        print_table(columns, rows, "no stream is parked: every projection took all it has read")

    run(work)


@projections.command("resume")
def projections_resume(
    name: Name,
    stream: Annotated[str | None, typer.Argument(help="A parked stream; all if left out.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Take what parked streams have missed, after the cause was fixed, and let them go on.

    Exits with 1 if a stream fails again; it stays parked with the new error.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        parked = [p.stream_id for p in await parked_streams(pool, check_name(name))]
        if stream is not None and stream not in parked:
            raise Failure(f"{name} has not parked {stream}; see `qlp projections parked {name}`")
        chosen = parked if stream is None else [stream]
        if dry_run:
            _say(json, {"would_resume": chosen}, [f"would resume {one}" for one in chosen])
            return
        confirm(f"resume {len(chosen)} streams of {name}?", yes)
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
        lines += [f"parked still: {again.stream_id}: {again.error}" for again in still]
        _say(json, {"resumed": resumed, "parked": still}, lines)
        if still:
            raise typer.Exit(1)

    run(work)


@projections.command("rebuild")
def projections_rebuild(
    name: Name,
    rate: Annotated[
        float | None, decimal(1, 1_000_000, help="Events per second at most; no limit if left out.")
    ] = None,
    workers: Annotated[
        int | None,
        whole(1, 64, help="Processes that fold intent_states; one per core if left out."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Build a projection anew from the log and exchange it for the live one at once.

    As the owner of the tables (DATABASE_ADMIN_URL). Readers see the old tables until the exchange,
    then the new ones; the old are dropped. Killed, it goes on from where it was when it is run
    again. Nothing is published, run or bought again.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        def rebuild_telling(on_progress: rebuild_contract.OnProgress) -> Rebuild:
            return rebuild(pool, name, rate=rate, workers=workers, on_progress=on_progress)

        plan = await _expected(rebuild_telling(lambda _: None).plan())
        if dry_run:
            _say(json, {"would_rebuild": plan}, [f"would rebuild {describe_plan(plan)}"])
            return
        confirm(f"rebuild {describe_plan(plan)}?", yes)
        if json:
            rebuilt = await _expected(rebuild_telling(_print_line).run())
            _print_line(rebuilt)
            return
        with Progress(
            *(TextColumn("{task.description:7}"), BarColumn(), TaskProgressColumn()),
            *(TextColumn("{task.completed:,} events"), TimeRemainingColumn()),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        ) as bar:
            task = bar.add_task("start", total=max(plan.events, 1), completed=plan.done)

            def show(progress: rebuild_contract.Progress) -> None:
                bar.update(
                    task,
                    description=progress.stage,
                    completed=progress.events,
                    total=progress.total,
                )

            rebuilt = await _expected(rebuild_telling(show).run())
        typer.echo(describe_outcome(rebuilt))

    run_as_owner(work, "qlp-rebuild")


@projections.command("verify")
def projections_verify(
    name: Name,
    sample: Annotated[
        int | None, whole(1, 1_000_000, help="About so many random rows only.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare every row with a fresh fold of the log; reads only. Exits with 1 if any differ."""

    async def work(pool: AsyncConnectionPool) -> None:
        verified = await verify(pool, name, sample)
        if json:
            print_json(verified)
        else:
            print_verified(verified)
        if verified.differing:
            raise typer.Exit(1)

    run(work)


def _print_line(value: Any) -> None:  # noqa: ANN401
    typer.echo(orjson.dumps(value))
    sys.stdout.flush()


def _say(json: bool, value: dict[str, Any], lines: list[str]) -> None:
    if json:
        print_json(value)
    else:
        typer.echo(printable("\n".join(lines) or "nothing to do"))


async def _expected(work: Awaitable[Any]) -> Any:  # noqa: ANN401
    try:
        return await work
    except rebuild_contract.RebuildFailed as error:
        raise Failure(str(error)) from None
