"""Provides a new engine with the languages' images, from tar files or a registry."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import requests

from domain.contracts.languages import LANGUAGES
from sandbox_host.dind.registry import RegistryRefused, credentials, registry_of

log = logging.getLogger(__name__)

#: Seconds that the engine may take for one image.
_SECONDS = 600

_ID = re.compile(r"[0-9a-f]{64}")


_FIX = (
    "put the output of `docker save` into /images as *.tar, or set QLP_SANDBOX_IMAGES to images in"
    " a registry that this host's identity may pull from"
)


class Unprepared(Exception):
    """The engine runs but cannot take jobs yet; the message says why.

    Args:
        reason: what is missing.
        fix: what to do about it.
    """

    def __init__(self, reason: str, fix: str = _FIX) -> None:
        super().__init__(reason)
        self.fix = fix


def provide(pattern: str, tars: Path) -> None:
    """Load or pull the image of each language for which there is one.

    Args:
        pattern: the images' name, with ``{language}`` in it; pulled if it names a registry.
        tars: folder with files written by ``docker save``.

    Raises:
        Unprepared: there is no image for any language, or the engine refused.
    """
    try:
        url = "unix:///var/run/docker.sock"
        with contextlib.closing(docker.APIClient(base_url=url, timeout=_SECONDS)) as client:
            names, missing = _provide(client, pattern, tars)
    except (docker.errors.DockerException, requests.RequestException, RegistryRefused) as error:
        raise Unprepared(f"images cannot be loaded: {error}") from error
    if len(missing) == len(names):
        raise Unprepared(f"the engine has no image {pattern}")
    if missing:
        log.warning("no image %s: these languages are not offered", ", ".join(missing))


def _provide(client: docker.APIClient, pattern: str, tars: Path) -> tuple[list[str], list[str]]:
    """Load and pull; the names of all images, and of those still missing."""
    for tar in sorted(tars.glob("*.tar")):
        _load(client, tar)
    names = [pattern.format(language=language) for language in LANGUAGES]
    missing = [name for name in names if _id(client, name) is None]
    registry = registry_of(pattern)
    if registry is not None and missing:
        _pull(client, registry, missing)
        missing = [name for name in missing if _id(client, name) is None]
    return names, missing


def _load(client: docker.APIClient, tar: Path) -> None:
    if all(_id(client, name) == identity for name, identity in contents(tar)):
        return
    log.info("loading %s", tar.name)
    with tar.open("rb") as file:
        for line in client.load_image(file, quiet=True) or ():
            if "error" in line:
                raise Unprepared(f"{tar.name} cannot be loaded: {line['error']}")


def contents(tar: Path) -> Iterator[tuple[str, str]]:
    """Names and IDs of the images in a file written by ``docker save``."""
    try:
        with tarfile.open(tar) as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            listed = json.load(manifest)
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise Unprepared(f"{tar.name} was not written by docker save: {error}") from error
    for entry in listed:
        found = _ID.search(entry["Config"])
        for name in entry["RepoTags"] or ():
            yield name, f"sha256:{found.group() if found else ''}"


def _pull(client: docker.APIClient, registry: str, names: list[str]) -> None:
    login = credentials(registry)
    for name in names:
        log.info("pulling %s", name)
        try:
            client.pull(name, auth_config=login)
        except docker.errors.NotFound as error:
            log.warning("%s cannot be pulled: %s", name, error.explanation)


def _id(client: docker.APIClient, name: str) -> str | None:
    try:
        return str(client.inspect_image(name)["Id"])
    except docker.errors.ImageNotFound:
        return None
