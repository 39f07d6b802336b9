"""Brings roots into the local Docker engine as images that know their recipe."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from sandbox_host.images.debian import BuildError, run

#: Label of an image: the digest of what it was made from.
RECIPE_LABEL = "qlp.recipe"


def recipe(parts: Iterable[str], files: Iterable[Path] = ()) -> str:
    """Digest of everything that an image is made from, on this kind of machine."""
    told = sha256("\0".join([platform.machine(), *parts]).encode())
    for path in files:
        told.update(b"\0" + path.read_bytes())
    return told.hexdigest()


def recipe_of(image: str) -> str | None:
    """The recipe that ``image`` was made by; None where it is missing or was made otherwise.

    Raises:
        BuildError: there is no engine.
    """
    run(["docker", "version", "--format", "{{.Server.Version}}"], "ask the Docker engine", 30)
    try:
        found = run(["docker", "image", "inspect", image], "look for the image", 30)
    except BuildError:
        return None
    labels = json.loads(found)[0]["Config"].get("Labels") or {}
    return labels.get(RECIPE_LABEL)


def identity_of(image: str) -> str | None:
    """The image's id; None where there is none."""
    try:
        return run(["docker", "image", "inspect", "-f", "{{.Id}}", image], "look", 30).strip()
    except BuildError:
        return None


def discard(identity: str | None) -> None:
    """Delete an image that a newer one took the last name from; one that boxes use stays."""
    if identity is None:
        return
    with contextlib.suppress(BuildError):
        names = run(["docker", "image", "inspect", "-f", "{{.RepoTags}}", identity], "look", 30)
        if names.strip() == "[]":
            run(["docker", "image", "rm", identity], "delete the older image", 60)


def import_root(tar: Path, image: str, made_by: str, changes: Iterable[str]) -> str:
    """Make ``image`` of a root; its id (``sha256:…``).

    Args:
        tar: of the root.
        image: name and tag.
        made_by: see `recipe`.
        changes: instructions of a Dockerfile, such as ``USER 1000``.

    Raises:
        BuildError: the engine refused.
    """
    options = [f"LABEL {RECIPE_LABEL}={made_by}", *changes]
    command = ["docker", "import", *(f"--change={change}" for change in options), str(tar), image]
    return run(command, "import the root into the Docker engine", 600).strip()
