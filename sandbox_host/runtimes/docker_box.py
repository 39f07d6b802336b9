"""What a docker box looks like: the container's settings and the header its agent reads."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from sandbox_host.jobs import PreparedJob
from sandbox_host.runtimes.base import (
    BOX,
    BOX_UID,
    CPUS,
    ENVIRONMENT,
    MAX_INODES,
    MAX_OPEN_FILES,
    SHM_BYTES,
    TEMPORARY,
    WORKSPACE,
)

#: Label of every box; its value names the host process that made it.
HOST_LABEL = "qlp.sandbox.host"
RUN_LABEL = "qlp.sandbox.run"

#: Digits of the length that goes before the header; the agent's source knows the same number.
_LENGTH_DIGITS = 12

#: Seconds after the deadline when the agent ends the box by itself, should the host fail to.
_GRACE_SECONDS = 10.0

_AGENT = resources.files("sandbox_host.runtimes").joinpath("agent.py").read_text()

#: Docker's default profile as Debian ships it with engine 20.10.24 (Apache-2.0,
#: https://github.com/moby/moby/blob/v20.10.24/profiles/seccomp/default.json), reduced to amd64 and
#: arm64 and to what needs no capability, minus: ptrace and process_vm_* (reach other processes),
#: io_uring_* (bypasses the filter), mq_* (a writable queue outside the box's limits), memfd_secret,
#: file handles, fanotify, keyrings, and all socket families but UNIX, IPv4 and IPv6 (vsock reaches
#: the hypervisor); personality without the 32-bit personas.
SECCOMP_PROFILE = json.dumps(
    json.loads(
        resources.files("sandbox_host.runtimes").joinpath("docker_seccomp.json").read_text()
    ),
    separators=(",", ":"),
)


def container_settings(
    job: PreparedJob, image: str, host: str, *, seccomp: bool, cgroup_parent: str | None
) -> dict[str, Any]:
    """Arguments of docker-py's ``create_container`` besides ``host_config``'s, which are inside.

    Args:
        job: what the box is for.
        image: id of the image.
        host: this host process, for the label.
        seccomp: whether the engine applies profiles.
        cgroup_parent: absolute cgroup path that the engine is to put the container under.
    """
    limits = job.job.limits
    security = ["no-new-privileges:true"]
    if seccomp:
        security.append(f"seccomp={SECCOMP_PROFILE}")
    options = f"rw,exec,nosuid,nodev,mode=0755,uid={BOX_UID},gid={BOX_UID}"
    return {
        "image": image,
        "command": ["python3", "-I", "-S", "-c", _AGENT],
        "stdin_open": True,
        "user": f"{BOX_UID}:{BOX_UID}",
        "hostname": "sandbox",
        "network_disabled": True,
        "environment": {},
        "labels": {HOST_LABEL: host, RUN_LABEL: str(job.job.run_id)},
        "host_config": {
            "network_mode": "none",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": security,
            # The agent is one more process.
            "pids_limit": limits.processes + 1,
            "mem_limit": limits.memory_bytes,
            "memswap_limit": limits.memory_bytes,
            "nano_cpus": int(CPUS * 1e9),
            "ipc_mode": "private",
            "shm_size": SHM_BYTES,
            "tmpfs": {BOX: f"{options},size={limits.disk_bytes},nr_inodes={MAX_INODES}"},
            "log_config": {"Type": "none", "Config": {}},
            "cgroup_parent": cgroup_parent,
        },
        "ulimits": {"core": 0, "nofile": MAX_OPEN_FILES, "msgqueue": 0},
    }


def agent_header(job: PreparedJob) -> bytes:
    """What the agent reads from stdin: a length in digits, then JSON; bytes travel as latin-1."""
    header = {
        "workspace": WORKSPACE,
        "folders": [WORKSPACE, TEMPORARY],
        "files": {path: content.decode("latin-1") for path, content in job.files.items()},
        "stdin": job.stdin.decode("latin-1"),
        "command": job.command(WORKSPACE),
        "environment": ENVIRONMENT,
        "seconds": job.job.limits.wall_seconds + _GRACE_SECONDS,
    }
    body = json.dumps(header).encode()
    return f"{len(body):0{_LENGTH_DIGITS}d}".encode() + body
