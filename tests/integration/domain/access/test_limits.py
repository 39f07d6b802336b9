"""Limits of tenants: kept, believed for a while, and enforced when an intent is submitted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from psycopg_pool import AsyncConnectionPool

from domain.access.limits import DEFAULTS, LimitsStore, TenantLimits
from domain.access.store import ApiKeys, UnknownTenant
from domain.access.ttl_cache import TTL_SECONDS
from domain.application.admission import Admission, NotAdmitted
from domain.application.handler import CommandHandler
from domain.application.repository import IntentRepository
from domain.application.service import IntentService
from domain.eventlog.log import EventLog
from domain.intents.content import IntentContent, Limits
from domain.intents.struct import checked
from tests.support.intents.histories import TRACE

TIGHT = TenantLimits(Limits(wall_seconds=1), Limits(wall_seconds=2))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def asking(**limits: float) -> IntentContent:
    program = {"language": "python", "files": {"main.py": "print(1)"}, "limits": limits}
    return checked(IntentContent, {"program": program})


@pytest.fixture
async def store(pool: AsyncConnectionPool) -> LimitsStore:
    await ApiKeys(pool).ensure_tenant("acme")
    return LimitsStore(pool)


@pytest.fixture
def service(pool: AsyncConnectionPool, store: LimitsStore) -> IntentService:
    repository = IntentRepository(EventLog(pool))
    handler = CommandHandler(repository, lambda _state: None)
    return IntentService(repository, handler, Admission(store), lambda: datetime.now(UTC))


async def test_a_tenant_without_limits_has_the_products(store: LimitsStore) -> None:
    assert (await store.of("acme")).resolve(Limits()) == DEFAULTS
    assert (await store.of("nobody")).resolve(Limits()) == DEFAULTS


async def test_limits_are_kept_for_known_tenants_only(
    store: LimitsStore, pool: AsyncConnectionPool
) -> None:
    await store.set("acme", TIGHT)
    found = await LimitsStore(pool).of("acme")
    assert (found.defaults, found.ceilings) == (TIGHT.defaults, TIGHT.ceilings)
    with pytest.raises(UnknownTenant, match="nobody"):
        await store.set("nobody", TIGHT)


async def test_another_process_sees_new_limits_once_those_it_cached_expire(
    store: LimitsStore, pool: AsyncConnectionPool
) -> None:
    clock = Clock()
    elsewhere = LimitsStore(pool, clock)
    assert (await elsewhere.of("acme")).ceilings == Limits()
    await store.set("acme", TIGHT)
    assert (await elsewhere.of("acme")).ceilings == Limits()
    clock.now += TTL_SECONDS
    assert (await elsewhere.of("acme")).ceilings == TIGHT.ceilings


async def test_a_request_above_its_tenants_ceiling_is_refused_by_field(
    store: LimitsStore, service: IntentService
) -> None:
    await store.set("acme", TIGHT)
    with pytest.raises(NotAdmitted) as refused:
        await service.submit(
            "acme", asking(wall_seconds=3), origin="http", key=None, traceparent=TRACE
        )
    assert refused.value.pointer == "/program/limits/wall_seconds"
    assert "2" in refused.value.detail
    for fits in (asking(wall_seconds=2), asking()):
        await service.submit("acme", fits, origin="http", key=None, traceparent=TRACE)


async def test_an_accepted_intent_stays_accepted_when_the_ceiling_is_lowered(
    store: LimitsStore, service: IntentService
) -> None:
    content = asking(wall_seconds=30)
    first = await service.submit("acme", content, origin="http", key="k", traceparent=TRACE)
    await store.set("acme", TIGHT)
    again = await service.submit("acme", content, origin="http", key="k", traceparent=TRACE)
    assert (again.state.id, again.changed) == (first.state.id, False)
    with pytest.raises(NotAdmitted):
        await service.submit("acme", content, origin="http", key="new", traceparent=TRACE)
