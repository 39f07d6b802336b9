"""PgBouncer keeps nothing that a session is told, or refuses it: it is noticed and named."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import PoolTimeout

from domain.app import open_app
from domain.database import pool as domain_database
from domain.database.migrate import migrate
from domain.database.pool import PoolerInBetween, open_pool, try_connection
from domain.operations.doctor.examine import examine_environment
from domain.operations.doctor.findings import Finding
from domain.retry import reason_to_wait
from domain.settings import Settings
from infra.local.ports import free_port
from infra.local.stack.config import StackError
from infra.local.stack.foreign_database import may_migrate
from tests.support.postgres import Database
from tests.support.qlp import qlp

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

#: PgBouncer does not run as root.
ACCOUNT = "nobody"

#: Starts one in front of a database; its URL.
Pooler = Callable[..., str]


@pytest.fixture
def pooler(database: Database) -> Iterator[Pooler]:
    if PGBOUNCER is None:
        if os.environ.get("QLP_REQUIRE_DOCKER"):
            pytest.fail("pgbouncer is required here and not installed")
        pytest.skip("pgbouncer is not installed")
    with ExitStack() as stack:
        yield lambda url, **settings: stack.enter_context(running(url, settings))


@contextmanager
def running(url: str, settings: dict[str, str]) -> Iterator[str]:
    given = conninfo_to_dict(url)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="qlp-test-") as folder:
        directory = Path(folder)
        users, config = directory / "users.txt", directory / "pgbouncer.ini"
        users.write_text(f'"{given["user"]}" "{given["password"]}"\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": str(users),
            "pool_mode": "transaction",
            **settings,
        }
        config.write_text(
            f"[databases]\n* = host={given['host']} port={given['port']}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        as_nobody: list[str] = []
        if os.geteuid() == 0:
            as_nobody = ["--user", ACCOUNT]
            os.chown(directory, pwd.getpwnam(ACCOUNT).pw_uid, -1)
            for path in (users, config):
                os.chown(path, pwd.getpwnam(ACCOUNT).pw_uid, -1)
        process = subprocess.Popen(
            [str(PGBOUNCER), *as_nobody, str(config)], stderr=subprocess.PIPE, text=True
        )
        try:
            through = make_conninfo("", **{**given, "port": port})
            assert process.stderr is not None
            for line in process.stderr:
                if "process up" in line:
                    break
            yield through
        finally:
            process.terminate()
            process.communicate()


MODES = [
    pytest.param({}, id="refuses options"),
    pytest.param({"ignore_startup_parameters": "options"}, id="ignores options"),
]
ALL_MODES = [
    *MODES,
    pytest.param({"pool_mode": "session"}, id="session"),
    pytest.param(
        {"pool_mode": "statement", "ignore_startup_parameters": "options"}, id="statement"
    ),
]


@pytest.mark.parametrize("settings", MODES)
async def test_a_pooler_in_transaction_mode_is_named_with_the_fix(
    pooler: Pooler,
    database: Database,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = pooler(database.url, **settings)
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,), "it does answer"
    with pytest.raises(PoolerInBetween, match="port 5432 instead of 6432"):
        await try_connection(url)

    monkeypatch.setattr(domain_database, "CHECKOUT_SECONDS", 2.0)
    with pytest.raises(PoolTimeout) as raised:
        await open_pool(url, min_size=1, max_size=1, application_name="tests")
    told = reason_to_wait(raised.value)
    assert told is not None
    assert told.startswith("the database cannot be reached: a pooler answers that does not keep")
    assert "\n" not in told


@pytest.mark.parametrize("settings", MODES)
async def test_operators_are_told_by_qlp_and_its_doctor(
    pooler: Pooler, database: Database, settings: dict[str, str]
) -> None:
    url = pooler(database.url, **settings)
    said, findings = await asyncio.gather(
        qlp("streams", "list", url=url),
        examine_environment({"DATABASE_URL": url}),
    )
    assert (said.code, said.err.count("\n")) == (1, 1), said.err
    assert "on Azure to port 5432 instead of 6432" in said.err
    [finding] = [finding for finding in findings if finding.check == "database"]
    assert (finding.status, "PgBouncer" in finding.detail) == ("fail", True)
    assert "5432" in finding.fix


@pytest.mark.parametrize("settings", ALL_MODES)
async def test_nothing_is_migrated_or_asked_over_a_pooler(
    pooler: Pooler, database: Database, settings: dict[str, str]
) -> None:
    url = pooler(database.admin_url, **settings)
    with pytest.raises(PoolerInBetween):
        await try_connection(url)
    with pytest.raises(PoolerInBetween):
        await migrate(url)
    with pytest.raises(StackError, match=r"QLP_DATABASE_URL: .* to port 5432"):
        await may_migrate(url, lambda question: pytest.fail(question))


async def test_the_doctor_looks_at_the_owners_connection_too(
    pooler: Pooler, database: Database
) -> None:
    async def triggers(admin_url: str) -> Finding:
        urls = {"DATABASE_URL": database.url, "DATABASE_ADMIN_URL": admin_url}
        [finding] = [each for each in await examine_environment(urls) if each.check == "triggers"]
        return finding

    pooled = await triggers(pooler(database.admin_url, ignore_startup_parameters="options"))
    assert (pooled.status, "5432 instead of 6432" in pooled.detail) == ("fail", True)
    assert "DATABASE_ADMIN_URL" in pooled.fix
    pasted = database.admin_url.replace("postgresql://", "postgresql+psycopg://")
    assert (await triggers(pasted)).status == "ok"
    # What is wrong with it is a finding of the settings.
    assert (await triggers("garbage")).status == "ok"


async def test_a_pooler_whose_server_is_away_is_not_waited_for(
    pooler: Pooler, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections as long as it remembers what the server greeted with."""
    user = str(conninfo_to_dict(database.admin_url)["user"])
    url = pooler(database.admin_url, ignore_startup_parameters="options", admin_users=user)
    psycopg.connect(url).close()
    with psycopg.connect(make_conninfo(url, dbname="pgbouncer"), autocommit=True) as console:
        console.execute("PAUSE")
    monkeypatch.setattr(domain_database, "CONNECT_SECONDS", 0.2)
    async with asyncio.timeout(20):
        with pytest.raises(psycopg.OperationalError, match=r"not answered for 0\.2 s"):
            await migrate(url)


async def test_the_application_says_so_at_its_start(
    pooler: Pooler, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_database, "CHECKOUT_SECONDS", 2.0)
    settings = Settings.from_environment(
        {
            "DATABASE_URL": pooler(database.url, ignore_startup_parameters="options"),
            "ServiceBusConnection__fullyQualifiedNamespace": "none.servicebus.windows.net",
        }
    )
    with pytest.raises(PoolTimeout) as raised:
        await open_app(settings)
    assert "does not keep session settings (PgBouncer?)" in (reason_to_wait(raised.value) or "")


async def test_a_url_with_options_of_its_own_keeps_them(database: Database) -> None:
    separator = "&" if urlsplit(database.url).query else "?"
    url = f"{database.url}{separator}options=-c%20geqo%3Doff"
    pool = await open_pool(url, min_size=1, max_size=1, application_name="tests")
    try:
        asked = b"select current_setting('geqo'), current_setting('statement_timeout')"
        assert await domain_database.fetch(pool, asked, {}) == [("off", "30s")]
    finally:
        await pool.close()
