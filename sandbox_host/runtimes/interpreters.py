"""Finds interpreters, for runtimes whose programs see this machine's own files."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from domain.contracts.languages import LANGUAGES
from sandbox_host.run.job import InvalidJob, PreparedJob
from sandbox_host.runtimes.base import RuntimeFailure

_SYSTEM_PATH = "/usr/bin:/usr/local/bin:/bin"


@dataclass(frozen=True)
class Interpreter:
    """An interpreter's path in a box, and the folder that it needs there besides ``/usr``."""

    path: str
    bind: str | None = None


def find_interpreters() -> dict[str, Interpreter]:
    """The interpreters by language: the system's own, else those on this host's ``PATH``.

    Raises:
        RuntimeFailure: there is no Python that boxes' users can execute.
    """
    found = {}
    for language in LANGUAGES.values():
        interpreter = _find(language.interpreter)
        if interpreter is not None:
            found[language.name] = interpreter
    if "python" not in found:
        found["python"] = _own_python()
    return found


def _find(command: str) -> Interpreter | None:
    for search in (_SYSTEM_PATH, os.environ.get("PATH", os.defpath)):
        path = shutil.which(command, path=search)
        if path is None:
            continue
        resolved = Path(path).resolve()
        if not _reachable(resolved):
            continue
        if resolved.is_relative_to("/usr"):
            return Interpreter(path if Path(path).is_relative_to("/usr") else str(resolved))
        # As in ~/.nvm/versions/node/v22/bin/node, where libraries lie beside bin.
        folder = resolved.parent
        return Interpreter(str(resolved), str(folder.parent if folder.name == "bin" else folder))
    return None


def _own_python() -> Interpreter:
    prefix = Path(sys.base_prefix)
    python = prefix / "bin" / "python3"
    if not _reachable(python):
        raise RuntimeFailure(f"no /usr/bin/python3, and {prefix} is not readable by other users")
    return Interpreter(str(python), str(prefix))


def _reachable(path: Path) -> bool:
    """Whether a box's user can execute ``path``; if this host is root, that is another user."""
    if os.geteuid() != 0:
        return os.access(path, os.R_OK | os.X_OK)
    needed = stat.S_IROTH | stat.S_IXOTH
    return path.stat().st_mode & needed == needed and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in path.parents
    )


def command_of(job: PreparedJob, interpreters: dict[str, Interpreter], workspace: str) -> list[str]:
    """The command that executes ``job``.

    Raises:
        InvalidJob: there is no interpreter for its language.
    """
    interpreter = interpreters.get(job.job.language)
    if interpreter is None:
        raise InvalidJob(
            f"language: {job.job.language!r} cannot run here, only {', '.join(interpreters)};"
            f" install {LANGUAGES[job.job.language].interpreter} on the sandbox host"
            " where every user may execute it, or use the docker runtime"
        )
    return [interpreter.path, *job.command(workspace)[1:]]
