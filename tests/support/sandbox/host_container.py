"""The sandbox host's container, started by the machine's engine as a platform would."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from infra.local.ports import free_port
from sandbox_host.images.build_dind import build
from sandbox_host.settings import DEFAULT_IMAGES
from tests.support.sandbox.runtimes import ensure_image

_SYS_RESOURCE = 24

LANGUAGES = ("python", "shell", "node")


def docker(*arguments: str) -> str:
    """Run the command line client of the machine's own engine."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def privileged() -> list[str]:
    """Options that give a container all rights that this machine has to give.

    ``--privileged``, except on a machine that lacks a capability itself: there the engine refuses
    that option, and the same is put together from its parts.
    """
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text()
    held = int(status.partition("CapBnd:")[2].split()[0], 16)
    missing = [number for number in range(last + 1) if not held >> number & 1]
    if not missing:
        return ["--privileged"]
    assert missing == [_SYS_RESOURCE], f"this machine lacks the capabilities {missing}"
    return [
        *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE"),
        *("--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined"),
        "--security-opt=apparmor=unconfined",
    ]


class HostContainer:
    """One container on the machine's network; its engine's data outlive it in ``volume``."""

    def __init__(
        self, image: str, connection: str, images: Path, volume: str, *options: str, **settings: str
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/health"
        environment = {
            "ServiceBusConnection": connection,
            "QLP_SANDBOX_HEALTH_PORT": str(port),
            "QLP_SANDBOX_CONCURRENCY": "2",
            "QLP_SANDBOX_POOL_MEMORY_BYTES": "0",
            **settings,
        }
        told = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        volumes = ["-v", f"{images}:/images:ro", "-v", f"{volume}:/var/lib/docker"]
        self.id = docker("run", "-d", "--network=host", *options, *volumes, *told, image)

    def log(self) -> str:
        """What it wrote to standard error."""
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, check=False)
        return done.stderr.decode(errors="replace")

    def run(self, *command: str) -> str:
        """Output of a command inside."""
        return docker("exec", self.id, *command)

    def state(self) -> dict[str, Any]:
        """As the engine that runs it sees it."""
        found: dict[str, Any] = json.loads(docker("inspect", "-f", "{{json .State}}", self.id))
        return found

    def stop(self, seconds: int) -> int:
        """SIGTERM, as a platform sends it; the exit status."""
        docker("stop", f"--time={seconds}", self.id)
        return int(self.state()["ExitCode"])

    async def until(
        self, condition: Callable[[int, dict[str, Any]], bool], seconds: float = 180
    ) -> dict[str, Any]:
        """Wait for ``/health`` to satisfy ``condition``; its body then."""
        deadline, last = time.monotonic() + seconds, "no answer"
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                try:
                    async with session.get(self.url) as response:
                        body = await response.json(content_type=None)
                        last = f"{response.status} {body}"
                        if condition(response.status, body):
                            return dict(body)
                except aiohttp.ClientConnectionError:
                    assert self.state()["Running"], self.log()
                await asyncio.sleep(0.1)
        raise AssertionError(f"{last}\n{self.log()}")

    async def consuming(self) -> dict[str, Any]:
        """Wait until jobs are consumed."""
        return await self.until(lambda status, _: status == 200)


StartContainer = Callable[..., HostContainer]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def saved_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the languages' images, as ``docker save`` writes them."""
    await ensure_image(LANGUAGES)
    folder = tmp_path_factory.mktemp("images")
    names = [DEFAULT_IMAGES.format(language=language) for language in LANGUAGES]
    await asyncio.to_thread(docker, "save", f"--output={folder}/languages.tar", *names)
    return folder


@pytest.fixture(scope="module")
def engine_volume() -> Iterator[str]:
    """Engine data that the containers of one module share, one after the other."""
    name = docker("volume", "create", f"qlp-test-{uuid4()}")
    yield name
    docker("volume", "rm", name)


@pytest_asyncio.fixture(loop_scope="session")
async def host_container(
    needs_root: None, saved_images: Path, engine_volume: str
) -> AsyncIterator[StartContainer]:
    """Starts containers; they end with the test."""
    image = await asyncio.to_thread(build)
    started = []

    def start(connection: str, *options: str, **settings: str) -> HostContainer:
        container = HostContainer(
            image, connection, saved_images, engine_volume, *options, **settings
        )
        started.append(container)
        return container

    yield start
    for container in started:
        docker("rm", "--force", "--volumes", container.id)
