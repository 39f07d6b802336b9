"""``qlp embeddings``: list embedding models, and change to another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from psycopg import errors as pg
from psycopg_pool import AsyncConnectionPool

from domain.models.client import opened_client
from domain.models.settings import ModelSettings
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Yes,
    confirm,
    print_json,
    print_json_line,
    print_table,
    report,
    run,
    run_as_owner,
)
from domain.operations.cli.group import command_group
from domain.operations.cli.numbers import whole
from domain.operations.cli.progress import progress_bar
from domain.similarity.embedder_registry import EmbedderRegistry
from domain.similarity.indexing import exclusive_connection
from domain.similarity.migration import Migration, MigrationPlan, OnProgress, drop_model
from domain.similarity.models import IndexKind, count_owed, list_models, model_id

embeddings = command_group("List embedding models, and change to another.")

#: How long a migration waits for a provider that does not answer; run again later, it continues.
_BUDGET_SECONDS = 300.0

Kind = Annotated[
    str | None,
    typer.Option(
        "--index",
        help="Index of its vectors: binary, hnsw, halfvec, ivfflat or exact. By default that of "
        "the active model, or halfvec if that one misses too much.",
    ),
]


@embeddings.command("list")
def embeddings_list(json: AsJson = False) -> None:
    """List models with their vectors, index and sizes, and how many intents wait for a vector."""

    async def work(pool: AsyncConnectionPool) -> None:
        models, owed = await list_models(pool), await count_owed(pool)
        if json:
            print_json({"items": models, "owed": owed})
            return
        rows = [
            (
                *(m.model, m.state, f"{m.vectors:,}", _megabytes(m.size), m.index_kind),
                *(_megabytes(m.index_size), m.activated_at),
            )
            for m in models
        ]
        print_table(("model", "state", "vectors", "size", "index", "size", "active since"), rows)
        if owed:
            typer.echo(f"{owed} intents wait for a vector; the function fill_embeddings retries")

    run(work)


@embeddings.command("migrate")
def embeddings_migrate(
    to: Annotated[str, typer.Option(help="A model of the provider, or lexical-v1.")],
    dimensions: Annotated[
        int | None, whole(1, 1536, help="Length of its vectors, for a model that can shorten them.")
    ] = None,
    index: Kind = None,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Delete the vectors of all other models afterwards.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Give all intents vectors of another model, then search with that model.

    Needs the owner of the tables (DATABASE_ADMIN_URL) and the provider's settings. Shows first what
    it will cost. The old model is searched until the new one is complete, then they are swapped.
    If it is killed, run it again: it continues where it was, and nothing is paid for twice.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        target = model_id(to, dimensions)
        kind = None if index is None else parse_kind(index)
        async with _embedders() as (embedders, settings):

            def migration(on_progress: OnProgress) -> Migration:
                return Migration(
                    pool,
                    embedders,
                    target,
                    price=settings.embedding_price,
                    index_kind=kind,
                    drop_old=drop_old,
                    on_progress=on_progress,
                )

            plan = await migration(lambda *_: None).plan()
            if dry_run:
                report(json, {"would_migrate": plan}, describe(plan))
                return
            if not json:
                typer.echo(describe(plan), err=True)
            confirm(f"Change from {plan.source} to {plan.target}?", yes)
            with progress_bar("fill", quiet=json) as bar:

                def show(stage: str, done: int, total: int) -> None:
                    if json:
                        print_json_line({"stage": stage, "done": done, "total": total})
                    bar.show(done, max(total, 1), stage)

                done = await migration(show).run()
            cost = "" if done.usd is None else f", {done.usd:.4f} USD"
            recall = "" if done.recall is None else f", recall {done.recall:.3f}"
            lines = (
                f"{done.target} is active: {done.intents:,} intents got vectors in this run, "
                f"{done.tokens:,} tokens{cost}{recall}"
            )
            if done.refused:
                lines += (
                    f"\n{done.refused} texts were refused: the search does not find their intents"
                )
            lines += "".join(f"\ndeleted the vectors of {model}" for model in done.dropped)
            report(json, done, lines)

    run_as_owner(work, "qlp-embeddings")


@embeddings.command("drop")
def embeddings_drop(
    model: Annotated[str, typer.Argument(help="A model, as `qlp embeddings list` shows it.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Delete the vectors of a model that is not active. Getting them back costs again."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = next((m for m in await list_models(pool) if m.model == model), None)
        if found is None or found.state == "active":
            what = "is active: migrate to another model first" if found else "has no vectors"
            raise Failure(f"{model} {what}; see `qlp embeddings list`")
        text = f"the {found.vectors:,} vectors of {model}"
        if dry_run:
            report(json, {"would_drop": found}, f"would delete {text}")
            return
        confirm(f"Delete {text}?", yes)
        try:
            async with exclusive_connection(pool) as connection:
                await drop_model(connection, model)
        except pg.RaiseException as error:
            raise Failure(str(error.diag.message_primary)) from None
        report(json, {"dropped": found}, f"deleted {text}")

    run_as_owner(work, "qlp-embeddings")


def parse_kind(raw: str) -> IndexKind:
    """``raw`` as a kind of index.

    Raises:
        Failure: it is none.
    """
    match raw:
        case "binary" | "hnsw" | "halfvec" | "ivfflat" | "exact":
            return raw
        case _:
            raise Failure(f"there is no index {raw!r}; use binary, hnsw, halfvec, ivfflat or exact")


def describe(plan: MigrationPlan) -> str:
    """What a migration would do and cost, for people."""
    lines = [f"{plan.source} → {plan.target}, searched by {plan.index_kind}"]
    if plan.source == plan.target:
        lines = [f"{plan.target} is active already"]
    else:
        lines.append(
            f"{plan.intents:,} intents have no vector of it yet; "
            f"{plan.texts:,} different texts must be embedded"
        )
        if plan.tokens_most:
            lines.append(
                f"about {plan.tokens:,} tokens, {_usd(plan.usd)}; "
                f"at most {plan.tokens_most:,}, {_usd(plan.usd_most)}"
            )
        lines.append(f"about {duration(plan.seconds)}, index included")
    lines += [f"then the vectors of {model} are deleted" for model in plan.drops]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


@asynccontextmanager
async def _embedders() -> AsyncIterator[tuple[EmbedderRegistry, ModelSettings]]:
    """The embedders, by the settings of the environment."""
    settings = ModelSettings.from_environment()
    async with opened_client(settings) as client:
        yield EmbedderRegistry(client, budget_seconds=_BUDGET_SECONDS, pause_seconds=0.0), settings


def _usd(usd: float | None) -> str:
    return "price unknown (set QLP_EMBEDDING_PRICE)" if usd is None else f"{usd:.4f} USD"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
