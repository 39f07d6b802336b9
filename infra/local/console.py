"""The local stack's command line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from domain.contracts.redaction import guard, redact
from domain.database.outages import describe_outage, outage_of
from domain.operations.cli.asking import asked
from infra.local.stack.config import StackConfig, StackError, WrongSetting
from infra.local.stack.report import HumanReport, JsonReport, Report
from infra.local.stack.stack import Endpoints, LocalStack
from infra.local.stack.tour import Tour

cli = typer.Typer(
    help="Run the whole system on this machine: PostgreSQL, Service Bus, functions and sandbox.",
    add_completion=False,
    rich_markup_mode=None,
)

_EPILOG = (
    "Settings: QLP_HTTP_PORT (7071), QLP_AMQP_PORT (5672), QLP_DATA_DIR (.qlp), QLP_DATABASE_URL "
    "(the embedded PostgreSQL), QLP_SANDBOX_RUNTIMES (docker,bubblewrap)."
)

Yes = Annotated[
    bool, typer.Option("--yes", help="Create the schema in QLP_DATABASE_URL without asking.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def main() -> None:
    """Run the command line; what is wrong with its arguments is told in one line."""
    program = "python -m infra.local"
    try:
        status = cli(sys.argv[1:] or ["--help"], prog_name=program, standalone_mode=False)
    except typer.Abort:
        status = "aborted"
    except TyperException as error:
        told = f"{program}: {getattr(error, 'message', error)}; see --help"
        typer.echo(told.replace(".; see", "; see"), err=True)
        status = 2
    sys.exit(status)


@cli.command(epilog=_EPILOG)
def up(
    json: AsJson = False,
    tour: Annotated[bool, typer.Option(help="Take the tour first.")] = True,
    yes: Yes = False,
) -> None:
    """Start everything, take the tour, then serve until Ctrl-C.

    A part that ends by itself is started again.
    """
    _run(_report(json), tour=tour, serve=True, yes=yes)


@cli.command(epilog=_EPILOG)
def demo(json: AsJson = False, yes: Yes = False) -> None:
    """Start everything, take the tour, stop. Exits with 0 if every step worked, else with 1."""
    _run(_report(json), tour=True, serve=False, yes=yes)


@cli.command()
def reset(
    dry_run: Annotated[bool, typer.Option(help="Only print what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the local stack's data: database, keys and logs."""
    guard(os.environ)
    try:
        config = StackConfig.from_environment()
    except WrongSetting as error:
        _give_up(HumanReport(), error)
    if not config.data.exists():
        typer.echo(f"there is nothing in {config.data}")
        return
    stack = LocalStack(config, lambda _name, _seconds: None)
    try:
        stack.check_removable()
        typer.echo(
            f"{'would delete' if dry_run else 'to be deleted:'} {config.data} with its database"
        )
        if dry_run:
            return
        if not yes:
            typer.confirm("Are you sure?", abort=True)
        asyncio.run(stack.destroy())
    except StackError as error:
        _give_up(HumanReport(), error)


def _report(json: bool) -> Report:
    return JsonReport() if json else HumanReport()


def _run(report: Report, *, tour: bool, serve: bool, yes: bool) -> None:
    guard(os.environ)
    try:
        asyncio.run(_main(report, tour=tour, serve=serve, yes=yes))
    except StackError as error:
        _give_up(report, error)
    except asyncio.CancelledError:
        raise typer.Exit(130) from None
    except Exception as error:
        if outage_of(error) is None:
            raise
        _give_up(report, StackError(describe_outage(error)))


def _give_up(report: Report, error: StackError) -> NoReturn:
    """Report the reason and exit: with 2 if a setting is wrong, else with 1."""
    report.failed(redact(str(error)))
    raise typer.Exit(2 if isinstance(error, WrongSetting) else 1) from None


async def _main(report: Report, *, tour: bool, serve: bool, yes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    started = monotonic()

    def interrupt() -> None:
        if interrupted.is_set() or stack.stopping:
            stack.stop_at_once()
        elif serving.is_set():
            stop.set()
        elif main is not None:
            main.cancel()
        interrupted.set()

    serving, interrupted = asyncio.Event(), asyncio.Event()
    config = StackConfig.from_environment()
    stack = LocalStack(
        config,
        report.part,
        lambda question: yes or _confirmed(question),
        report.stopping,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    async with stack.running() as endpoints:
        report.healthy(monotonic() - started)
        if os.environ.get("DATABASE_URL") not in (None, "", endpoints.database_url):
            report.note(
                "DATABASE_URL is not the stack's database and is ignored; "
                "to use it, set QLP_DATABASE_URL"
            )
        page = await Tour(endpoints, report).run() if tour else None
        if serve:
            serving.set()
            report.serving(endpoints, _examples(endpoints, config.data, page))
            await _until_stopped(stack, report, stop)
    report.stopped()


def _confirmed(question: str) -> bool:
    """Whether somebody at a terminal has said yes; without a terminal the answer is no."""
    return sys.stdin.isatty() and asked(question)


async def _until_stopped(stack: LocalStack, report: Report, stop: asyncio.Event) -> None:
    stopped = asyncio.create_task(stop.wait())
    supervising = asyncio.create_task(stack.supervise(report.ended))
    await asyncio.wait({stopped, supervising}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    supervising.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await supervising


def _examples(endpoints: Endpoints, data: Path, page: str | None) -> list[tuple[str, str]]:
    api = f"{endpoints.http_url}/api/intents"
    key = f"-H 'X-API-Key: {endpoints.api_key}'"
    save = (
        "Save the page with the plot, to open it in a browser",
        f"curl -sS {endpoints.http_url}{page} {key} -o plot.html",
    )
    return [
        (
            "Run a program and wait for its result",
            f"curl -sS {api} {key} -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\\n"
            """  -d '{"text": "six by seven", "program": {"language": "python", """
            """"files": {"main.py": "print(6 * 7)"}}}'""",
        ),
        (
            "The same sentence again reuses that program",
            f"curl -sS {api} {key} \\\n  -H 'Prefer: "
            """wait=10' -H 'Content-Type: application/json' -d '{"text": "six by seven"}'""",
        ),
        *([save] if page else []),
        ("List intents", f"curl -sS '{api}?limit=5' {key}"),
        (
            "Look at the log as an operator",
            f"set -a; . {shlex.quote(str(data / 'env'))}; set +a; .venv/bin/qlp streams list",
        ),
    ]
