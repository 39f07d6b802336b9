"""What makes containers: the interface of engines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.containers.plan import Plan
from sandbox_host.runtimes.containers.stream import Sink


class ImageMissing(RuntimeFailure):
    """The engine answers, but does not have the image."""


@dataclass(frozen=True)
class EngineFacts:
    """What an engine reports about itself.

    Attributes:
        version: the engine's version.
        seccomp: it applies seccomp profiles.
        apparmor: it confines containers with AppArmor.
        cgroup_driver: ``cgroupfs`` or ``systemd``.
        local: it runs on this machine.
        runtimes: names of its OCI runtimes.
        first_uid: the user ID of the containers' root on this host; 0 unless users are remapped.
    """

    version: str
    seccomp: bool
    apparmor: bool
    cgroup_driver: str
    local: bool
    runtimes: tuple[str, ...]
    first_uid: int


@dataclass(frozen=True)
class Ended:
    """How a container ended: its exit status, and whether the engine saw an OOM kill."""

    status: int
    oom: bool


class Stream(Protocol):
    """A container's stdio, read until the container's end.

    Attributes:
        ended: done when its output has ended, whoever ended it.
    """

    ended: asyncio.Task[None]

    def silent_seconds(self) -> float:
        """How long ago the output ended; 0 while it has not."""

    def direct(self, sinks: dict[int, Sink]) -> None:
        """Set what takes the bytes of stdout (1) and of stderr (2)."""

    async def send(self, data: bytes) -> None:
        """Write to the container's stdin.

        Raises:
            OSError: nobody reads it any more.
        """

    async def close(self) -> None:
        """Close the stream; the agent ends when its stdin does."""


class Engine(Protocol):
    """Makes, starts and removes containers.

    Each call but `close` raises RuntimeFailure if the engine refuses, cannot be reached, or takes
    too long.
    """

    async def facts(self) -> EngineFacts:
        """Ask the engine about itself."""

    async def image_id(self, image: str) -> str:
        """The image's digest.

        Raises:
            ImageMissing: the engine does not have it.
        """

    async def create(self, plan: Plan) -> str:
        """Create a container; its ID."""

    async def attach(self, container: str) -> Stream:
        """Open a container's stdio; call it before `start`."""

    async def start(self, container: str) -> None:
        """Start a container."""

    async def kill(self, container: str) -> None:
        """Kill a container; one that has ended already is no error."""

    async def ended(self, container: str) -> Ended:
        """Wait until a container has ended."""

    async def was_killed(self, container: str) -> bool:
        """Whether somebody has told this engine to kill a container that has just ended."""

    async def remove(self, container: str) -> None:
        """Delete a container, running or not; one that is gone already is no error."""

    async def boxes(self) -> dict[str, str]:
        """The boxes of all hosts: container ID to the name of the host process."""

    def close(self) -> None:
        """Release the connection; calls in progress end by their own timeouts."""
