"""API keys: shown once, stored as a hash, revocable."""

from __future__ import annotations

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.store import ApiKeys, Principal, UnknownTenant
from domain.access.ttl_cache import TTL_SECONDS


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(pool: AsyncConnectionPool, clock: Clock) -> ApiKeys:
    store = ApiKeys(pool, clock)
    await store.ensure_tenant("acme")
    return store


async def test_a_key_identifies_its_tenant_and_role(keys: ApiKeys) -> None:
    key = await keys.create("acme", "operator", "laptop")
    _, key_id, secret = key.split("_")
    assert len(bytes.fromhex(secret)) == 32
    assert await keys.verify(key) == Principal("acme", "operator", key_id)


async def test_the_secret_is_stored_nowhere(keys: ApiKeys, pool: AsyncConnectionPool) -> None:
    secret = (await keys.create("acme", "client", "laptop")).split("_")[2]
    async with pool.connection() as connection:
        [[stored]] = await (await connection.execute("select k::text from api_keys k")).fetchall()
    assert secret not in stored
    assert secret not in repr(await keys.list())


@pytest.mark.parametrize(
    "tampered",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key + "\n",
        lambda key: key.upper(),
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: "qlp_" + "0" * 16 + key[20:],
        lambda key: key.replace("_", "-"),
        lambda key: "\x00\ud800' or 1=1 --",
        lambda key: "é" * 100_000,
        lambda key: key.replace("0", "٠").replace("1", "١"),
    ],
)
async def test_a_string_that_is_not_a_key_is_refused_without_an_error(
    keys: ApiKeys, tampered: object
) -> None:
    assert callable(tampered)
    key = await keys.create("acme", "client", "laptop")
    forged = tampered(key)
    if forged != key:
        assert await keys.verify(forged) is None


async def test_a_revoked_key_fails_at_once_here_and_elsewhere_when_the_cache_ends(
    keys: ApiKeys, pool: AsyncConnectionPool, clock: Clock
) -> None:
    key = await keys.create("acme", "client", "laptop")
    elsewhere = ApiKeys(pool, clock)
    principal = await keys.verify(key)
    assert principal is not None
    assert await elsewhere.verify(key) == principal

    assert await keys.revoke(principal.key_id)
    assert await keys.verify(key) is None
    assert await elsewhere.verify(key) == principal
    clock.now += TTL_SECONDS
    assert await elsewhere.verify(key) is None
    assert not await keys.revoke(principal.key_id)
    assert not await keys.revoke("no such key")
    [info] = await keys.list()
    assert info.revoked_at is not None


async def test_a_verified_key_costs_no_query_until_the_cache_ends(
    keys: ApiKeys, pool: AsyncConnectionPool, clock: Clock
) -> None:
    key = await keys.create("acme", "client", "laptop")
    principal = await keys.verify(key)
    await pool.close()
    assert await keys.verify(key) == principal
    clock.now += TTL_SECONDS
    with pytest.raises(Exception, match="closed"):
        await keys.verify(key)


@pytest.mark.parametrize("tenant_id", ["", "A", "-a", "a-", "a b", "a\n", "x" * 65, "é"])
async def test_tenant_ids_are_dns_labels(keys: ApiKeys, tenant_id: str) -> None:
    assert not await keys.tenant_exists(tenant_id)
    with pytest.raises(ValueError, match="tenant_id"):
        await keys.ensure_tenant(tenant_id)


async def test_a_tenant_exists_from_the_moment_it_is_made(keys: ApiKeys) -> None:
    assert not await keys.tenant_exists("later")
    await keys.ensure_tenant("later")
    await keys.ensure_tenant("later")
    assert await keys.tenant_exists("later")


async def test_keys_need_a_tenant_a_role_and_a_sane_label(keys: ApiKeys) -> None:
    with pytest.raises(UnknownTenant):
        await keys.create("nobody", "client", "x")
    with pytest.raises(ValueError, match="role"):
        await keys.create("acme", "root", "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label"):
        await keys.create("acme", "client", "\x00")
