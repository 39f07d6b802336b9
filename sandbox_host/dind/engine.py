"""Configures the container's Docker engine, starts it, watches it, and restarts it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import docker
import docker.errors
import requests

from sandbox_host.dind.images import Unprepared
from sandbox_host.host.engine_status import EngineStatus
from sandbox_host.linux.folders import make_file, make_folder
from sandbox_host.linux.mountinfo import read_mounts

log = logging.getLogger(__name__)

SOCKET = Path("/var/run/docker.sock")

_CONFIGURATION = Path("/run/qlp/daemon.json")
_DATA = Path("/var/lib/docker")
_EXEC = Path("/run/docker")
_PID_FILES = (Path("/run/docker.pid"), _EXEC / "containerd/containerd.pid")

#: Owner of the ID ranges in /etc/subuid and /etc/subgid that boxes' users are mapped to.
_REMAPPED = "dockremap"

#: Seconds an engine may take to answer after its start, and to stop.
_START_SECONDS = 60.0
STOP_SECONDS = 15.0

#: Seconds before an engine that died is restarted: doubled each time, up to the second number, and
#: reset once an engine has run for as long as the third.
_FIRST_PAUSE, _LONGEST_PAUSE, _RESET_AFTER = 0.5, 30.0, 60.0


def configuration() -> dict[str, object]:
    """The contents of the engine's configuration file.

    Boxes have no network at all, so there is neither a bridge nor iptables. The engine listens on
    the local socket only. A box's root has no rights outside of the box.
    """
    settings: dict[str, object] = {
        "hosts": [f"unix://{SOCKET}"],
        "data-root": str(_DATA),
        "exec-root": str(_EXEC),
        "pidfile": str(_PID_FILES[0]),
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "userland-proxy": False,
        "userns-remap": _REMAPPED,
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "log-driver": "none",
        "log-level": "warn",
        "shutdown-timeout": 5,
    }
    if _is_overlay(_DATA):
        # An overlay cannot lie on an overlay. vfs is slow, and copies the whole image for each box.
        settings["storage-driver"] = "vfs"
        log.warning("%s is not a volume: the engine copies a whole image for each box", _DATA)
    runsc = shutil.which("runsc")
    if runsc:
        # Without this argument gVisor looks for a network interface, which boxes do not have.
        settings["runtimes"] = {"runsc": {"path": runsc, "runtimeArgs": ["--network=none"]}}
    return settings


class Engine:
    """Keeps an engine running.

    Args:
        report: called with every new status.
        prepare: awaited whenever an engine has started to answer, before it is reported as
            running; raises `Unprepared`.
    """

    def __init__(
        self,
        report: Callable[[EngineStatus], None],
        prepare: Callable[[], Awaitable[None]],
    ) -> None:
        self._report = report
        self._prepare = prepare
        self._process: asyncio.subprocess.Process | None = None
        self._last_line = ""
        self._restarts = 0

    async def keep_running(self) -> None:
        """Start the engine, and restart it whenever it ends, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            started = time.monotonic()
            reason = await self._run_once()
            if time.monotonic() - started > _RESET_AFTER:
                pause = _FIRST_PAUSE
            log.error("%s; restarting it in %.1f s", reason, pause)
            fix = "it is being restarted; see its last line, and the container's log"
            self._restarts += 1
            self._tell(EngineStatus("failed", reason, fix))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def stop(self) -> None:
        """Stop the engine; kill it if it takes too long."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            log.warning("the engine did not stop in time; killing it")
            process.kill()
            await process.wait()

    def _tell(self, status: EngineStatus) -> None:
        known = {**vars(status), "restarts": self._restarts, "last_line": self._last_line}
        self._report(EngineStatus(**known))

    async def _run_once(self) -> str:
        """Run an engine until it ends; why it ended."""
        await asyncio.to_thread(clean_up)
        await asyncio.to_thread(_configure)
        process = await asyncio.create_subprocess_exec(
            "dockerd",
            f"--config-file={_CONFIGURATION}",
            stderr=asyncio.subprocess.PIPE,
            umask=0o022,  # its children inherit it
            start_new_session=True,  # Ctrl-C reaches the supervisor alone
        )
        self._process = process
        reading = asyncio.create_task(self._read(process))
        ended = asyncio.create_task(process.wait())
        try:
            answering = asyncio.create_task(self._until_it_answers())
            await asyncio.wait({ended, answering}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                answering.cancel()
            elif problem := answering.result():
                await self.stop()
                return problem
            else:
                await self._serve(ended)
            status = await ended
            await asyncio.wait({reading}, timeout=1)  # for its last line
            return f"the engine ended with status {status}"
        finally:
            ended.cancel()
            reading.cancel()

    async def _serve(self, ended: asyncio.Task[int]) -> None:
        """Prepare the engine, retrying until that succeeds, and wait for the engine's end."""
        while not ended.done():
            try:
                await self._prepare()
            except Unprepared as error:
                log.error("the engine runs, but %s", error)
                self._tell(EngineStatus("failed", str(error), error.fix))
                await asyncio.wait({ended}, timeout=_LONGEST_PAUSE)
            else:
                self._tell(EngineStatus("running"))
                await asyncio.wait({ended})

    async def _until_it_answers(self) -> str | None:
        """Wait until the engine answers; if it does not in time, the reason to report."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if await asyncio.to_thread(answers):
                return None
            await asyncio.sleep(0.1)
        return f"the engine did not answer within {_START_SECONDS:.0f} s"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Log what the engine writes to stderr, and keep the last line."""
        assert process.stderr is not None
        while chunk := await process.stderr.read(65536):
            for line in chunk.decode(errors="replace").splitlines():
                self._last_line = line.strip()[-500:]
                log.warning("engine: %s", self._last_line)


def answers() -> bool:
    """Whether the engine answers; its socket exists before it does."""
    try:
        with contextlib.closing(docker.APIClient(base_url=f"unix://{SOCKET}", timeout=5)) as client:
            return bool(client.ping())
    except (docker.errors.DockerException, requests.RequestException):
        return False


def remove_boxes() -> None:
    """Remove every container: when an engine has just started, all are left from an earlier run.

    The host's own reaper leaves them alone, since it cannot tell whether a host in another PID
    namespace is alive. Here only the host's own predecessor can have made them.
    """
    try:
        url = f"unix://{SOCKET}"
        with contextlib.closing(docker.APIClient(base_url=url, timeout=60)) as client:
            for box in client.containers(all=True):
                client.remove_container(box["Id"], force=True, v=True)
    except (docker.errors.DockerException, requests.RequestException) as error:
        reason = f"leftovers cannot be removed: {error}"
        raise Unprepared(reason, "see the engine's last line, and the container's log") from error


def clean_up() -> None:
    """Remove what a killed engine has left: its PID files, its socket, and a running containerd.

    After a restart of the container, another process may have the PID in such a file; the engine
    would then refuse to start, or wait for a containerd that is something else.
    """
    for path in _PID_FILES:
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(path.read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() in ("dockerd", "containerd"):
                os.kill(pid, signal.SIGKILL)
        path.unlink(missing_ok=True)
    SOCKET.unlink(missing_ok=True)


def _configure() -> None:
    make_folder(_CONFIGURATION.parent, 0o755, exist_ok=True)
    make_file(_CONFIGURATION, json.dumps(configuration()).encode(), 0o644)


def _is_overlay(folder: Path) -> bool:
    """Whether ``folder`` lies on an overlay file system."""
    kinds = {mount.point: mount.kind for mount in read_mounts()}
    return next(kinds[at] for at in (folder, *folder.parents) if at in kinds) == "overlay"
