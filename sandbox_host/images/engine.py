"""Imports roots into the local Docker engine, as images labelled with their recipe."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from sandbox_host.images.debian import BuildError, run

#: Label of an image; its value is the digest of what the image was made from.
RECIPE_LABEL = "qlp.recipe"


def recipe(parts: Iterable[str], files: Iterable[Path] = ()) -> str:
    """Digest of everything an image is made from, the machine's architecture included."""
    digest = sha256("\0".join([platform.machine(), *parts]).encode())
    for path in files:
        digest.update(b"\0" + path.read_bytes())
    return digest.hexdigest()


def recipe_of(image: str) -> str | None:
    """The recipe in an image's label; None if there is no such image, or it has no label.

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
    """The image's ID; None if there is no such image."""
    try:
        return run(["docker", "image", "inspect", "-f", "{{.Id}}", image], "look", 30).strip()
    except BuildError:
        return None


def discard(identity: str | None) -> None:
    """Delete an image that has no name left, since a newer one took it; unless boxes use it."""
    if identity is None:
        return
    with contextlib.suppress(BuildError):
        names = run(["docker", "image", "inspect", "-f", "{{.RepoTags}}", identity], "look", 30)
        if names.strip() == "[]":
            run(["docker", "image", "rm", identity], "delete the older image", 60)


def import_root(tar: Path, image: str, made_by: str, changes: Iterable[str]) -> str:
    """Import a root as ``image``; its ID (``sha256:…``).

    Args:
        tar: the root's archive.
        image: name and tag.
        made_by: its recipe's digest, see `recipe`.
        changes: Dockerfile instructions, such as ``USER 1000``.

    Raises:
        BuildError: the engine refused.
    """
    options = [f"LABEL {RECIPE_LABEL}={made_by}", *changes]
    command = ["docker", "import", *(f"--change={change}" for change in options), str(tar), image]
    return run(command, "import the root into the Docker engine", 600).strip()
