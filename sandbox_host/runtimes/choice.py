"""Makes a runtime by its name, for settings and command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from sandbox_host.runtimes.base import Runtime
from sandbox_host.settings import DEFAULT_IMAGES, RuntimeName

RUNTIME_NAMES: tuple[RuntimeName, ...] = get_args(RuntimeName)


@dataclass(frozen=True)
class RuntimeOptions:
    """Options of the runtimes; see `sandbox_host.settings.Settings`.

    ``images`` may also be a plain name, the image for every language.
    """

    images: str = DEFAULT_IMAGES
    engine_runtime: str | None = None
    pool_memory_bytes: int = 0
    sessions_endpoint: str | None = None


def make_runtime(name: RuntimeName, options: RuntimeOptions) -> Runtime:
    """The runtime ``name``; nothing is probed yet.

    Only this runtime is imported, so that the others' libraries need not be installed.
    """
    if name == "docker":
        from sandbox_host.runtimes.docker.runtime import DockerRuntime

        return DockerRuntime(
            options.images,
            engine_runtime=options.engine_runtime,
            pool_memory_bytes=options.pool_memory_bytes,
        )
    if name == "oci":
        from sandbox_host.runtimes.oci.runtime import OciRuntime

        return OciRuntime(
            options.images,
            engine_runtime=options.engine_runtime,
            pool_memory_bytes=options.pool_memory_bytes,
        )
    if name == "sessions":
        from sandbox_host.runtimes.sessions.api import SessionPool
        from sandbox_host.runtimes.sessions.runtime import SessionsRuntime

        if options.sessions_endpoint is None:
            raise ValueError("the sessions runtime needs an endpoint")
        return SessionsRuntime(SessionPool(options.sessions_endpoint))
    if name == "confined":
        from sandbox_host.runtimes.confined.runtime import ConfinedRuntime

        return ConfinedRuntime()
    from sandbox_host.runtimes.bubblewrap.runtime import BubblewrapRuntime

    return BubblewrapRuntime(pool_memory_bytes=options.pool_memory_bytes)
