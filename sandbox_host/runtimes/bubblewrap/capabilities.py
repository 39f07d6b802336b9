"""Finds what this machine offers for bubblewrap boxes."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox_host.linux import seccomp
from sandbox_host.linux.box_users import BUBBLEWRAP_USERS
from sandbox_host.linux.cgroups.cgroups import open_tree
from sandbox_host.linux.cgroups.types import CgroupsUnavailable, CgroupTree
from sandbox_host.linux.cpus import ProgramCpus, may_bind_others
from sandbox_host.linux.processes import host_tag, tells_returncodes
from sandbox_host.linux.quotas import Quotas
from sandbox_host.runtimes.bubblewrap import command_line
from sandbox_host.runtimes.bubblewrap.binary import Bwrap, Identity, find_bwrap
from sandbox_host.runtimes.bubblewrap.inputs import InputFolders
from sandbox_host.runtimes.bubblewrap.keeper import Keeper
from sandbox_host.runtimes.interpreters import Interpreter, find_interpreters

_AS_SHELLS_DO = "as bwrap says it: codes from 129 to 192 read as signals (Linux before 6.15)"

#: Numbers this process's instances, so that closing one leaves the boxes of others alone.
_serial = itertools.count()


@dataclass(frozen=True)
class HostCapabilities:
    """Everything a run needs besides the job.

    Attributes:
        interpreters: by language; after the canary, only those that run.
        root: ``bwrap`` arguments for the box's root.
        filter: the seccomp program; None on an architecture without one.
        tree: where cgroups are made; None if limits are enforced without cgroups.
        cpus: assigns a CPU to each program; None if cgroups limit CPU, or nothing can.
        inputs: the folders that boxes see as ``/in``.
        keeper: kills the boxes when this host is gone.
        limits_mode: how limits are enforced, and why, for a person.
        quotas: for boxes that share the host's user, or whose memory no cgroup counts; else None.
    """

    bwrap: Bwrap
    interpreters: dict[str, Interpreter]
    root: list[str]
    filter: bytes | None
    tree: CgroupTree | None
    cpus: ProgramCpus | None
    limits_mode: str
    quotas: Quotas | None
    inputs: InputFolders
    keeper: Keeper

    def close(self) -> None:
        """Release everything."""
        self.keeper.close()
        self.bwrap.close()
        if self.tree is not None:
            self.tree.close()

    def with_languages(self, ready: tuple[str, ...]) -> HostCapabilities:
        """The same, with the interpreters of these languages only."""
        return replace(self, interpreters={name: self.interpreters[name] for name in ready})

    def details(self) -> dict[str, str]:
        """Facts for ``/health``."""
        return {
            "bwrap": f"{self.bwrap.version}, {self.bwrap.origin}",
            "languages": ", ".join(self.interpreters),
            "python": self.interpreters["python"].path,
            "limits": self.limits_mode,
            "cpu": self._cpu(),
            "seccomp": "on" if self.filter else "off (no table for this architecture)",
            "apparmor": _apparmor(),
            "exit status": "the kernel's" if tells_returncodes() else _AS_SHELLS_DO,
            "artifacts": "collected from the box's own space",
            "inodes": "held by the kernel" if os.geteuid() == 0 else "held by sampling",
            "refused calls": "not counted (bwrap loads filters without a log)",
            "user": "one per box" if os.geteuid() == 0 else "the host's own",
            "quotas": "of a user per box" if self.quotas is None else self.quotas.description(),
        }

    def _cpu(self) -> str:
        if self.tree is not None:
            return "held by the cgroup"
        return (
            "not held (CAP_SYS_NICE is missing)" if self.cpus is None else self.cpus.description()
        )


def find_capabilities(use_cgroups: bool) -> HostCapabilities:
    """Find the tools.

    Raises:
        RuntimeFailure: bwrap or Python is missing, or boxes' users cannot execute it; or there is
            no folder for the jobs' files.
    """
    with contextlib.ExitStack() as on_failure:
        identity = Identity(BUBBLEWRAP_USERS.first if os.geteuid() == 0 else None)
        bwrap = find_bwrap(identity)
        on_failure.callback(bwrap.close)
        interpreters = find_interpreters()
        inputs = InputFolders()
        on_failure.callback(shutil.rmtree, inputs.path, ignore_errors=True)
        tree, mode = None, "rlimits (cgroups switched off)"
        if use_cgroups:
            try:
                tree = open_tree()
                on_failure.callback(tree.close)
                mode = tree.version
            except CgroupsUnavailable as reason:
                mode = f"rlimits (no cgroup: {reason})"
        cpus = ProgramCpus() if tree is None and (os.geteuid() != 0 or may_bind_others()) else None
        name = f"{host_tag()}-{next(_serial)}"
        quotas = None if tree is not None and os.geteuid() == 0 else Quotas(identity.command)
        filter_ = None
        if seccomp.supported():
            watches = tree is not None or (quotas is not None and quotas.held)
            filter_ = seccomp.bubblewrap_filter(bound=cpus is not None, inotify=watches)
        found = HostCapabilities(
            bwrap=bwrap,
            interpreters=interpreters,
            root=command_line.root_arguments(interpreters.values()),
            filter=filter_,
            tree=tree,
            cpus=cpus,
            limits_mode=mode,
            quotas=quotas,
            inputs=inputs,
            keeper=Keeper(name, interpreters["python"].path, inputs.path),
        )
        on_failure.pop_all()
    return found


def _apparmor() -> str:
    try:
        enabled = Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        enabled = False
    return "kernel on, no profile for bubblewrap boxes" if enabled else "off (not in this kernel)"
