"""``qlp tenants``: limits of a tenant's programs, and budgets."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError

from domain.access.limits import NAMES, LimitsStore, TenantLimits
from domain.access.store import ApiKeys
from domain.contracts.strict_json import InvalidJson, read_json
from domain.contracts.validation import describe
from domain.intents.content import Limits
from domain.intents.struct import checked, plain
from domain.operations.cli.budgets import budget
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    Yes,
    confirm,
    print_json,
    print_table,
    run,
)
from domain.operations.cli.group import command_group

tenants = command_group("Limits and budgets of tenants.")
limits = command_group("Limits of a tenant's programs.")
tenants.add_typer(limits, name="limits")
tenants.add_typer(budget, name="budget")

Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help=f"One of {', '.join(NAMES)}. Without VALUE the limit is unset."
    ),
]


@limits.command("show")
def limits_show(tenant: Tenant, json: AsJson = False) -> None:
    """Show the limits of programs that ask for none, and the ceilings of those that do."""

    async def work(pool: AsyncConnectionPool) -> None:
        _print(tenant, await _known(pool, tenant), json)

    run(work)


@limits.command("set")
def limits_set(
    tenant: Tenant,
    default: Settings = None,
    ceiling: Settings = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Change some of a tenant's limits; the others stay as they are.

    Takes effect everywhere within 30 seconds, for intents accepted and runs started from then on.
    Runs that were requested before keep their limits.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        if not (default or ceiling):
            raise Failure("give what to change: --default NAME=VALUE or --ceiling NAME=VALUE")
        before = await _known(pool, tenant)
        after = TenantLimits(
            _changed(before.defaults, "--default", default),
            _changed(before.ceilings, "--ceiling", ceiling),
        )
        if not dry_run:
            confirm(f"Change the limits of {tenant}?", yes)
            await LimitsStore(pool).set(tenant, after)
        _print(tenant, after, json, dry_run)

    run(work)


async def _known(pool: AsyncConnectionPool, tenant: str) -> TenantLimits:
    if not await ApiKeys(pool).tenant_exists(tenant):
        raise Failure(f"there is no tenant {tenant!r}")
    return await LimitsStore(pool).of(tenant)


def _changed(before: Limits, option: str, changes: list[str] | None) -> Limits:
    values: dict[str, Any] = msgspec.structs.asdict(before)
    for change in changes or []:
        name, _, value = change.partition("=")
        if name not in NAMES:
            raise Failure(f"{option} {name}: must be one of {', '.join(NAMES)}")
        values[name] = _number(value) if value else None
    try:
        return checked(Limits, values)
    except ValidationError as error:
        raise Failure(f"{option} {describe(error)}") from None


def _number(text: str) -> object:
    """The number, if written as in JSON; else the text, which is then refused as no number."""
    try:
        return read_json(text.encode(errors="replace"), max_nodes=1, max_depth=0)
    except InvalidJson:
        return text


def _print(tenant: str, of: TenantLimits, json: bool, dry_run: bool | None = None) -> None:
    gets = of.resolve(Limits())
    if json:
        shown = {
            "tenant": tenant,
            "defaults": plain(of.defaults),
            "ceilings": plain(of.ceilings),
            "gets": msgspec.structs.asdict(gets),
        }
        print_json(shown if dry_run is None else {**shown, "dry_run": dry_run})
        return
    if dry_run:
        typer.echo("would be:")
    rows = [
        (name, getattr(gets, name), getattr(of.defaults, name), getattr(of.ceilings, name))
        for name in NAMES
    ]
    print_table(("limit", "gets", "own default", "ceiling"), rows)
