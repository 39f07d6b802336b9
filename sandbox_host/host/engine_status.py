"""What the container's own engine is doing: written by its supervisor, read for ``/health``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sandbox_host.linux.folders import make_file, make_folder

State = Literal["starting", "running", "failed", "not_privileged"]

#: Names the file; set by the supervisor for the host that it starts.
VARIABLE = "QLP_SANDBOX_ENGINE_STATUS"


@dataclass(frozen=True)
class EngineStatus:
    """The state of a Docker engine that runs beside the host, in the same container.

    Attributes:
        reason: why it does not run; empty while it does.
        fix: what to do about it.
        restarts: how often it has been started again.
        last_line: the last thing it wrote.
    """

    state: State
    reason: str = ""
    fix: str = ""
    restarts: int = 0
    last_line: str = ""

    def write(self, path: Path) -> None:
        """Replace what ``path`` holds; a reader finds the old or the new, whole."""
        make_folder(path.parent, 0o755, exist_ok=True)
        new = path.with_suffix(".new")
        make_file(new, json.dumps(asdict(self)).encode(), 0o644)
        new.replace(path)

    @classmethod
    def read(cls) -> EngineStatus | None:
        """What the supervisor last wrote; None where this host has no engine of its own."""
        path = os.environ.get(VARIABLE)
        if not path:
            return None
        try:
            return cls(**json.loads(Path(path).read_text()))
        except FileNotFoundError:
            return cls("starting", "the engine has not been started yet")
