"""The settings of a container for a Docker engine."""

from __future__ import annotations

from typing import Any

from sandbox_host.run.job import MAX_INODES
from sandbox_host.runtimes.base import BOX, CPUS, MAX_OPEN_FILES, OUTPUT, SHM_BYTES
from sandbox_host.runtimes.containers.plan import (
    AGENT_CAPABILITIES,
    APPARMOR_PROFILE,
    HOSTNAME,
    SECCOMP_PROFILE,
    Plan,
)

#: Label of every box's container; its value names the host process that made it.
HOST_LABEL = "qlp.sandbox.host"


def container_settings(plan: Plan) -> dict[str, Any]:
    """Arguments for docker-py's ``create_container``; those of ``host_config`` are nested."""
    security = ["no-new-privileges:true"]
    if plan.seccomp:
        security.append(f"seccomp={SECCOMP_PROFILE}")
    if plan.apparmor:
        security.append(f"apparmor={APPARMOR_PROFILE}")
    return {
        "image": plan.image,
        "name": plan.name,
        "command": plan.command(),
        "stdin_open": True,
        "user": "0:0",
        "hostname": HOSTNAME,
        "environment": {},
        "labels": {HOST_LABEL: plan.host},
        "healthcheck": {"test": ["NONE"]},
        "host_config": {
            "runtime": plan.engine_runtime,
            "network_mode": "none",
            "extra_hosts": {HOSTNAME: "127.0.0.1"},
            "read_only": True,
            "cap_drop": ["ALL"],
            "cap_add": AGENT_CAPABILITIES,
            "security_opt": security,
            "pids_limit": plan.processes,
            "mem_limit": plan.memory_bytes,
            "memswap_limit": plan.memory_bytes,
            "nano_cpus": int(CPUS * 1e9),
            "ipc_mode": "private",
            "shm_size": SHM_BYTES,
            **_writable(plan),
            "log_config": {"Type": "none", "Config": {}},
            "cgroup_parent": plan.cgroup_parent,
        },
        "ulimits": {"core": 0, "nofile": MAX_OPEN_FILES, "msgqueue": 0},
    }


def _writable(plan: Plan) -> dict[str, Any]:
    if plan.workspace is not None:
        return {"mounts": plan.workspace.mounts()}
    options = f"rw,exec,nosuid,nodev,mode=0755,uid={plan.uid},gid={plan.uid}"
    size = f"size={plan.limits.disk_bytes},nr_inodes={MAX_INODES}"
    return {"tmpfs": {BOX: f"{options},{size}", OUTPUT: f"{options},{size}"}}
