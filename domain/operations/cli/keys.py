"""``qlp keys``: create, list and revoke API keys."""

from __future__ import annotations

from typing import Annotated

import typer
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys, Role
from domain.operations.cli.console import (
    AsJson,
    DryRun,
    Failure,
    print_json,
    print_table,
    report,
    run,
)
from domain.operations.cli.group import command_group

keys = command_group("Create, list and revoke API keys.")


@keys.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="The key's tenant, which is created if it is new.")],
    role: Annotated[Role, typer.Option(help="What the key may do.")] = "client",
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    json: AsJson = False,
) -> None:
    """Create an API key. It is shown only now: just its hash is stored."""

    async def work(pool: AsyncConnectionPool) -> None:
        store = ApiKeys(pool)
        await store.ensure_tenant(tenant)
        key = await store.create(tenant, role, label)
        report(json, {"tenant": tenant, "role": role, "key": key}, key)

    run(work)


@keys.command("list")
def keys_list(json: AsJson = False) -> None:
    """List API keys, without their secrets."""

    async def work(pool: AsyncConnectionPool) -> None:
        found = await ApiKeys(pool).list()
        if json:
            print_json({"items": found})
            return
        rows = [(k.id, k.tenant_id, k.role, k.label, k.created_at, k.revoked_at) for k in found]
        columns = ("id", "tenant", "role", "label", "created", "revoked")
        print_table(
            columns, rows, "there are no keys; create one with: qlp keys create --tenant NAME"
        )

    run(work)


@keys.command("revoke")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `qlp keys list` shows it.")],
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Revoke an API key. It is refused everywhere within 30 seconds."""

    async def work(pool: AsyncConnectionPool) -> None:
        store = ApiKeys(pool)
        found = next((key for key in await store.list() if key.id == key_id), None)
        if found is None:
            raise Failure(f"there is no key {key_id}; see `qlp keys list`")
        if not dry_run:
            await store.revoke(key_id)
        word = "would revoke" if dry_run else "revoked"
        text = f"{word} {key_id} ({found.role} of {found.tenant_id}) {found.label}".strip()
        report(json, {"key": found, "dry_run": dry_run}, text)

    run(work)
