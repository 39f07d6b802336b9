"""The Docker engine as tests look at it, and one of a test's own, which may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sandbox_host.settings import DEFAULT_IMAGES
from tests.support.sandbox.runtimes import ensure_image

if TYPE_CHECKING:
    from sandbox_host.runtimes.docker.engine import DockerEngine

_START_SECONDS = 60


@pytest.fixture
def docker_engine() -> Iterator[DockerEngine]:
    """To look at what the runtime does with the machine's engine."""
    # Imported late: tests of other runtimes do without the engine's library.
    from sandbox_host.runtimes.docker.engine import DockerEngine

    with contextlib.closing(DockerEngine()) as engine:
        yield engine


class PrivateEngine:
    """``dockerd`` without a network, with its data below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"unix://{folder}/engine.sock"

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it answers."""
        for stale in self._folder.glob("**/*.pid"):  # one that was killed left them
            stale.unlink()
        with (self._folder / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    *("--data-root", str(self._folder / "data")),
                    *("--exec-root", str(self._folder / "exec")),
                    *("--pidfile", str(self._folder / "engine.pid")),
                    *("--host", self.address),
                    *("--bridge=none", "--iptables=false", "--ip-masq=false"),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while self.docker("version").returncode != 0:
            assert time.monotonic() < deadline, (self._folder / "engine.log").read_text()[-2000:]
            assert self._process.poll() is None, (self._folder / "engine.log").read_text()[-2000:]
            time.sleep(0.1)

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command line client against it."""
        return subprocess.run(
            ["docker", "--host", self.address, *arguments], capture_output=True, check=False
        )

    def load(self, image: str) -> None:
        """Copy an image of the machine's own engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            command = ["docker", "--host", self.address, "load"]
            subprocess.run(command, stdin=saving.stdout, capture_output=True, check=True)

    def boxes(self) -> list[str]:
        """Ids of its containers, running or not."""
        return self.docker("ps", "--all", "--quiet").stdout.decode().split()

    def kill(self) -> None:
        """SIGKILL, as a crash; what ran in its containers is left to itself."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, and whatever of it is left."""
        if self._process is not None and self._process.poll() is None:
            for box in self.boxes():
                self.docker("rm", "--force", box)
            self._process.terminate()
            self._process.wait(120)
        for pid in _processes_of(str(self._folder)):
            with contextlib.suppress(ProcessLookupError):  # it ends with its engine
                os.kill(pid, signal.SIGKILL)
        for mount in _mounts_below(self._folder):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)


def _processes_of(folder: str) -> list[int]:
    """Containerd and shims that were told of ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and folder.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _mounts_below(folder: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(f"{folder}/")), reverse=True)


@pytest_asyncio.fixture
async def private_engine(needs_root: None) -> AsyncIterator[PrivateEngine]:
    """A running engine that has the image for Python."""
    await ensure_image(("python",))
    if shutil.which("dockerd") is None:
        pytest.skip("dockerd is not installed")
    # A short path: the engine's sockets lie below it.
    engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="qlp-e-", dir="/tmp")))
    try:
        await asyncio.to_thread(engine.start)
        await asyncio.to_thread(engine.load, DEFAULT_IMAGES.format(language="python"))
        yield engine
    finally:
        await asyncio.to_thread(engine.close)
