"""``make evaluate``: how many sentences the configured language model turns into right programs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from domain.models.settings import ModelSettings
from infra.local.stack.config import StackError
from tests.evaluation.attempt import Attempt, Unexpected, attempt
from tests.evaluation.case import Case
from tests.evaluation.cases import CASES
from tests.evaluation.pairs import NEAR_MISSES, PARAPHRASES, REPEATS
from tests.evaluation.report import as_json, family_of, reuse_as_json, show, show_reuse, totals
from tests.evaluation.reuse import MODES, Tally, measure
from tests.support.stack import RunningStack, running_stack

FAILED, MISUSED, INTERRUPTED = 1, 2, 130

_EPILOG = (
    "Settings: OPENAI_API_KEY, OPENAI_BASE_URL (any server that speaks the OpenAI API) or "
    "AZURE_OPENAI_ENDPOINT; QLP_LLM_MODEL; for costs QLP_LLM_INPUT_PRICE and "
    "QLP_LLM_OUTPUT_PRICE, USD per million tokens. See docs/evaluation.md."
)

cli = typer.Typer(add_completion=False)
told = Console(stderr=True, highlight=False)


@cli.command(epilog=_EPILOG)
def evaluate(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Cases by id, family or level, with * and ?. Repeatable."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Attempts at each case.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Intents at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for one intent.")] = 300,
    min_pass: Annotated[
        float, typer.Option(min=0, max=1, help="Exit with 1 if fewer pass, repairs included.")
    ] = 0.8,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Measure wrong reuse of programs instead.")
    ] = False,
    in_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Put sentences to a stack of its own with the configured model, and check what comes out."""
    settings = _settings()
    cases = _chosen(only or [])
    attempts: list[Attempt] = []
    tallies: list[Tally] = []
    if reuse:
        work = _measure_reuse(tallies, concurrency)
    else:
        work = _attempt_all(cases * repeat, attempts, concurrency, timeout)
    try:
        interrupted = asyncio.run(_interruptible(work))
    except (StackError, Unexpected) as error:
        _fail(str(error), FAILED)
    facts = {"model": settings.llm_model, "interrupted": interrupted}
    if in_json:
        known = {**facts, "reuse": reuse_as_json(tallies)} if reuse else as_json(attempts, facts)
        typer.echo(json.dumps(known, indent=1))
    elif reuse:
        show_reuse(Console(), tallies)
    elif attempts:
        show(Console(), attempts, bool(settings.llm_input_price or settings.llm_output_price))
    if interrupted:
        _fail("interrupted: that is all that was known", INTERRUPTED)
    enough = totals(attempts)["pass_after_repair"] or 0
    if any(tally.wrong for tally in tallies) or (not reuse and enough < min_pass):
        raise typer.Exit(FAILED)


def _settings() -> ModelSettings:
    try:
        settings = ModelSettings.model_validate(os.environ)
    except ValidationError as error:
        _fail("; ".join(each["msg"] for each in error.errors()), MISUSED)
    if settings.llm_model is None or not settings.provider_configured:
        _fail(
            "no language model is configured: set QLP_LLM_MODEL, and OPENAI_API_KEY or, for any "
            "other server that speaks the OpenAI API, OPENAI_BASE_URL",
            MISUSED,
        )
    return settings


def _chosen(patterns: Sequence[str]) -> list[Case]:
    def named(case: Case, pattern: str) -> bool:
        return any(fnmatchcase(each, pattern) for each in (case.id, family_of(case), case.level))

    for pattern in patterns:
        if not any(named(case, pattern) for case in CASES):
            _fail(f"--only {pattern}: no case, family or level is called that", MISUSED)
    return [case for case in CASES if not patterns or any(named(case, each) for each in patterns)]


async def _interruptible(work: Coroutine[Any, Any, None]) -> bool:
    """Whether Ctrl-C ended it; what it found until then stays where it put it."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def _attempt_all(
    cases: Sequence[Case], found: list[Attempt], concurrency: int, timeout: float
) -> None:
    """Attempt each case in a tenant of its own, so that none is shown what another solved."""
    turns = asyncio.Semaphore(concurrency)
    async with _stack() as stack:
        with _progress("sentences", len(cases)) as bar:

            async def one(case: Case) -> None:
                async with turns:
                    found.append(await attempt(await stack.new_tenant(), case, timeout))
                bar.advance(bar.task_ids[0])

            async with asyncio.TaskGroup() as group:
                for case in cases:
                    group.create_task(one(case))


async def _measure_reuse(found: list[Tally], concurrency: int) -> None:
    pairs = (*NEAR_MISSES, *PARAPHRASES, *REPEATS)
    async with _stack() as stack:
        with _progress("sentences", 2 * len(pairs) * len(MODES)) as bar:
            for mode in MODES:
                client = await stack.new_tenant()
                tally = await measure(
                    client,
                    mode,
                    pairs=pairs,
                    concurrency=concurrency,
                    advance=lambda: bar.advance(bar.task_ids[0]),
                )
                found.append(tally)


@asynccontextmanager
async def _stack() -> AsyncIterator[RunningStack]:
    # What it may use in a day is the evaluation's to decide, not a default for tenants.
    os.environ.setdefault("QLP_LLM_TOKENS_PER_DAY", str(10**12))
    with tempfile.TemporaryDirectory(prefix="qlp-evaluation-") as folder:
        Path(folder).chmod(0o711)  # as root, the embedded PostgreSQL runs as somebody else
        told.print("[dim]starting the stack[/]")
        async with running_stack(Path(folder) / "stack") as stack:
            yield stack


@contextmanager
def _progress(what: str, count: int) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=told, transient=True) as bar:
        bar.add_task(what, total=count)
        yield bar


def _fail(problem: str, status: int) -> NoReturn:
    told.print(problem, style="red", markup=False)
    raise typer.Exit(status)


if __name__ == "__main__":
    cli()
