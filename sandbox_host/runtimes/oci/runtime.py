"""The oci runtime: containers that this host makes itself, without an engine in the way."""

from __future__ import annotations

from sandbox_host.runtimes.containers.runtime import ContainerRuntime
from sandbox_host.runtimes.oci.engine import OciEngine
from sandbox_host.settings import DEFAULT_IMAGES


class OciRuntime(ContainerRuntime):
    """See the module; satisfies `sandbox_host.runtimes.base.Pooled`."""

    def __init__(
        self,
        images: str = DEFAULT_IMAGES,
        *,
        engine_runtime: str | None = None,
        pool_memory_bytes: int = 0,
    ) -> None:
        """See `ContainerRuntime`.

        Args:
            images: unpacked where a Docker engine has them.
            engine_runtime: the program to use, such as ``runsc``; None: crun where there is one,
                else runc.
            pool_memory_bytes: for all waiting boxes; 0 keeps none waiting.
        """
        super().__init__(
            *("oci", OciEngine(engine_runtime), images),
            engine_runtime=engine_runtime,
            pool_memory_bytes=pool_memory_bytes,
        )
