"""``qlp runs``: list runs, and kill them."""

from __future__ import annotations

import getpass
import socket
from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool

from domain.intents.refusals import NothingRuns
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Limit,
    Yes,
    confirm,
    parse_intent_id,
    print_json,
    print_table,
    report,
    run,
)
from domain.operations.cli.group import command_group
from domain.operations.runs import find_running, kill, list_runs

runs = command_group("List runs in the sandbox, and kill them.")

_MAX_REASON = 1000


@runs.command("list")
def runs_list(
    running: Annotated[bool, typer.Option("--running", help="Only runs in progress.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """List the latest run of each intent, the most recently changed intent first."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await list_runs(pool, running=running, tenant_id=tenant, limit=limit)
        if json:
            print_json({"items": found})
            return
        rows = [(r.run_id, r.intent_id, r.tenant_id, r.state, r.since, r.runtime) for r in found]
        whose = "" if tenant is None else f" of the tenant {tenant}"
        empty = f"no program{whose} {'is running' if running else 'has run yet'}"
        columns = ("run", "intent", "tenant", "state", "since", "runtime")
        print_table(columns, rows, empty)

    run(work)


@runs.command("kill")
def runs_kill(
    some_id: Annotated[str, typer.Argument(metavar="INTENT|RUN", help="The id of either.")],
    reason: Annotated[str, typer.Option(help="Why: is recorded, and shown to the client.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Kill a running program. Its intent fails with the code killed_by_operator.

    The order is recorded, and reaches the sandbox host within a second. A run that is still queued
    is killed as soon as it starts.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        if len(reason) > _MAX_REASON or "\x00" in reason:
            raise Failure(f"--reason: at most {_MAX_REASON} characters, without NUL")
        found = await find_running(pool, parse_intent_id(some_id))
        what = f"run {found.run_id} of intent {found.intent_id} ({found.tenant_id})"
        if not dry_run:
            confirm(f"Kill {what}?", yes)
            try:
                await kill(pool, found, f"{getpass.getuser()} on {socket.gethostname()}", reason)
            except NothingRuns:
                raise Failure(f"{what} has ended meanwhile") from None
        text = f"{'would kill' if dry_run else 'told the sandbox to kill'} {what}"
        report(json, {"run": found, "dry_run": dry_run}, text)

    run(work)
