"""Examines whether events get sealed, by whose signature, and whether seals are kept elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from psycopg_pool import AsyncConnectionPool

from domain.database.pool import fetch
from domain.database.statements import load_statements
from domain.operations.doctor.findings import Finding
from domain.sealing.reads import SealReads

_SQL = load_statements(Path(__file__).with_name("doctor.sql"))

#: What has waited for longer than this is not being sealed, or anchored: the sealer runs at least
#: every 30 s. Seconds.
_LATE_SECONDS = 600.0

_RUNNING = "is the function seal_log enabled and running? its log says why it stops"


async def examine_sealing(pool: AsyncConnectionPool) -> Sequence[Finding]:
    """Whether events get sealed; until then they are protected by their chain alone."""
    reads = SealReads(pool)
    made, newest = await reads.made(), await reads.newest(1)
    if made is None or (made and not newest and not await _only_ranges(pool, made)):
        detail = "seals that were made are missing"
        return [Finding("sealing", "fail", detail, "see `qlp log verify` and docs/operators.md")]
    [(seconds,)] = await fetch(pool, _SQL["unsealed"], {})
    detail = "every event is sealed"
    if seconds is not None:
        detail = f"the oldest unsealed event has waited for {seconds:.0f} s"
        if seconds > _LATE_SECONDS:
            return [Finding("sealing", "warn", detail, _RUNNING)]
    findings = [Finding("sealing", "ok", detail)]
    if not newest:
        return findings
    if newest[0].key_id is None:
        detail = "seals are not signed: whoever can write to the database can make them"
        fix = "set QLP_SEAL_SIGNER; see docs/operators.md"
        findings.append(Finding("seals' signature", "warn", detail, fix))
    findings.append(await _anchored(pool))
    return findings


async def _anchored(pool: AsyncConnectionPool) -> Finding:
    [(anchor, seq, seconds)] = await fetch(pool, _SQL["anchored"], {})
    if anchor is None:
        detail = "no seal is kept outside of the database, whose owner can rewrite them all"
        fix = "set QLP_SEAL_ANCHOR; see docs/operators.md"
        return Finding("seals' anchor", "warn", detail, fix)
    made = await SealReads(pool).made()
    if made is not None and seq > made:
        detail = f"{anchor} has seals up to {seq}, and the log only up to {made}"
        fix = "see `qlp log verify --anchor` and docs/operators.md"
        return Finding("seals' anchor", "fail", detail, fix)
    if seconds is not None and seconds > _LATE_SECONDS:
        detail = f"{anchor} has seals up to {seq}; the next one has waited for {seconds:.0f} s"
        return Finding("seals' anchor", "fail", detail, _RUNNING)
    return Finding("seals' anchor", "ok", f"{anchor} has seals up to {seq}")


async def _only_ranges(pool: AsyncConnectionPool, made: int) -> bool:
    """Whether all seals that were made are of the form before migration 0022."""
    [(last,)] = await fetch(pool, _SQL["last_range_seal"], {})
    return bool(last == made)
