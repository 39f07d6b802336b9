"""An engine without a daemon: runs containers with runc or crun, from unpacked images."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.linux.folders import make_folder
from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.containers.engine import Ended, EngineFacts
from sandbox_host.runtimes.containers.plan import APPARMOR_PROFILE, Plan
from sandbox_host.runtimes.oci.roots import Roots
from sandbox_host.runtimes.oci.spec import HOSTS, spec_of
from sandbox_host.runtimes.oci.stdio import Stdio

#: Programs that make containers, the best first.
_PROGRAMS = ("crun", "runc")

#: Contains the runtime's own state, and a folder for each container with its configuration.
_FOLDER = Path("/run/qlp-oci")
STATE, _BUNDLES = _FOLDER / "state", _FOLDER / "bundles"

#: Of gVisor, before the name of the call; of its platforms, ptrace needs neither /dev/kvm nor a
#: release of after 2023.
_GVISOR_OPTIONS = ("--network=none", "--platform=ptrace")

#: In a container's folder: the name of the host process that made it.
_HOST = "host"

#: Seconds that a call of the runtime may take, and that a container has to end by itself once its
#: stdin has.
_CALL_SECONDS = 20.0
_ENDING_SECONDS = 3.0

_PROFILES = Path("/sys/kernel/security/apparmor/profiles")


@dataclass
class _Container:
    stdio: Stdio | None = None
    process: Process | None = None


class OciEngine:
    """See `sandbox_host.runtimes.containers.engine.Engine`.

    The runtime stays in the foreground: it removes its state when the container ends, also if this
    host has died.

    Args:
        program: the OCI runtime to use; None: crun where there is one, else runc.
    """

    def __init__(self, program: str | None = None) -> None:
        self._programs = _PROGRAMS if program is None else (program,)
        self._program = ""
        self._roots = Roots()
        self._containers: dict[str, _Container] = {}

    async def facts(self) -> EngineFacts:
        """See `Engine.facts`; none but root can make containers in this way."""
        if os.geteuid() != 0:
            raise RuntimeFailure("only root can make containers without an engine")
        found = [path for name in self._programs if (path := shutil.which(name))]
        if not found:
            raise RuntimeFailure(f"there is no {' or '.join(self._programs)} here")
        self._program = found[0]
        status, said = await self._call("--version")
        if status != 0:
            raise RuntimeFailure(f"{self._program} --version: {said.strip()[-200:]}")
        return EngineFacts(
            version=said.partition("\n")[0].strip(),
            seccomp="seccomp" in said.lower() or self._is_gvisor,
            apparmor=_has_apparmor(),
            cgroup_driver="cgroupfs",
            local=True,
            runtimes=(Path(self._program).name,),
            first_uid=0,
        )

    async def image_id(self, image: str) -> str:
        """See `Engine.image_id`; unpacks it."""
        return await self._roots.image_id(image)

    async def create(self, plan: Plan) -> str:
        """See `Engine.create`."""
        if plan.cgroup_parent is None or plan.workspace is None:
            raise RuntimeFailure("without an engine, boxes need cgroups and mounts of this host")
        container = plan.name
        try:
            await asyncio.to_thread(self._write, plan, container)
        except OSError as error:
            raise RuntimeFailure(f"write the box's configuration: {error}") from error
        self._containers[container] = _Container()
        return container

    def _write(self, plan: Plan, container: str) -> None:
        for folder in (_FOLDER, STATE, _BUNDLES):
            make_folder(folder, 0o700, exist_ok=True)
        bundle = _BUNDLES / container
        make_folder(bundle, 0o700)
        (bundle / _HOST).write_text(plan.host)
        hosts = bundle / "hosts"
        hosts.write_text(HOSTS)
        hosts.chmod(0o644)
        spec = spec_of(plan, container, self._roots.path(plan.image), hosts)
        (bundle / "config.json").write_text(json.dumps(spec))

    async def attach(self, container: str) -> Stdio:
        """See `Engine.attach`."""
        found = self._containers[container]
        found.stdio = Stdio()
        return found.stdio

    async def start(self, container: str) -> None:
        """See `Engine.start`; what goes wrong is told on the container's stderr."""
        found = self._containers[container]
        assert found.stdio is not None
        stdin, stdout, stderr = found.stdio.inside
        command = self._command("run", "--bundle", str(_BUNDLES / container), container)
        try:
            found.process = await asyncio.create_subprocess_exec(
                *command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
            )
        except OSError as error:
            raise RuntimeFailure(f"start the box: {error}") from error
        found.stdio.started()

    async def kill(self, container: str) -> None:
        """See `Engine.kill`."""
        await self._call("kill", container, "KILL")

    async def ended(self, container: str) -> Ended:
        """See `Engine.ended`; whether memory ran out is known from the cgroup."""
        found = self._containers.get(container)
        if found is None or found.process is None:
            raise RuntimeFailure("the box was not started")
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                status = await found.process.wait()
        except TimeoutError:
            raise RuntimeFailure(f"the box has not ended in {_CALL_SECONDS:.0f} s") from None
        return Ended(status if status >= 0 else 128 - status, oom=False)

    async def was_killed(self, container: str) -> bool:
        """See `Engine.was_killed`; there is nobody to tell."""
        return False

    async def remove(self, container: str) -> None:
        """See `Engine.remove`."""
        found = self._containers.get(container, _Container())
        if found.process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENDING_SECONDS):
                    await found.process.wait()
        if found.process is None or found.process.returncode is None:
            await self._force_end(container, found)
        await asyncio.to_thread(shutil.rmtree, _BUNDLES / container, ignore_errors=True)
        self._containers.pop(container, None)

    async def _force_end(self, container: str, found: _Container) -> None:
        status, said = await self._call("delete", "--force", container)
        if status != 0 and (STATE / container).exists():
            raise RuntimeFailure(f"remove the box: {said.strip()[-200:]}")
        if found.process is not None:
            with contextlib.suppress(ProcessLookupError):
                found.process.kill()
            await found.process.wait()

    async def boxes(self) -> dict[str, str]:
        """See `Engine.boxes`."""
        found = {}
        for bundle in await asyncio.to_thread(lambda: [*_BUNDLES.glob("*")]):
            with contextlib.suppress(OSError):
                found[bundle.name] = (bundle / _HOST).read_text()
        if not found:
            await asyncio.to_thread(self._roots.forget)
        return found

    def close(self) -> None:
        """See `Engine.close`."""
        self._roots.close()

    @property
    def _is_gvisor(self) -> bool:
        return Path(self._program).name.startswith("runsc")

    def _command(self, *arguments: str) -> list[str]:
        # gVisor's network would need an interface; its loopback is its own kernel's.
        options = [*_GVISOR_OPTIONS] if self._is_gvisor else []
        return [self._program, "--root", str(STATE), *options, *arguments]

    async def _call(self, *arguments: str) -> tuple[int, str]:
        """Run the OCI runtime; its exit status and what it said."""
        if not self._program:
            return 1, "there is no OCI runtime"
        process = await asyncio.create_subprocess_exec(
            *self._command(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise RuntimeFailure(
                f"{self._program} {arguments[0]}: no answer in {_CALL_SECONDS:.0f} s"
            ) from None
        return process.returncode or 0, said.decode(errors="replace")


def _has_apparmor() -> bool:
    try:
        return any(line.startswith(f"{APPARMOR_PROFILE} ") for line in _PROFILES.open())
    except OSError:
        return False
