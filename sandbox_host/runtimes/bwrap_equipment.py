"""What a machine has for bubblewrap boxes, found once before the first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox_host.runtimes import bwrap_box, seccomp
from sandbox_host.runtimes.bwrap_binary import Bwrap, Identity, find_bwrap
from sandbox_host.runtimes.cgroup_types import CgroupsUnavailable, CgroupTree
from sandbox_host.runtimes.cgroups import open_tree

#: User ids of a root host's boxes are this and up, one per box that runs.
FIRST_BOX_UID = 60_000


@dataclass(frozen=True)
class Equipment:
    """Everything a run needs besides the job.

    Attributes:
        root: the arguments that lay out the box's root.
        filter: the seccomp program; None for an architecture without one.
        tree: where cgroups are made; None where limits are held without.
        limits_mode: how limits are held, and why so, for a person.
    """

    bwrap: Bwrap
    interpreter: bwrap_box.Interpreter
    root: list[str]
    filter: bytes | None
    tree: CgroupTree | None
    limits_mode: str

    def details(self) -> dict[str, str]:
        """Facts for ``/health``."""
        return {
            "bwrap": f"{self.bwrap.version}, {self.bwrap.origin}",
            "python": self.interpreter.path,
            "limits": self.limits_mode,
            "seccomp": "on" if self.filter else "off (no table for this architecture)",
            "apparmor": _apparmor(),
            "user": "one per box" if os.geteuid() == 0 else "the host's own",
        }


def equip(use_cgroups: bool) -> Equipment:
    """Look for the tools.

    Raises:
        RuntimeFailure: bwrap or Python is missing, or out of the boxes' users' reach.
    """
    bwrap = find_bwrap(Identity(FIRST_BOX_UID if os.geteuid() == 0 else None))
    interpreter = bwrap_box.find_interpreter()
    tree, mode = None, "rlimits (cgroups switched off)"
    if use_cgroups:
        try:
            tree = open_tree()
            mode = tree.version
        except CgroupsUnavailable as reason:
            mode = f"rlimits (no cgroup: {reason})"
    return Equipment(
        bwrap=bwrap,
        interpreter=interpreter,
        root=bwrap_box.root_arguments(interpreter),
        filter=seccomp.bubblewrap_filter() if seccomp.supported() else None,
        tree=tree,
        limits_mode=mode,
    )


def _apparmor() -> str:
    try:
        enabled = Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        enabled = False
    return "kernel on, no profile for bubblewrap boxes" if enabled else "off (not in this kernel)"
