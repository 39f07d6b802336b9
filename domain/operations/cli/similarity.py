"""``qlp similarity``: whether the search finds what it should; change its index."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Yes,
    confirm,
    print_json,
    run,
    run_as_owner,
)
from domain.operations.cli.embeddings import duration, parse_kind
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import whole
from domain.similarity.indexing import IndexPlan, VectorIndexes
from domain.similarity.models import list_models
from domain.similarity.recall import SearchHealth, examine_search
from domain.similarity.search import EXACT_UP_TO

similarity = command_group("The search for similar intents: check it, change its index.")


@similarity.command("check")
def similarity_check(
    sample: Annotated[int, whole(1, 1000, help="So many random stored vectors.")] = 50,
    json: AsJson = False,
) -> None:
    """Compare index and exact search on a sample, and look at the index.

    The sample is of tenants that are searched by the index, those with more than 4,000 vectors.
    Reads only; takes about 0.4 s for each of the sample and 100,000 vectors of its tenant. Exits
    with 1 if recall is below 0.97 or the index is not valid, and says what helps.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        [active, *_] = await list_models(pool)
        health = await examine_search(pool, active, sample)
        if json:
            print_json({**_facts(health), "problem": health.problem, "fix": health.fix})
        else:
            _print(health)
        if health.problem is not None and (not health.valid or health.measured.alarming):
            raise typer.Exit(1)

    run(work)


@similarity.command("index")
def similarity_index(
    kind: Annotated[
        str,
        typer.Option(
            help="binary: bits, then an exact comparison of the best; hnsw: the vectors; halfvec: "
            "in half precision; ivfflat: lists; exact: none."
        ),
    ],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build it anew if it is there already.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Search the active model's vectors by another index.

    As the owner of the tables (DATABASE_ADMIN_URL). Nobody is locked out: it is built beside the
    old one, which serves until the new one is whole, and is dropped then. Killed, it is run again.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        wanted = parse_kind(kind)
        [active, *_] = await list_models(pool)
        indexes = VectorIndexes(pool)
        plan = await indexes.plan(active, wanted, rebuild)
        if dry_run:
            _say_plan(json, plan)
            return
        if not plan.nothing:
            confirm(f"{_describe(plan)}?", yes)
        with Progress(
            *(TextColumn("building"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()),
            console=Console(stderr=True),
            disable=json or plan.nothing or not sys.stderr.isatty(),
        ) as bar:
            task = bar.add_task("building", total=1.0)
            seconds = await indexes.change(
                *(active, wanted, rebuild), lambda share: bar.update(task, completed=share)
            )
            bar.update(task, completed=1.0)
        [active, *_] = await list_models(pool)
        if json:
            print_json({"model": active, "built_seconds": seconds})
        else:
            size = active.index_size / 1e6
            typer.echo(f"{active.model} is searched by {wanted}: {size:,.1f} MB, {seconds:.1f} s")

    run_as_owner(work, "qlp-similarity")


def _facts(health: SearchHealth) -> dict[str, object]:
    return {
        "model": health.model,
        "index": health.index_kind,
        "valid": health.valid,
        "strays": health.strays,
        "vectors": health.vectors,
        "table_bytes": health.size,
        "index_bytes": health.index_size,
        "built_seconds": round(health.index_seconds, 1),
        "sample": health.measured.sample,
        "recall": health.measured.recall,
        "index_ms": round(health.measured.index_ms, 2),
        "exact_ms": round(health.measured.exact_ms, 2),
    }


def _print(health: SearchHealth) -> None:
    measured = health.measured
    state = "valid" if health.valid else "NOT VALID"
    typer.echo(f"{health.model}: {health.vectors:,} vectors, {health.size / 1e6:,.1f} MB")
    typer.echo(
        f"index {health.index_kind}, {state}: {health.index_size / 1e6:,.1f} MB, "
        f"built in {health.index_seconds:.1f} s"
    )
    if measured.recall is not None:
        typer.echo(
            f"recall {measured.recall:.3f} on {measured.sample} vectors; a search takes "
            f"{measured.index_ms:.1f} ms, comparing all {measured.exact_ms:.1f} ms"
        )
    elif health.valid and health.index_kind != "exact":
        typer.echo(f"no tenant has more than {EXACT_UP_TO:,} vectors: searches compare all of them")
    if health.problem is not None:
        typer.echo(f"{health.problem}\n→ {health.fix}")


def _describe(plan: IndexPlan) -> str:
    if plan.nothing:
        return f"{plan.model} is searched by {plan.wanted} already"
    text = f"{plan.model}: {plan.current} → {plan.wanted} over {plan.vectors:,} vectors"
    if plan.seconds:
        text += f", about {duration(plan.seconds)} and {plan.megabytes:,.0f} MB"
    return text + "".join(f", drop {name}" for name in plan.strays)


def _say_plan(json: bool, plan: IndexPlan) -> None:
    if json:
        print_json({"would_build": plan})
    else:
        typer.echo(_describe(plan))
