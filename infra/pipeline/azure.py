"""Calls of the Azure command line (``az``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from domain.contracts.redaction import remember
from infra.pipeline.client import PipelineError

_SWAP_SECONDS = 900.0
_CALL_SECONDS = 300.0

Kind = Literal["functionapp", "webapp"]


@dataclass(frozen=True, slots=True)
class Site:
    """A site with a deployment slot.

    Attributes:
        kind: the group of ``az`` commands for it.
        name: the site's name.
        slot: the slot with the new version.
    """

    kind: Kind
    name: str
    slot: str

    @classmethod
    def parse(cls, text: str) -> Site:
        """A site, written as ``functionapp:NAME:SLOT`` or ``webapp:NAME:SLOT``.

        Raises:
            ValueError: ``text`` has another form.
        """
        match text.split(":"):
            case [("functionapp" | "webapp") as kind, name, slot] if name and slot:
                return cls(kind, name, slot)
            case _:
                raise ValueError(f"{text!r}: give functionapp:NAME:SLOT or webapp:NAME:SLOT")


async def az(what: str, *arguments: str, seconds: float = _CALL_SECONDS) -> str:
    """Run ``az``; its output.

    Args:
        what: the purpose, for messages.
        arguments: for ``az``; never a secret, as other processes could read it.
        seconds: how long it may take.

    Raises:
        PipelineError: ``az`` is missing, failed, or took too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *("az", *arguments, "--only-show-errors"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise PipelineError("az: not found; install the Azure CLI") from None
    try:
        output, errors = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise PipelineError(
            f"{what}: no answer after {seconds:.0f} s; Azure may still do it, so check"
        ) from None
    if process.returncode:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"{what}: {last}")
    return output.decode()


async def swap(site: Site, group: str) -> None:
    """Swap the slot with production; the same call again swaps them back.

    Raises:
        PipelineError: see `az`.
    """
    await az(
        f"{site.name}: swap",
        *(site.kind, "deployment", "slot", "swap"),
        *("--resource-group", group, "--name", site.name),
        *("--slot", site.slot, "--target-slot", "production"),
        seconds=_SWAP_SECONDS,
    )


async def set_image(site: Site, group: str, image: str) -> None:
    """Make a web app's slot run ``image``, which is named by its digest.

    Raises:
        ValueError: it is named by a tag, which could be moved to another image.
        PipelineError: see `az`.
    """
    if "@sha256:" not in image:
        raise ValueError(f"{image!r}: name the image by its digest, NAME@sha256:…")
    await az(
        f"{site.name}: set the image",
        *("webapp", "config", "container", "set"),
        *("--resource-group", group, "--name", site.name, "--slot", site.slot),
        *("--container-image-name", image, "--output", "none"),
    )


async def read_secret(vault: str, name: str) -> str:
    """A secret of a Key Vault.

    Raises:
        PipelineError: see `az`.
    """
    value = await az(
        f"{vault}: read the secret {name}",
        *("keyvault", "secret", "show", "--vault-name", vault, "--name", name),
        *("--query", "value", "--output", "tsv"),
    )
    return value.strip()


async def database_token() -> str:
    """An access token that PostgreSQL takes as password of the identity that is signed in.

    Source: https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-configure-sign-in-azure-ad-authentication

    Raises:
        PipelineError: see `az`.
    """
    token = await az(
        "token for the database",
        *("account", "get-access-token", "--resource-type", "oss-rdbms"),
        *("--query", "accessToken", "--output", "tsv"),
    )
    remember(token)
    return token.strip()
