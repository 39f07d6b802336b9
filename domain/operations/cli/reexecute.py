"""``qlp reexecute``: run recorded programs again and compare."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from psycopg_pool import AsyncConnectionPool

from domain.operations.cli.console import (
    AsJson,
    Failure,
    parse_intent_id,
    print_json,
    print_table,
    printable,
    run,
)
from domain.operations.cli.numbers import decimal, whole
from domain.operations.cli.progress import progress_bar
from domain.operations.cli.selecting import Where
from domain.operations.reexecute import Comparison, Reexecuted, Reexecution
from domain.operations.sandbox_process import RuntimeName, SandboxCommand
from domain.operations.selection import Selection, preview, selection_of

_SHOWN_CHARACTERS = 60


def reexecute_command(
    intents: Annotated[
        list[str] | None, typer.Argument(help="Ids of intents, or of their streams.")
    ] = None,
    where: Where = None,
    runtime: Annotated[
        RuntimeName | None,
        typer.Option(help="What to run them in. Give this or --image."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image for the docker runtime.")] = None,
    limit: Annotated[int, whole(1, 10_000, help="At most this many, oldest first.")] = 100,
    tolerance: Annotated[float, decimal(0, 1000, help="Percent by which a cost may differ.")] = 50,
    concurrency: Annotated[
        int, whole(1, 256, help="Programs at once; they distort each other's times.")
    ] = 1,
    json: AsJson = False,
) -> None:
    """Run recorded programs again on this machine, and compare the results.

    Try a new image or runtime like this before it is used. Needs Docker or bubblewrap. Nothing is
    recorded. Exits with 1 if a verdict or an output differs; differing costs are only reported.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        command = _command(runtime, image, concurrency)
        chosen = (
            selection_of([parse_intent_id(each) for each in intents or []], where)
            if intents or where is not None
            else Selection()
        )
        found = await preview(pool, chosen, limit)
        if found.unknown:
            raise Failure(f"there is no intent {', '.join(map(str, found.unknown[:5]))}")
        with progress_bar("running", quiet=json) as bar:
            reexecution = Reexecution(pool, command, tolerance / 100)
            result = await reexecution.run(found.selected, bar.show)
        if json:
            print_json({"matching": found.matching, **result.summary()})
        else:
            _print(result, found.matching)
        if not result.agrees:
            raise typer.Exit(1)

    run(work)


def _command(runtime: RuntimeName | None, image: str | None, concurrency: int) -> SandboxCommand:
    if runtime == "bubblewrap" and image is not None:
        raise Failure("--image is for the docker runtime; bubblewrap has no images")
    if runtime is None and image is None:
        raise Failure("give --runtime docker, --runtime bubblewrap, or --image NAME")
    chosen_image = image or os.environ.get("QLP_SANDBOX_IMAGES") or None
    in_docker = runtime != "bubblewrap"
    return SandboxCommand(
        "docker" if in_docker else "bubblewrap", chosen_image if in_docker else None, concurrency
    )


def _print(result: Reexecuted, matching: int) -> None:
    rows = [
        (comparison.intent_id, name, _short(before), _short(now))
        for comparison in result.changed
        for name, (before, now) in _differences(comparison)
    ]
    if rows:
        print_table(("intent", "differs in", "recorded", "now"), rows)
    for kind, intents in (("not run", result.not_run), ("skipped", result.skipped)):
        for intent_id, why in intents.items():
            typer.echo(printable(f"{kind} {intent_id}: {why}"))
    outcomes = sum(1 for comparison in result.changed if comparison.outcome)
    typer.echo(
        f"intents: {result.total} of {matching} matching; the same: {result.same}, "
        f"another outcome: {outcomes}, only another cost: {len(result.changed) - outcomes}, "
        f"not run: {len(result.not_run)}, skipped: {len(result.skipped)}"
    )


def _differences(comparison: Comparison) -> list[tuple[str, tuple[Any, Any]]]:
    return [*comparison.outcome.items(), *sorted(comparison.costs.items())]


def _short(value: Any) -> str:  # noqa: ANN401 any field of an outcome
    if isinstance(value, float):
        return f"{value:.0f}"
    text = repr(value) if isinstance(value, str) else f"{value}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
