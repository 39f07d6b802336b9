"""A server on Azure is signed in to with a token of the process's identity, a new one when due."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from domain.database.pool import open_pool
from domain.database.sign_in import SCOPE, needs_token, with_token
from tests.support.postgres import Database

_HOST = "example.postgres.database.azure.com"


class IdentityEndpoint:
    """Speaks App Service's protocol for managed identities.

    Source: https://learn.microsoft.com/azure/app-service/overview-managed-identity (REST endpoint).
    """

    def __init__(self) -> None:
        self.token = "the-first-token"
        self.lasts = 3600
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append({**request.query, "secret": request.headers["X-IDENTITY-HEADER"]})
        return web.json_response(
            {
                "access_token": self.token,
                "expires_on": str(int(time.time()) + self.lasts),
                "resource": request.query["resource"],
                "token_type": "Bearer",
            }
        )


@asynccontextmanager
async def identity_endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[IdentityEndpoint]:
    endpoint = IdentityEndpoint()
    application = web.Application()
    application.router.add_get("/msi/token", endpoint.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{port}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "known-to-the-platform")
    monkeypatch.setenv("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000001")
    try:
        yield endpoint
    finally:
        await runner.cleanup()


@contextmanager
def login_with(database: Database, password: str) -> Iterator[str]:
    """A login of the application that has ``password``, as the URL of a server on Azure."""
    name = sql.Identifier(f"identity_{uuid4().hex}")
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create role {} login password {} in role qlp_app").format(name, password)
        )
        given = {**conninfo_to_dict(database.url), "user": name.as_string().strip('"')}
        given |= {"host": _HOST, "hostaddr": "127.0.0.1", "password": None}
        try:
            yield make_conninfo("", **given)
        finally:
            connection.execute(sql.SQL("drop role {}").format(name))


async def test_the_identitys_token_is_the_password(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with identity_endpoint(monkeypatch) as endpoint:
        with login_with(database, endpoint.token) as url:
            pool = await open_pool(url, min_size=1, max_size=1, application_name="test")
            async with pool.connection() as connection:
                assert await (await connection.execute("select 1")).fetchone() == (1,)
            await pool.close()
    assert endpoint.asked[0] == {
        "api-version": "2019-08-01",
        "client_id": "00000000-0000-0000-0000-000000000001",
        "resource": SCOPE.removesuffix("/.default"),
        "secret": "known-to-the-platform",
    }


async def test_a_connection_after_the_tokens_end_has_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with identity_endpoint(monkeypatch) as endpoint:
        endpoint.lasts = 1  # shorter than what azure-identity still hands out
        fresh = with_token({"autocommit": True})
        assert await fresh() == {"autocommit": True, "password": "the-first-token"}
        endpoint.token = "the-second-token"
        assert (await fresh())["password"] == "the-second-token"


async def test_a_refused_identity_is_an_outage_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(psycopg.OperationalError, match="no token for the database"):
        await with_token({})()


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (f"postgresql://app@{_HOST}/qlp", {}, True),
        (f"postgresql://app:secret@{_HOST}/qlp", {}, False),
        (f"postgresql://app@{_HOST}/qlp", {"PGPASSWORD": "a token"}, False),
        ("postgresql://app@localhost/qlp", {}, False),
        ("postgresql:///qlp", {}, False),
    ],
)
def test_only_a_server_on_azure_without_a_password_needs_a_token(
    url: str, environment: dict[str, str], expected: bool
) -> None:
    assert needs_token(conninfo_to_dict(url), environment) is expected
