"""The state of the container's own engine: written by its supervisor, shown in ``/health``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sandbox_host.linux.folders import make_file, make_folder

State = Literal["starting", "running", "failed", "not_privileged"]

#: Environment variable with the file's path; the supervisor sets it for the host.
VARIABLE = "QLP_SANDBOX_ENGINE_STATUS"


@dataclass(frozen=True)
class EngineStatus:
    """The state of a Docker engine that runs beside the host, in the same container.

    Attributes:
        reason: why it does not run; empty while it does.
        fix: what to do about it.
        restarts: how often it has been restarted.
        last_line: the last line it wrote.
    """

    state: State
    reason: str = ""
    fix: str = ""
    restarts: int = 0
    last_line: str = ""

    def write(self, path: Path) -> None:
        """Replace the file at ``path`` atomically."""
        make_folder(path.parent, 0o755, exist_ok=True)
        new = path.with_suffix(".new")
        make_file(new, json.dumps(asdict(self)).encode(), 0o644)
        new.replace(path)

    @classmethod
    def read(cls) -> EngineStatus | None:
        """The status last written; None if this host has no engine of its own."""
        path = os.environ.get(VARIABLE)
        if not path:
            return None
        try:
            return cls(**json.loads(Path(path).read_text()))
        except FileNotFoundError:
            return cls("starting", "the engine has not been started yet")
