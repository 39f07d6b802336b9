"""Examines everything that the application depends on, and names the fixes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import psycopg
from psycopg_pool import AsyncConnectionPool

from domain.contracts.connections import connection_setting
from domain.database.pool import PoolerInBetween, open_pool, try_connection
from domain.operations.doctor.database import DatabaseExam
from domain.operations.doctor.findings import Finding, first_line, redacted
from domain.operations.doctor.models import examine_models
from domain.operations.doctor.services import examine_bus, examine_sandbox
from domain.operations.doctor.similarity import examine_similarity
from domain.settings import InvalidSettings, Settings
from domain.similarity.models import wanted_model

_CONNECT_SECONDS = 5
_DEFAULT_STALLED_AFTER = 60.0


async def examine(pool: AsyncConnectionPool, settings: Settings) -> list[Finding]:
    """Run every check with the application's own connections and settings; changes nothing."""
    database, similarity, bus, sandbox, models = await asyncio.gather(
        DatabaseExam(pool, settings.stalled_after_seconds, settings.database_admin_url).examine(),
        examine_similarity(pool, wanted_model(settings)),
        examine_bus(settings),
        examine_sandbox(settings.sandbox_url),
        examine_models(settings),
    )
    return redacted([*database, *similarity, *bus, *sandbox, *models])


async def examine_environment(environment: Mapping[str, str]) -> list[Finding]:
    """Run every check that ``environment`` has settings for; wrong settings are findings too."""
    findings: list[Finding] = []
    settings: Settings | None = None
    try:
        settings = Settings.from_environment(environment)
    except InvalidSettings as error:
        findings.append(
            Finding("settings", "fail", str(error), "correct the setting that the message names")
        )
    url = _readable(environment, "DATABASE_URL")
    if url:
        stalled_after = settings.stalled_after_seconds if settings else _DEFAULT_STALLED_AFTER
        wanted = wanted_model(settings) if settings else None
        findings += await _examine_database(
            url, _readable(environment, "DATABASE_ADMIN_URL"), stalled_after, wanted
        )
    if settings is not None:
        bus, sandbox, models = await asyncio.gather(
            examine_bus(settings),
            examine_sandbox(settings.sandbox_url),
            examine_models(settings),
        )
        findings += [*bus, *sandbox, *models]
    return redacted(findings)


def _readable(environment: Mapping[str, str], name: str) -> str | None:
    """A database's URL; None if it is missing or wrong, which the check of the settings reports."""
    try:
        return connection_setting(environment, name)
    except ValueError:
        return None


async def _examine_database(
    url: str, owner_url: str | None, stalled_after: float, wanted: str | None
) -> list[Finding]:
    try:
        # One connection first: it fails at once and says why, where a pool would keep trying.
        await try_connection(url, _CONNECT_SECONDS)
        pool = await open_pool(url, min_size=1, max_size=2, application_name="qlp-doctor")
    except PoolerInBetween as error:
        fix = "set DATABASE_URL to PostgreSQL's own port, usually 5432; see docs/deploy.md"
        return [Finding("database", "fail", str(error), fix)]
    except psycopg.Error as error:
        fix = "check DATABASE_URL, server and firewall; the login must be a member of qlp_app"
        return [Finding("database", "fail", f"cannot be reached: {first_line(error)}", fix)]
    try:
        findings = await DatabaseExam(pool, stalled_after, owner_url).examine()
        return [*findings, *await examine_similarity(pool, wanted)]
    finally:
        await pool.close()
