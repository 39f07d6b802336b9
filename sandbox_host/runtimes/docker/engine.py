"""The engine calls that boxes need, each in a thread and with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
import docker.errors
import docker.types
import requests

from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.containers.engine import Ended, EngineFacts, ImageMissing
from sandbox_host.runtimes.containers.plan import Plan
from sandbox_host.runtimes.containers.stream import Attached
from sandbox_host.runtimes.docker.settings import HOST_LABEL, container_settings

log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: Seconds an engine call may take; the HTTP client's own timeout is a little longer.
_CALL_SECONDS = 20.0
_THREADS = 32


class DockerEngine:
    """A connection to the engine that ``DOCKER_HOST`` names, by default the local socket."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._client: docker.DockerClient | None = None

    async def call(
        self, purpose: str, work: Callable[[docker.APIClient], _T], seconds: float = _CALL_SECONDS
    ) -> _T:
        """Run ``work`` with the low-level client in a thread; ``purpose`` is for error messages.

        Raises:
            RuntimeFailure: the engine refused, could not be reached, or took too long.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._threads, lambda: work(self._api()))
        except TimeoutError:
            raise RuntimeFailure(f"{purpose}: no answer in {seconds:.0f} s") from None
        except docker.errors.ImageNotFound as error:
            raise ImageMissing(str(error.explanation)) from None
        except docker.errors.APIError as error:
            raise RuntimeFailure(f"{purpose}: {error.explanation or error}") from None
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise RuntimeFailure(f"{purpose}: {_root_cause(error)}") from None

    def _api(self) -> Any:  # noqa: ANN401 - docker-py is untyped
        if self._client is None:
            self._client = docker.from_env(timeout=int(_CALL_SECONDS) + 5)
        return self._client.api

    async def facts(self) -> EngineFacts:
        """Ask the engine about itself."""
        info = await self.call("ask the engine", lambda api: (api.info(), api.base_url))
        answer, url = info
        options = " ".join(answer.get("SecurityOptions") or [])
        return EngineFacts(
            version=str(answer.get("ServerVersion", "?")),
            seccomp="name=seccomp" in options,
            apparmor="name=apparmor" in options,
            cgroup_driver=str(answer.get("CgroupDriver", "")),
            local=url.startswith("http+docker://"),
            runtimes=tuple(answer.get("Runtimes") or ()),
            first_uid=_first_uid(options, str(answer.get("DockerRootDir", ""))),
        )

    async def image_id(self, image: str) -> str:
        """The image's digest.

        Raises:
            ImageMissing: the engine does not have it.
        """
        found = await self.call("look for the image", lambda api: api.inspect_image(image))
        return str(found["Id"])

    async def create(self, plan: Plan) -> str:
        """See `Engine.create`."""
        settings = container_settings(plan)
        plain = {key: settings[key] for key in settings.keys() - {"host_config", "ulimits"}}
        limits = [
            docker.types.Ulimit(name=name, soft=value, hard=value)
            for name, value in settings["ulimits"].items()
        ]

        def work(api: Any) -> str:  # noqa: ANN401
            config = api.create_host_config(**settings["host_config"], ulimits=limits)
            return str(api.create_container(**plain, host_config=config)["Id"])

        return await self.call("create the box", work)

    async def attach(self, container: str) -> Attached:
        """See `Engine.attach`."""

        def work(api: Any) -> socket.socket:  # noqa: ANN401
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            opened = api.attach_socket(container, params=params)
            # docker-py returns a file that wraps the socket; our own descriptor outlives it. The
            # response is closed rather than the file, or its finalizer would fail.
            own = socket.socket(fileno=socket.dup(opened.fileno()))
            opened._response.close()
            own.setblocking(False)
            return own

        return Attached(await self.call("attach to the box", work), {})

    async def start(self, container: str) -> None:
        """Start a container."""
        await self.call("start the box", lambda api: api.start(container))

    async def kill(self, container: str) -> None:
        """Kill a container; one that has ended already is no error."""
        with contextlib.suppress(RuntimeFailure):
            await self.call("kill the box", lambda api: api.kill(container))

    async def ended(self, container: str) -> Ended:
        """Wait until a container has ended."""

        def work(api: Any) -> Ended:  # noqa: ANN401
            api.wait(container, timeout=_CALL_SECONDS)
            state = api.inspect_container(container)["State"]
            return Ended(int(state["ExitCode"]), bool(state.get("OOMKilled")))

        return await self.call("wait for the box's end", work)

    async def was_killed(self, container: str) -> bool:
        """Whether somebody has told this engine to kill a container that has just ended."""

        def work(api: Any) -> bool:  # noqa: ANN401
            # The engine records the event only when the container has ended.
            until = int(time.time()) + 1
            wanted = {"container": container, "event": "kill"}
            return any(True for _ in api.events(since=0, until=until, filters=wanted))

        return await self.call("ask for the box's events", work)

    async def remove(self, container: str) -> None:
        """Delete a container, running or not; one that is gone already is no error.

        Raises:
            RuntimeFailure: the engine did not delete it; the reaper will.
        """

        def work(api: Any) -> None:  # noqa: ANN401
            with contextlib.suppress(docker.errors.NotFound):
                api.remove_container(container, force=True, v=True)

        await self.call("remove the box", work)

    async def boxes(self) -> dict[str, str]:
        """The boxes of all hosts: container ID to the value of its host label."""
        found = await self.call(
            "list boxes", lambda api: api.containers(all=True, filters={"label": HOST_LABEL})
        )
        return {entry["Id"]: entry["Labels"][HOST_LABEL] for entry in found}

    def close(self) -> None:
        """Close the connection; calls in progress end by their own timeouts."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self._threads.shutdown(wait=False, cancel_futures=True)


def _first_uid(options: str, data_root: str) -> int:
    """See `EngineFacts`; with remapped users the engine's data root is ``…/<uid>.<gid>``."""
    uid = data_root.rpartition("/")[2].partition(".")[0]
    return int(uid) if "name=userns" in options and uid.isdecimal() else 0


def _root_cause(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}"
