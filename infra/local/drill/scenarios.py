"""The scenarios: what is lost, how it is restored, and what is checked afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from infra.local.drill.backup import DrillError, Dump, PhysicalBackup, Server
from infra.local.drill.clients import AcceptedIntent, Clients
from infra.local.stack.qlp import run_qlp
from infra.local.stack.stack import Endpoints, LocalStack

_SERVED_SECONDS = 300.0
_ENDED_SECONDS = 120.0
_SEALED_SECONDS = 60.0

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a drill measured.

    Attributes:
        scenario: its name.
        accepted: number of intents accepted before the loss.
        lost: how many of them were unknown after the restore.
        lost_seconds: age of the oldest lost intent at the time of the loss: the recovery point.
        served_seconds: from the loss until an intent was accepted again.
        ended_seconds: from the loss until all intents that were not lost had ended.
        restore_seconds: from the loss until the server accepted connections.
        backup_mib: size of the backup.
        outcomes: number of intents that were not lost, by final status.
        refused: number of other answers that clients got in between, by status or error.
        resubmitted: number of lost intents that clients submitted again and got the same id for.
        checks: exit status of each ``qlp`` command that checks the result.
    """

    scenario: str
    accepted: int
    lost: int
    lost_seconds: float
    served_seconds: float
    ended_seconds: float
    restore_seconds: float
    backup_mib: float
    outcomes: Mapping[str, int]
    refused: Mapping[str, int]
    resubmitted: int
    checks: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; seconds and sizes rounded to one decimal."""
        return {k: round(v, 1) if isinstance(v, float) else v for k, v in asdict(self).items()}


class Drill:
    """One drill on a running stack, whose data and backups are in ``folder``."""

    def __init__(
        self,
        stack: LocalStack,
        endpoints: Endpoints,
        folder: Path,
        seconds: float,
        clients: int,
        pause: float,
        log: Log,
    ) -> None:
        self._endpoints = endpoints
        self._folder = folder
        self._seconds = seconds
        self._clients = clients
        self._pause = pause
        self._log = log
        child = stack.children["postgres"]
        self._server = Server(folder / "postgres", child, endpoints.database_admin_url)
        self._copy = PhysicalBackup(self._server, folder / "backup")
        self._dump = Dump(self._server, folder / "backup")

    async def disaster(self) -> Figures:
        """The server and its disk are lost; everything up to the last change is restored."""
        async with Clients.connected(self._endpoints) as clients, self._copy.recording():
            return await self._lose("disaster", clients, None)

    async def mistake(self) -> Figures:
        """The database is restored to an earlier moment, as after a wrong command."""
        async with Clients.connected(self._endpoints) as clients, self._copy.recording():
            async with clients.submitting(self._clients, self._pause):
                await clients.load_for(self._seconds / 2)
            moment, known = await self._server.now(), await self._seals()
            return await self._lose("mistake", clients, moment, known)

    async def move(self) -> Figures:
        """A dump is restored into a new cluster, as after the loss of a region, or to upgrade."""
        async with Clients.connected(self._endpoints) as clients:
            async with clients.submitting(self._clients, self._pause):
                await clients.load_for(self._seconds / 2)
                await self._dump.take()
            return await self._lose("move", clients, None, await self._seals())

    async def _lose(
        self, name: str, clients: Clients, until: datetime | None, known: str = ""
    ) -> Figures:
        async with clients.submitting(self._clients, self._pause):
            await clients.load_for(self._seconds)
            kept = self._folder / "seals.jws"
            kept.write_text(await self._seals_since(known))
            lost_at = monotonic()
            await self._server.lose()
            before = [intent for intent in clients.accepted if intent.at <= lost_at]
            self._log(f"lost the database with {len(before)} accepted intents")
            clients.refusals.clear()
            if name == "move":
                await self._dump.restore()
            else:
                await self._copy.restore(until)
            restored = monotonic()
            self._log(f"restored after {restored - lost_at:.1f} s")
            served = await clients.first_accepted_after(restored, _SERVED_SECONDS)
        refused = dict(clients.refusals)
        outcomes, lost = await self._outcomes(clients, before)
        ended = monotonic()
        again = [await clients.submit(p.key) == p.intent_id for p in lost]
        backup = self._dump.size() if name == "move" else self._copy.size()
        return Figures(
            scenario=name,
            accepted=len(before),
            lost=len(lost),
            lost_seconds=max((lost_at - p.at for p in lost), default=0.0),
            served_seconds=served - lost_at,
            ended_seconds=ended - lost_at,
            restore_seconds=restored - lost_at,
            backup_mib=backup / 2**20,
            outcomes=outcomes,
            refused=refused,
            resubmitted=sum(again),
            checks=await self._checks(kept),
        )

    async def _outcomes(
        self, clients: Clients, accepted: list[AcceptedIntent]
    ) -> tuple[dict[str, int], list[AcceptedIntent]]:
        found = [await clients.outcome(p.intent_id, _ENDED_SECONDS) for p in accepted]
        lost = [p for p, outcome in zip(accepted, found, strict=True) if outcome is None]
        return dict(Counter(outcome for outcome in found if outcome)), lost

    async def _seals_since(self, known: str) -> str:
        """Seals that cover events after ``known``; the current ones if it is empty.

        The first seal after ``known`` may cover earlier events, the second cannot.
        """
        seals, newer = known or await self._seals(), 2 if known else 0
        deadline = monotonic() + _SEALED_SECONDS
        while newer > 0 or not seals:
            if monotonic() > deadline:
                raise DrillError(f"no events were sealed for {_SEALED_SECONDS:.0f} s")
            found = await self._seals()
            newer -= found != seals
            seals = found
        return seals

    async def _seals(self) -> str:
        done = await run_qlp(self._endpoints, "log", "seals", "--text")
        if done.status:
            raise DrillError(f"qlp log seals: {done.errors.strip()}")
        return done.output

    async def _checks(self, kept: Path) -> dict[str, int]:
        listed = await run_qlp(self._endpoints, "projections", "list", "--json")
        if listed.status:
            raise DrillError(f"qlp projections list: {listed.errors.strip()}")
        names = [str(each["name"]) for each in json.loads(listed.output)["items"]]
        commands = {
            "log verify": ("log", "verify"),
            "log verify --anchor": ("log", "verify", "--anchor", str(kept)),
            "replay --to nowhere": ("replay", "--where", "tenant=demo", "--to", "nowhere"),
            **{f"projections verify {name}": ("projections", "verify", name) for name in names},
        }
        statuses = {}
        for name, command in commands.items():
            done = await run_qlp(self._endpoints, *command)
            statuses[name] = done.status
            if done.status:
                printed = (done.output + done.errors).strip()[-2000:]
                self._log(f"{name} exits with {done.status}:\n{printed}")
        return statuses
