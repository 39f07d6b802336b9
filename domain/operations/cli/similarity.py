"""``qlp similarity``: check the search for similar intents, and change its index."""

from __future__ import annotations

from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool

from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Yes,
    confirm,
    print_json,
    report,
    run,
    run_as_owner,
)
from domain.operations.cli.embeddings import duration, parse_kind
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import whole
from domain.operations.cli.progress import progress_bar
from domain.similarity.indexing import IndexPlan, VectorIndexes
from domain.similarity.models import list_models
from domain.similarity.recall import SearchHealth, examine_search
from domain.similarity.search import EXACT_UP_TO

similarity = command_group("Check the search for similar intents, and change its index.")


@similarity.command("check")
def similarity_check(
    sample: Annotated[int, whole(1, 1000, help="Random stored vectors to search for.")] = 50,
    json: AsJson = False,
) -> None:
    """Compare index and exact search on a sample, and look at the index.

    The sample comes from tenants whose searches use the index: those with more than 4,000 vectors.
    Only reads. Takes about 0.4 s per sampled vector and 100,000 vectors of its tenant. If recall is
    below 0.97 or the index is not valid, says what helps and exits with 1.
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
            help="binary: bits, then an exact comparison of the best; hnsw: HNSW over the vectors; "
            "halfvec: HNSW in half precision; ivfflat: inverted lists; exact: no index."
        ),
    ],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build it again even if it exists.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Change the index of the active model's vectors.

    Needs the owner of the tables (DATABASE_ADMIN_URL). Nobody has to wait: the old index is used
    until the new one is complete, and dropped then. If it is killed, run it again.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        wanted = parse_kind(kind)
        [active, *_] = await list_models(pool)
        indexes = VectorIndexes(pool)
        plan = await indexes.plan(active, wanted, rebuild)
        if dry_run:
            report(json, {"would_build": plan}, _describe(plan))
            return
        if not plan.nothing:
            confirm(f"{_describe(plan)}?", yes)
        with progress_bar("percent built", quiet=json or plan.nothing) as bar:
            seconds = await indexes.change(
                *(active, wanted, rebuild), lambda share: bar.show(100 * share, 100)
            )
        [active, *_] = await list_models(pool)
        report(
            json,
            {"model": active, "built_seconds": seconds},
            f"{active.model} is searched by {wanted}: {active.index_size / 1e6:,.1f} MB, "
            f"{seconds:.1f} s",
        )

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
        typer.echo(
            f"recall was not measured: no intent lies among more than {EXACT_UP_TO:,} vectors of "
            "its tenant; up to that many, searches compare all of them"
        )
    if health.problem is not None:
        typer.echo(f"{health.problem}\n→ {health.fix}")


def _describe(plan: IndexPlan) -> str:
    if plan.nothing:
        return f"{plan.model} is searched by {plan.wanted} already"
    text = f"{plan.model}: {plan.current} → {plan.wanted} over {plan.vectors:,} vectors"
    if plan.seconds:
        text += f", about {duration(plan.seconds)} and {plan.megabytes:,.0f} MB"
    return text + "".join(f", drop {name}" for name in plan.strays)
