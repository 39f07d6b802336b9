"""Examines the database: schema, indexes, and followers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from domain.database.migrate import (
    MigrationError,
    SchemaOutOfDate,
    check_schema,
    load_migrations,
    to_confirm,
)
from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.eventlog.followers import Followers
from domain.eventlog.lanes import LANES
from domain.eventlog.log import EventLog
from domain.health import RELAY_LAG_SECONDS
from domain.intents.events import REGISTRY
from domain.messaging import relay
from domain.messaging.rejected import HELD
from domain.operations.doctor.findings import Check, Finding, on_database
from domain.operations.doctor.protection import examine_rights
from domain.operations.doctor.sealing import examine_sealing
from domain.operations.doctor.triggers import examine_triggers

_SQL = load_statements(Path(__file__).with_name("doctor.sql"))

_CLOCK_WARN_SECONDS = 5.0
_CONNECTIONS_WARN = 0.8

#: How many events at the end of each lane are searched for those of a later release, and how many
#: types are named.
_RECENT, _SHOWN = 400, 10

#: pgvector has hnsw.iterative_scan, which domain.database.pool sets, since this release.
_VECTOR_SINCE = (0, 8)


class DatabaseExam:
    """Every check of the database.

    Args:
        pool: the application's connections.
        stalled_after_seconds: how long an intent may be overdue.
        owner_url: signs in as the tables' owner, to try the triggers. None: triggers are not tried,
            only their definitions are compared.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        stalled_after_seconds: float,
        owner_url: str | None = None,
    ) -> None:
        self._pool = pool
        self._owner_url = owner_url
        self._stalled_after = stalled_after_seconds

    async def examine(self) -> list[Finding]:
        """All findings; nothing is changed."""
        checks: dict[str, Check] = {
            "database": self._server,
            "writes": self._writes,
            "schema": self._schema,
            "rights": lambda: examine_rights(self._pool),
            "triggers": lambda: examine_triggers(self._pool, self._owner_url),
            "sealing": lambda: examine_sealing(self._pool),
            "import": self._import,
            "vectors": self._vectors,
            "followers": self._followers,
            "relay": self._relay,
            "stalled intents": self._stalled,
            "rejected messages": self._rejected,
            "parked streams": self._parked,
            "later release": self._later_release,
        }
        findings: list[Finding] = []
        for name, check in checks.items():
            findings += await on_database(name, check)
        return findings

    async def _fetch(self, name: str, **params: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        return await fetch(self._pool, _SQL[name], params)

    async def _server(self) -> Sequence[Finding]:
        started = time.perf_counter()
        [(version, _, clock, connections, most)] = await self._fetch("server")
        took = time.perf_counter() - started
        detail = f"PostgreSQL {version} answers in {took * 1e3:.1f} ms"
        findings = [Finding("database", "ok", detail)]
        skew = abs(clock - time.time())
        if skew > _CLOCK_WARN_SECONDS:
            detail = f"the clocks of the database and of this machine differ by {skew:.0f} s"
            findings.append(Finding("clock", "warn", detail, "synchronise both with NTP"))
        if connections > most * _CONNECTIONS_WARN:
            detail = f"{connections} of {most} connections are in use"
            fix = "lower QLP_DATABASE_POOL_SIZE, or run fewer instances"
            findings.append(Finding("connections", "warn", detail, fix))
        return findings

    async def _import(self) -> Sequence[Finding]:
        rows = await self._fetch("accepted_import")
        if not rows:
            return []
        detail = (
            f"an import that was accepted at {rows[0][0]:%Y-%m-%d %H:%M} UTC has not ended: "
            "nobody else can write to its streams"
        )
        return [Finding("import", "warn", detail, "qlp events import --resume")]

    async def _writes(self) -> Sequence[Finding]:
        if await EventLog(self._pool).writable():
            return [Finding("writes", "ok", "possible")]
        detail = "the database is read-only: nothing is accepted, messages wait"
        fix = "free space on its disk, or promote it if it is a standby; then: " + (
            "alter system reset default_transaction_read_only; select pg_reload_conf()"
        )
        return [Finding("writes", "fail", detail, fix)]

    async def _schema(self) -> Sequence[Finding]:
        try:
            later = await check_schema(self._pool)
        except SchemaOutOfDate as error:
            return [Finding("schema", "fail", str(error), "qlp migrate")]
        except MigrationError as error:
            return [Finding("schema", "fail", str(error), "see the message")]
        waiting = await to_confirm(self._pool)
        detail = f"at {load_migrations()[-1 - len(waiting)]}"
        if waiting:
            detail += (
                f"; {', '.join(waiting)} waits: when you will not go back to an earlier release, "
                "qlp migrate --confirm"
            )
        if later:
            detail += (
                f", and {', '.join(later)} of a later release, which this release can run with"
            )
        return [Finding("schema", "ok", detail)]

    async def _vectors(self) -> Sequence[Finding]:
        rows = await self._fetch("vector_version")
        if not rows:
            fix = "install pgvector, then as a superuser: create extension vector"
            return [Finding("vectors", "fail", "the extension vector is missing", fix)]
        version = str(rows[0][0])
        findings: list[Finding] = []
        if tuple(int(part) for part in version.split(".")[:2]) < _VECTOR_SINCE:
            fix = "install pgvector 0.8 or later, then: alter extension vector update"
            findings.append(Finding("vectors", "fail", f"pgvector {version} is too old", fix))
        findings += [
            Finding(
                "indexes",
                "fail",
                f"{index} is not valid: building it was interrupted",
                f"as the owner: reindex index concurrently {index}",
            )
            for (index,) in await self._fetch("invalid_indexes")
        ]
        return findings or [Finding("vectors", "ok", f"pgvector {version}")]

    async def _followers(self) -> Sequence[Finding]:
        followers = Followers(self._pool)
        names = sorted(await followers.moved())
        read = {name: await followers.heads(name) for name in names}
        end = await EventLog(self._pool).heads()  # after what they have read
        findings = []
        for name, heads in read.items():
            if lanes := [n for n in range(LANES) if heads.positions[n] > end.positions[n]]:
                detail = (
                    f"{name} has read lane {lanes[0]} up to {heads.positions[lanes[0]]}, but it "
                    f"ends at {end.positions[lanes[0]]}: nothing of it is processed until it is "
                    f"that long ({len(lanes)} lanes)"
                )
                fix = (
                    "see `qlp log verify` for what is missing; then, as the owner, set positions = "
                    f"default in followers where follower = '{name}': it processes all again"
                )
                findings.append(Finding("followers", "fail", detail, fix))
        said = f"none is beyond the log's end: {', '.join(names) or 'there are none yet'}"
        return findings or [Finding("followers", "ok", said)]

    async def _relay(self) -> Sequence[Finding]:
        lag = await Followers(self._pool).lag(relay.NAME)
        detail = f"unpublished events: {lag.events}"
        if lag.events:
            detail += f", the oldest, in lane {lag.oldest}, for {lag.seconds:.1f} s"
        if lag.seconds > RELAY_LAG_SECONDS:
            fix = (
                "see the findings on Service Bus; is the function relay_events enabled and running?"
            )
            return [Finding("relay", "fail", detail, fix)]
        return [Finding("relay", "ok", detail)]

    async def _stalled(self) -> Sequence[Finding]:
        [(count, seconds, waiting)] = await self._fetch("stalled", after=self._stalled_after)
        if not count:
            turn = f"; {waiting} wait for their turn" if waiting else ""
            return [Finding("stalled intents", "ok", f"none{turn}")]
        detail = f"intents without progress: {count}, the oldest for {seconds:.0f} s"
        fix = (
            "see the findings on Service Bus and the sandbox; the function recover_stalled sends "
            "their messages again, or at once: qlp replay --where status=running --to sandbox"
        )
        return [Finding("stalled intents", "warn", detail, fix)]

    async def _rejected(self) -> Sequence[Finding]:
        [(count, recent)] = await self._fetch("rejected")
        detail = f"{count}, {recent} of them in the last day"
        if recent:
            return [Finding("rejected messages", "warn", detail, "qlp rejected list")]
        return [Finding("rejected messages", "ok", detail)]

    async def _parked(self) -> Sequence[Finding]:
        [(count, _)] = await self._fetch("parked")
        if count:
            return [Finding("parked streams", "warn", f"{count}", "qlp projections list")]
        return [Finding("parked streams", "ok", "none")]

    async def _later_release(self) -> Sequence[Finding]:
        """What a later release left behind before it was rolled back; see docs/deploy.md."""
        [(_, parked)] = await self._fetch("parked")
        [(held,)] = await self._fetch("held", reasons=[*HELD])
        recent = await self._fetch("recent_types", per_lane=_RECENT)
        unread = [row for row in recent if not REGISTRY.reads(row[0], row[1])]
        newer = [row for row in unread if row[0] in REGISTRY.types]
        findings = []
        if newer or parked or held:
            detail = (
                f"of the last {_RECENT} events of each lane this release cannot read "
                f"{_listed(newer)}; parked streams: {parked}; held messages: {held}; commands for "
                "such intents are refused"
            )
            fix = "deploy the release that wrote them, or a later one: it processes them by itself"
            findings.append(Finding("later release", "fail", detail, fix))
        if unknown := [row for row in unread if row not in newer]:
            detail = f"events of unknown types, which are ignored: {_listed(unknown)}"
            fix = "none is needed: a later release wrote them, and can read them"
            findings.append(Finding("later release", "warn", detail, fix))
        return findings or [Finding("later release", "ok", "it has written nothing here")]


def _listed(rows: Sequence[tuple[Any, ...]]) -> str:
    named = [f"{count} of {type_} {version}" for type_, version, count in rows]
    return ", ".join(named[:_SHOWN]) + (" and others" if len(named) > _SHOWN else "") or "none"
