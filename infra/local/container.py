"""``python -m infra.local.container PART``: what the containers of ``compose.yaml`` run.

The first start creates the secrets. They are in three volumes, by who may read them: ``owner`` (the
password of the tables' owner), ``app`` (the application's) and ``bus`` (the Service Bus key). They
are not in files of the host, in environments that ``docker inspect`` shows, or in logs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from domain.access.store import ApiKeys
from domain.database.migrate import migrate
from domain.database.pool import open_pool
from infra.local.postgres.cluster import ADMIN, APP_LOGIN
from infra.local.seal_key import new_seal_key
from infra.local.servicebus.connection_string import connection_string

SECRETS = Path("/run/qlp")
TENANT = "demo"

_ROOT = Path(__file__).resolve().parents[2]
_OWNER = "owner/password"
_APP = "app/database-password"
_RUN_TOKENS = "app/run-token-key"
_SEAL_KEY = "app/seal.pem"
_BUS = "bus/key"
_CONNECTION = "bus/connection"
#: All interfaces of a container; compose.yaml says in which networks it is.
_ALL_INTERFACES = "0.0.0.0"  # noqa: S104 # nosec B104
_PORTS = {"postgres": 5432, "servicebus": 5672, "health": 5673, "functions": 7071}


def make_secrets(folder: Path = SECRETS) -> None:
    """Create the secrets that are missing; existing ones stay, since the database uses them."""
    for name in (_OWNER, _APP, _RUN_TOKENS, _BUS):
        _write_once(folder / name, secrets.token_urlsafe(32))
    _write_once(folder / _SEAL_KEY, new_seal_key())
    bus = connection_string("servicebus", _PORTS["servicebus"], (folder / _BUS).read_text())
    _write_once(folder / _CONNECTION, bus)


def _write_once(path: Path, content: str) -> None:
    if path.exists():
        return
    staging = path.with_suffix(".new")
    staging.touch(mode=0o600)
    staging.write_text(content)
    # Other accounts must read it, such as PostgreSQL's; compose.yaml limits who mounts the volume.
    staging.chmod(0o444)
    staging.rename(path)


def settings(folder: Path = SECRETS) -> dict[str, str]:
    """The application's settings, from the template, the environment and the secrets."""
    template = json.loads((_ROOT / "local.settings.template.json").read_text())
    given = ("QLP_", "OPENAI_", "AZURE_OPENAI_")
    return {
        **template["Values"],
        **{name: value for name, value in os.environ.items() if name.startswith(given)},
        "DATABASE_URL": _url(APP_LOGIN, (folder / _APP).read_text()),
        "ServiceBusConnection": (folder / _CONNECTION).read_text(),
        "QLP_RUN_TOKEN_KEY": (folder / _RUN_TOKENS).read_text(),
        "QLP_SEAL_SIGNER": str((folder / _SEAL_KEY).absolute()),
    }


def owner_url(folder: Path = SECRETS) -> str:
    """Connection URL of the tables' owner."""
    return _url(ADMIN, (folder / _OWNER).read_text())


def _url(user: str, password: str) -> str:
    return (
        f"postgresql://{user}:{quote(password, safe='')}@postgres:{_PORTS['postgres']}/qlp"
        "?sslmode=disable"
    )


async def set_up(owner: str, app: str, password: str) -> None:
    """Prepare the database for the application; does nothing that is already done.

    Args:
        owner: connection URL of the tables' owner.
        app: connection URL of the application's login.
        password: the password that this login gets.
    """
    await migrate(owner)  # also creates the role qlp_app
    async with await psycopg.AsyncConnection.connect(owner, autocommit=True) as connection:
        found = await connection.execute("select from pg_roles where rolname = %s", [APP_LOGIN])
        verb = sql.SQL("create" if await found.fetchone() is None else "alter")
        await connection.execute(
            sql.SQL("{} role {} login password {}").format(
                verb, sql.Identifier(APP_LOGIN), sql.Literal(password)
            )
        )
        await connection.execute(sql.SQL("grant qlp_app to {}").format(sql.Identifier(APP_LOGIN)))
    pool = await open_pool(app, min_size=1, max_size=1, application_name="qlp-setup")
    try:
        await ApiKeys(pool).ensure_tenant(TENANT)
    finally:
        await pool.close()


def _exec_module(environment: Mapping[str, str], *arguments: str) -> None:
    """Replace this process by a Python module, so that it receives the container's signals."""
    os.execve(  # noqa: S606 - there is no shell
        sys.executable, [sys.executable, "-m", *arguments], {**os.environ, **environment}
    )


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser("infra.local.container", description=__doc__)
    parser.add_argument("part", choices=["secrets", "setup", "servicebus", "functions", "qlp"])
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of qlp")
    given = parser.parse_args()
    match given.part:
        case "secrets":
            make_secrets()
        case "setup":
            app = settings()["DATABASE_URL"]
            asyncio.run(set_up(owner_url(), app, (SECRETS / _APP).read_text()))
        case "servicebus":
            ports = ("--port", str(_PORTS["servicebus"]), "--health-port", str(_PORTS["health"]))
            key = ("--key-file", str(SECRETS / _BUS))
            _exec_module({}, "infra.local.servicebus", "--host", _ALL_INTERFACES, *ports, *key)
        case "functions":
            address = ("--bind", _ALL_INTERFACES, "--port", str(_PORTS["functions"]))
            _exec_module(
                settings(), "infra.local.functions_host", "--app-dir", str(_ROOT), *address
            )
        case "qlp":
            environment = settings() | {"DATABASE_ADMIN_URL": owner_url()}
            _exec_module(environment, "domain.operations", *given.rest)


if __name__ == "__main__":
    main()
