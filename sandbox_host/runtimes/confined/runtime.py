"""The confined runtime, for containers that are not allowed to make namespaces.

It isolates less than a box, so it is used only if ``QLP_SANDBOX_RUNTIMES`` names it. A program is
confined by Landlock, seccomp, resource limits and, if this host is root in its container, its own
user ID. It shares the PID namespace, host name and memory with this host, and sees that other
processes exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox_host.linux import seccomp
from sandbox_host.linux.behaviour import RefusalLog, RefusalsUnreadable
from sandbox_host.linux.box_users import CONFINED_USERS, NoUserFree
from sandbox_host.linux.cpus import ProgramCpus
from sandbox_host.linux.quotas import SHARED
from sandbox_host.run.job import PreparedJob
from sandbox_host.runtimes.base import (
    Readiness,
    RunControl,
    RunRecord,
    RunResult,
    RuntimeFailure,
    TooSlow,
)
from sandbox_host.runtimes.canary import proved_languages
from sandbox_host.runtimes.confined.folder import (
    ProgramFolder,
    make_base,
    reap_bases,
    remove_tree,
)
from sandbox_host.runtimes.confined.process import Launcher
from sandbox_host.runtimes.confined.run import ConfinedRun, HostCapabilities
from sandbox_host.runtimes.confined.users import kill_strays
from sandbox_host.runtimes.interpreters import command_of, find_interpreters
from sandbox_host.runtimes.provisions import Provisions

#: The first version of Landlock that confines signals. Without that, a program with this host's own
#: user ID could kill this host.
_SIGNALS_CONFINED_SINCE = 6

_FIX = (
    "run the container as root, or on Linux 6.12 or later, with Landlock among the kernel's"
    " security modules (lsm=landlock,…) and allowed by the container's seccomp profile"
)


@dataclass(frozen=True)
class _Provisioned:
    capabilities: HostCapabilities
    base: Path
    refusals: str

    async def aclose(self) -> None:
        self.capabilities.launcher.close()
        if self.capabilities.log is not None:
            self.capabilities.log.close()
        remove_tree(self.base)


class ConfinedRuntime:
    """See the module; satisfies `sandbox_host.runtimes.base.Runtime`."""

    name = "confined"

    def __init__(self) -> None:
        """Prepare; nothing is probed before `preflight`."""
        self._provisions = Provisions(_Provisioned.aclose)
        self._serial = 0

    async def preflight(self) -> Readiness:
        """Find out what the kernel offers, and run the canary."""
        if sys.platform != "linux":
            return Readiness(False, "Landlock needs Linux", "use the docker runtime")
        try:
            provisioned = self._provisions.current or _provision()
            self._provisions.provide(provisioned)
            known = provisioned.capabilities.interpreters
            ready = await proved_languages(self, known, self._provisions.busy)
        except TooSlow as error:
            await self._provisions.retire()
            return Readiness(False, str(error), "give this host more CPU time")
        except (RuntimeFailure, OSError) as error:
            await self._provisions.retire()
            return Readiness(False, str(error), _FIX)
        capabilities = provisioned.capabilities
        interpreters = {name: capabilities.interpreters[name] for name in ready}
        provisioned = replace(
            provisioned, capabilities=replace(capabilities, interpreters=interpreters)
        )
        self._provisions.provide(provisioned)
        return self._readiness(provisioned, ready)

    @staticmethod
    def _readiness(provisioned: _Provisioned, languages: tuple[str, ...]) -> Readiness:
        own = os.geteuid() != 0
        user = "the host's own user id" if own else "a user id per job"
        version = provisioned.capabilities.launcher.landlock
        isolation = f"weak: no namespaces; Landlock ABI {version}, seccomp, rlimits, {user}"
        return Readiness(
            True,
            "the canary ran",
            details={
                "isolation": isolation,
                "languages": ", ".join(languages),
                "limits": "rlimits; memory, disk and inodes held by sampling",
                "cpu": provisioned.capabilities.cpus.description(),
                "seccomp": "on",
                "apparmor": "whatever the container has",
                "user": user,
                "quotas": f"shared with the host's own user: signals that wait, {SHARED}"
                if own
                else "of a user per program",
                "artifacts": "collected from the program's folder",
                "refused calls": provisioned.refusals,
                "visible": "that other processes exist; the kernel's memory and CPU figures",
            },
            languages=languages,
            isolation=isolation,
        )

    async def run(self, job: PreparedJob, control: RunControl | None = None) -> RunResult:
        """See `Runtime.run`."""
        with self._provisions.for_a_run() as provisioned:
            return await self._run(provisioned, job, control or RunControl())

    async def _run(
        self, provisioned: _Provisioned, job: PreparedJob, control: RunControl
    ) -> RunResult:
        capabilities = provisioned.capabilities
        record = RunRecord.of(job, self.name, control)
        command = command_of(job, capabilities.interpreters, "")
        try:
            with _user() as uid:
                async with self._folder(provisioned.base, job, uid) as folder:
                    run = ConfinedRun(record, capabilities, folder, uid, control.kill)
                    return await run.run([command[0]])
        except NoUserFree as error:
            raise RuntimeFailure(str(error)) from None
        except OSError as error:
            raise RuntimeFailure(str(error)) from error

    @contextlib.asynccontextmanager
    async def _folder(
        self, base: Path, job: PreparedJob, uid: int | None
    ) -> AsyncIterator[ProgramFolder]:
        self._serial += 1
        folder = ProgramFolder(base / str(self._serial), job.files, uid)
        try:
            yield folder
        finally:
            await asyncio.shield(asyncio.to_thread(folder.remove))

    async def reap(self) -> int:
        """See `Runtime.reap`."""
        users = await asyncio.to_thread(kill_strays) if os.geteuid() == 0 else 0
        return max(users, await asyncio.to_thread(reap_bases))

    async def aclose(self) -> None:
        """See `Runtime.aclose`."""
        await self._provisions.aclose()


@contextlib.contextmanager
def _user() -> Iterator[int | None]:
    if os.geteuid() != 0:
        yield None
        return
    with contextlib.closing(CONFINED_USERS.take()) as user:
        yield user.uid


def _provision() -> _Provisioned:
    """Find what the runtime needs.

    Raises:
        RuntimeFailure: this machine lacks something.
    """
    if not seccomp.supported():
        raise RuntimeFailure("there is no seccomp table for this architecture")
    interpreters = find_interpreters()
    with contextlib.ExitStack() as on_failure:
        launcher = Launcher(shutil.which("python3", path="/usr/bin") or sys.executable)
        on_failure.callback(launcher.close)
        own = os.geteuid() != 0
        needed = _SIGNALS_CONFINED_SINCE if own else 1
        if launcher.landlock < needed:
            raise RuntimeFailure(
                f"Landlock ABI {needed} is needed, this kernel offers {launcher.landlock}"
            )
        log, refusals = None, "counted from the kernel's audit records"
        try:
            log = None if own else RefusalLog()
        except RefusalsUnreadable as reason:
            refusals = f"not counted ({reason})"
        if own:
            refusals = "not counted (only root may read the kernel's audit records)"
        if log is not None:
            on_failure.callback(log.close)
        filters = seccomp.confined_filters(as_host=own)
        capabilities = HostCapabilities(interpreters, launcher, filters, ProgramCpus(), log)
        provisioned = _Provisioned(capabilities, make_base(), refusals)
        on_failure.pop_all()
    return provisioned
