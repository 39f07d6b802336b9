"""Root file systems of images, unpacked once: a folder for each image, by its digest."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sandbox_host.linux.folders import make_folder
from sandbox_host.runtimes.base import RuntimeFailure
from sandbox_host.runtimes.containers.engine import ImageMissing
from sandbox_host.runtimes.docker.engine import DockerEngine
from sandbox_host.runtimes.oci.spec import MOUNT_POINTS

#: Contains a folder for each image, and a file for each image's name with its digest.
ROOTS = Path("/var/lib/qlp-sandbox/roots")

#: Begins the name of a folder into which an image is being unpacked.
_PARTIAL = "partial-"

#: Seconds that unpacking an image may take.
_SECONDS = 600


class Roots:
    """Unpacks images that a Docker engine has; what is unpacked needs the engine no more."""

    def __init__(self, folder: Path = ROOTS) -> None:
        self._folder = folder
        self._engine = DockerEngine()

    def path(self, image_id: str) -> Path:
        """Where an image's root file system is."""
        return self._folder / image_id.removeprefix("sha256:")

    async def image_id(self, image: str) -> str:
        """The digest of an image that is unpacked; without an engine, what was unpacked last.

        Raises:
            ImageMissing: neither the engine nor this host has it.
            RuntimeFailure: it cannot be unpacked.
        """
        name = self._folder / f"{quote(image, safe='')}.name"
        try:
            image_id = await self._engine.image_id(image)
        except ImageMissing:
            raise
        except RuntimeFailure as error:  # there is no engine
            with contextlib.suppress(OSError):
                known = name.read_text()
                if self.path(known).is_dir():
                    return known
            raise ImageMissing(f"{image} is not unpacked here, and {error}") from None
        if not self.path(image_id).is_dir():
            await self._engine.call(
                "unpack the image", lambda api: self._unpack(api, image_id), _SECONDS
            )
        name.write_text(image_id)
        return image_id

    def _unpack(self, api: Any, image_id: str) -> None:  # noqa: ANN401 - docker-py is untyped
        for folder in (self._folder.parent, self._folder):
            make_folder(folder, 0o711, exist_ok=True)
        container = api.create_container(image_id, command=["true"])["Id"]
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._folder))
        try:
            command = ["tar", "--extract", "--numeric-owner", "--preserve-permissions"]
            with subprocess.Popen(
                [*command, "--directory", str(partial)], stdin=subprocess.PIPE
            ) as tar:
                assert tar.stdin is not None
                for chunk in api.export(container):
                    tar.stdin.write(chunk)
            if tar.returncode != 0:
                raise OSError(f"tar ended with {tar.returncode}")
            (partial / ".dockerenv").unlink(missing_ok=True)
            for point in MOUNT_POINTS:
                make_folder(partial / point, 0o755, exist_ok=True)
            partial.chmod(0o755)
            with contextlib.suppress(FileExistsError):  # another host was faster
                partial.rename(self.path(image_id))
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            api.remove_container(container, force=True, v=True)

    def forget(self) -> None:
        """Delete what no image's name leads to any more; call it when there are no boxes."""
        used = {self.path(name.read_text()) for name in self._folder.glob("*.name")}
        for folder in self._folder.glob("*"):
            if not folder.is_dir() or folder in used:
                continue
            partial = folder.name.startswith(_PARTIAL)
            if not partial or time.time() - folder.stat().st_mtime > 2 * _SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Release the engine's connection."""
        self._engine.close()
