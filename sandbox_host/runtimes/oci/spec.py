"""The configuration of a box's container for an OCI runtime, as a Docker engine would write it.

https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from sandbox_host.runtimes.base import CPUS, MAX_OPEN_FILES, SHM_BYTES
from sandbox_host.runtimes.containers.plan import (
    AGENT_CAPABILITIES,
    APPARMOR_PROFILE,
    HOSTNAME,
    SECCOMP_PROFILE,
    Plan,
)

#: Folders that a root file system needs for what is mounted, and the file with the box's own name.
MOUNT_POINTS = ("proc", "dev", "sys", "in", "box", "out")
HOSTS = f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\t{HOSTNAME}\n"

_PERIOD_US = 100_000

#: By machine: its name in Docker's profile, and in the specification.
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}

#: What programs must not see, or not change, of the kernel's interfaces; as in Docker's defaults.
_MASKED = (
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/sys/firmware", "/sys/devices/virtual/powercap"),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_QUIET = ["nosuid", "noexec", "nodev"]


def spec_of(plan: Plan, container: str, root: Path, hosts: Path) -> dict[str, Any]:
    """The content of ``config.json``.

    Args:
        plan: what to make the container with; it has a workspace and a parent cgroup.
        container: its ID, the name of its own cgroup.
        root: the root file system of its image.
        hosts: its ``/etc/hosts``.
    """
    capabilities = [f"CAP_{name}" for name in AGENT_CAPABILITIES]
    return {
        "ociVersion": "1.0.2",
        "hostname": HOSTNAME,
        "root": {"path": str(root), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": plan.command(),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "rlimits": [
                {"type": f"RLIMIT_{name}", "soft": value, "hard": value}
                for name, value in (("CORE", 0), ("NOFILE", MAX_OPEN_FILES), ("MSGQUEUE", 0))
            ],
            **({"apparmorProfile": APPARMOR_PROFILE} if plan.apparmor else {}),
        },
        "mounts": _mounts(plan, hosts),
        "linux": {
            "namespaces": [
                {"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "cgroupsPath": f"{plan.cgroup_parent}/{container}",
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "memory": {"limit": plan.memory_bytes, "swap": plan.memory_bytes},
                "cpu": {"quota": int(CPUS * _PERIOD_US), "period": _PERIOD_US},
                "pids": {"limit": plan.processes},
            },
            # The network is the box's own: a loopback interface.
            "sysctl": {
                "net.ipv4.ip_unprivileged_port_start": "0",
                "net.ipv4.ping_group_range": "0 2147483647",
            },
            "maskedPaths": [*_MASKED],
            "readonlyPaths": [*_READ_ONLY],
            **({"seccomp": _seccomp()} if plan.seccomp else {}),
        },
    }


def _mounts(plan: Plan, hosts: Path) -> list[dict[str, Any]]:
    def mount(target: str, kind: str, *options: str, source: str | None = None) -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": source or kind, "options": options}

    binds = [] if plan.workspace is None else plan.workspace.mounts()
    return [
        mount("/proc", "proc", *_QUIET),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount(
            "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"
        ),
        mount("/dev/shm", "tmpfs", *_QUIET, "mode=1777", f"size={SHM_BYTES}", source="shm"),  # noqa: S108
        mount("/dev/mqueue", "mqueue", *_QUIET),
        mount("/sys", "sysfs", *_QUIET, "ro"),
        mount("/sys/fs/cgroup", "cgroup", *_QUIET, "relatime", "ro"),
        mount("/etc/hosts", "bind", "rbind", "rprivate", *_QUIET, "ro", source=str(hosts)),
        *(
            mount(
                *(each["Target"], "bind", "rbind", "rprivate"),
                *("nosuid", "nodev", "ro" if each["ReadOnly"] else "rw"),
                source=each["Source"],
            )
            for each in binds
        ),
    ]


def _seccomp() -> dict[str, Any]:
    """The profile of Docker's form in the form of the specification, for this architecture."""
    profile = json.loads(SECCOMP_PROFILE)
    ours, architecture = _ARCHITECTURES[platform.machine()]
    return {
        "defaultAction": profile["defaultAction"],
        "architectures": [architecture],
        "syscalls": [
            {name: value for name, value in rule.items() if name != "includes"}
            for rule in profile["syscalls"]
            if ours in rule.get("includes", {}).get("arches", [ours])
        ],
    }
