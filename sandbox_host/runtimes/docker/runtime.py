"""The docker runtime: containers that a Docker engine makes, here or elsewhere."""

from __future__ import annotations

from sandbox_host.runtimes.containers.runtime import ContainerRuntime
from sandbox_host.runtimes.docker.engine import DockerEngine
from sandbox_host.settings import DEFAULT_IMAGES


class DockerRuntime(ContainerRuntime):
    """See the module; satisfies `sandbox_host.runtimes.base.Pooled`."""

    def __init__(
        self,
        images: str = DEFAULT_IMAGES,
        *,
        engine_runtime: str | None = None,
        pool_memory_bytes: int = 0,
    ) -> None:
        """See `ContainerRuntime`; the engine is the one that ``DOCKER_HOST`` names."""
        super().__init__(
            *("docker", DockerEngine(), images),
            engine_runtime=engine_runtime,
            pool_memory_bytes=pool_memory_bytes,
        )
