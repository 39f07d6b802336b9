"""``qlp tenants budget``: how many tokens of language models a tenant may use in a day."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys
from domain.models.settings import ModelSettings
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
from domain.planning.budgets import Budget, TokenBudgets

budget = command_group("Tokens of language models a day (UTC).")

Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Tokens = Annotated[
    str, typer.Argument(help="Tokens a day, or 'default' for QLP_LLM_TOKENS_PER_DAY.")
]

_DEFAULT = "QLP_LLM_TOKENS_PER_DAY"

#: More than any tenant can use; a higher number was mistyped.
_MOST = 10**12


@budget.command("show")
def budget_show(tenant: Tenant, json: AsJson = False) -> None:
    """Show a tenant's budget, and how much of it is used today."""

    async def work(pool: AsyncConnectionPool) -> None:
        budgets = await _budgets(pool, tenant)
        _print(tenant, await budgets.show(tenant), budgets.default, json)

    run(work)


@budget.command("set")
def budget_set(
    tenant: Tenant, tokens: Tokens, dry_run: DryRun = False, yes: Yes = False, json: AsJson = False
) -> None:
    """Give a tenant a budget of its own. It takes effect at once, everywhere.

    Calls in progress are not cut off. With 0 the tenant cannot use language models.
    """

    async def work(pool: AsyncConnectionPool) -> None:
        own = _tokens(tokens)
        budgets = await _budgets(pool, tenant)
        before = await budgets.show(tenant)
        if not dry_run:
            confirm(f"Change the budget of {tenant}?", yes)
            await budgets.set(tenant, own)
        after = Budget(own, before.used, before.reserved)
        _print(tenant, after, budgets.default, json, dry_run)

    run(work)


async def _budgets(pool: AsyncConnectionPool, tenant: str) -> TokenBudgets:
    if not await ApiKeys(pool).tenant_exists(tenant):
        raise Failure(f"there is no tenant {tenant!r}")
    given = {name: value for name, value in os.environ.items() if name == _DEFAULT}
    settings = ModelSettings.from_environment(given)
    return TokenBudgets(pool, settings.llm_tokens_per_day)


def _tokens(given: str) -> int | None:
    if given == "default":
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 20) or int(given) > _MOST:
        raise Failure(f"TOKENS: {given!r} must be a number from 0 to {_MOST}, or 'default'")
    return int(given)


def _print(tenant: str, of: Budget, default: int, json: bool, dry_run: bool | None = None) -> None:
    tokens = default if of.own is None else of.own
    left = max(tokens - of.used - of.reserved, 0)
    if json:
        shown = {
            "tenant": tenant,
            "tokens_per_day": tokens,
            "own": of.own,
            "used": of.used,
            "reserved": of.reserved,
            "left": left,
        }
        print_json(shown if dry_run is None else {**shown, "dry_run": dry_run})
        return
    if dry_run:
        typer.echo("would be:")
    source = "default" if of.own is None else "its own"
    columns = ("tokens a day", "whose", "used today", "in progress", "left")
    print_table(columns, [(tokens, source, of.used, of.reserved, left)])
