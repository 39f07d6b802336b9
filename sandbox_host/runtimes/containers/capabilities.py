"""What this host and its engine can offer for boxes, best first."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from sandbox_host.linux.cgroups.cgroups import open_tree
from sandbox_host.linux.cgroups.types import CgroupsUnavailable, CgroupTree
from sandbox_host.runtimes.containers.box import NO_OVERHEAD, Overhead
from sandbox_host.runtimes.containers.engine import EngineFacts
from sandbox_host.runtimes.containers.plan import APPARMOR_PROFILE

#: Why there are no artifacts if only the engine can access a box's writable space.
NOT_COLLECTED = "not collected: this host cannot mount where the engine sees it"

#: gVisor's kernel is a process in the box, so its threads and memory count as the box's. It needs
#: some hundred threads to start, so the limit on processes is not exact for the program alone.
#: Measured memory: 19 MB while it waits, 27 MB with a small Python program.
_GVISOR = Overhead(processes=1024, memory_bytes=64 * 1024**2)


@dataclass(frozen=True)
class HostCapabilities:
    """What boxes are made with.

    Attributes:
        facts: about the engine.
        tree: where boxes' cgroups are made; None if the engine enforces the limits.
        workspaces: this host mounts the boxes' writable space.
        pipes: programs write to pipes made by this host.
        engine_runtime: name of an OCI runtime of the engine; None for its default.
        overhead: that runtime's.
        drawback: why nothing better works here; empty if this is the best.
    """

    facts: EngineFacts
    tree: CgroupTree | None
    workspaces: bool
    pipes: bool
    engine_runtime: str | None = None
    overhead: Overhead = NO_OVERHEAD
    drawback: str = ""

    @property
    def adjustable(self) -> bool:
        """Whether a waiting box can be given any job's limits."""
        return self.tree is not None and self.workspaces

    @property
    def isolation(self) -> str:
        """See `sandbox_host.runtimes.base.Readiness`."""
        kernel = "a kernel of its own (gVisor)" if _is_gvisor(self.engine_runtime) else "namespaces"
        seccomp = "seccomp" if self.facts.seccomp else "no seccomp"
        apparmor = "AppArmor" if self.facts.apparmor else "no AppArmor"
        return f"a container: {kernel}, {seccomp}, {apparmor}, limits held by {self._limits}"

    @property
    def _limits(self) -> str:
        return self.tree.version if self.tree is not None else "the engine's cgroups"

    def details(self) -> dict[str, str]:
        """For ``/health``."""
        facts = self.facts
        counters = "counters read" if self.tree is not None else "counters not readable from here"
        lacking = {"means": f"second best: {self.drawback}"} if self.drawback else {}
        return {
            **lacking,
            "engine": facts.version,
            "engine_runtime": self.engine_runtime or "the engine's default",
            "limits": f"{self._limits} ({counters})",
            "seccomp": "on" if facts.seccomp else "off (the engine has no support)",
            "apparmor": f"on ({APPARMOR_PROFILE})"
            if facts.apparmor
            else "off (the engine has no support)",
            "users": f"remapped, root is {facts.first_uid}" if facts.first_uid else "not remapped",
            "quotas": "of a user per box",
            "artifacts": "collected from a tmpfs of this host's"
            if self.workspaces
            else NOT_COLLECTED,
            "output": "through this host's pipes" if self.pipes else "through the engine",
        }


def candidates(facts: EngineFacts, engine_runtime: str | None) -> list[HostCapabilities]:
    """The capabilities to try, best first; the last ones need nothing but the engine."""
    gvisor = _is_gvisor(engine_runtime)
    best = HostCapabilities(
        facts,
        tree_beside(facts),
        workspaces=True,
        pipes=True,
        engine_runtime=engine_runtime,
        overhead=_GVISOR if gvisor else NO_OVERHEAD,
    )
    ladder = [best, replace(best, pipes=False), replace(best, pipes=False, workspaces=False)]
    if not facts.local or os.geteuid() != 0:
        return ladder[2:]
    # gVisor does not let a box open the host's pipes.
    return ladder[1:] if gvisor else ladder


def tree_beside(facts: EngineFacts) -> CgroupTree | None:
    """The cgroups to put containers under; only with a local engine that uses cgroupfs."""
    if not facts.local or facts.cgroup_driver != "cgroupfs":
        return None
    try:
        return open_tree(at_root=True)
    except CgroupsUnavailable:
        return None


def _is_gvisor(engine_runtime: str | None) -> bool:
    return engine_runtime is not None and engine_runtime.startswith("runsc")
