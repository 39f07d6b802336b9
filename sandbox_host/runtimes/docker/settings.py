"""How a docker box is set up: the container's settings and the header its agent reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from domain.contracts.job import JobLimits
from sandbox_host.run.job import MAX_INODES, PreparedJob
from sandbox_host.runtimes.base import (
    BOX,
    CPUS,
    MAX_OPEN_FILES,
    OUTPUT,
    SHM_BYTES,
    TEMPORARY,
    WORKSPACE,
    environment_of,
)
from sandbox_host.runtimes.docker.workspace import PIPES, Workspace

#: Label of every box; its value names the host process that made it.
HOST_LABEL = "qlp.sandbox.host"

#: Digits of the length that goes before the header; the agent's source knows the same number.
_LENGTH_DIGITS = 12

#: Seconds after the deadline when the agent ends the box by itself, should the host fail to.
_GRACE_SECONDS = 10.0

#: The engine's own profile, which it loads into kernels that have AppArmor.
APPARMOR_PROFILE = "docker-default"

#: User of a box's first process. No program has it, in no box.
AGENT_UID = 65_533

#: What that process, which starts as the container's root, needs to make others of itself.
_AGENT_CAPABILITIES = ["CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID"]

_AGENT = resources.files("sandbox_host.runtimes.docker").joinpath("agent.py").read_text()

#: Docker's default profile as Debian ships it with engine 20.10.24 (Apache-2.0,
#: https://github.com/moby/moby/blob/v20.10.24/profiles/seccomp/default.json), reduced to amd64 and
#: arm64 and to what needs no capability, minus: ptrace and process_vm_* (reach other processes),
#: io_uring_* (bypasses the filter), mq_* (a writable queue outside the box's limits), memfd_secret,
#: file handles, fanotify, keyrings, io_setup (one quota for the whole machine), all socket families
#: but UNIX, IPv4 and IPv6 (vsock reaches the hypervisor; pairs of UNIX only, since naming a family
#: may load its module), and modify_ldt (16-bit code segments, home of many of the kernel's faults);
#: prlimit64 of the caller alone; personality without the 32-bit personas.
SECCOMP_PROFILE = json.dumps(
    json.loads(
        resources.files("sandbox_host.runtimes.docker").joinpath("seccomp.json").read_text()
    ),
    separators=(",", ":"),
)


@dataclass(frozen=True)
class Plan:
    """What one container is to be.

    Attributes:
        image: id of the image.
        name: of the container; no other has ever had it.
        host: this host process, for the label.
        uid: user and group of the program, as the container numbers them.
        limits: ceilings, where the job's own are held by the group above it, else the job's.
        seccomp, apparmor: whether the engine applies such profiles.
        engine_runtime: of the engine's OCI runtimes; None for its default.
        cgroup_parent: absolute cgroup path that the engine is to put the container under.
        workspace: its writable space; None to have the engine mount a tmpfs.
        extra_processes: beside the program's: the agent, and what a runtime needs for itself.
        extra_memory_bytes: that a runtime needs for itself.
    """

    image: str
    name: str
    host: str
    uid: int
    limits: JobLimits
    seccomp: bool
    apparmor: bool
    engine_runtime: str | None = None
    cgroup_parent: str | None = None
    workspace: Workspace | None = None
    extra_processes: int = 1
    extra_memory_bytes: int = 0


def container_settings(plan: Plan) -> dict[str, Any]:
    """Arguments of docker-py's ``create_container`` besides ``host_config``'s, which are inside."""
    security = ["no-new-privileges:true"]
    if plan.seccomp:
        security.append(f"seccomp={SECCOMP_PROFILE}")
    if plan.apparmor:
        security.append(f"apparmor={APPARMOR_PROFILE}")
    command = ["python3", "-I", "-S", "-c", _AGENT, f"{AGENT_UID}", f"{plan.uid}"]
    if plan.workspace is not None and plan.workspace.pipes:
        command.append(PIPES)
    memory = plan.limits.memory_bytes + plan.extra_memory_bytes
    return {
        "image": plan.image,
        "name": plan.name,
        "command": command,
        "stdin_open": True,
        "user": "0:0",
        "hostname": "sandbox",
        "network_disabled": True,
        "environment": {},
        "labels": {HOST_LABEL: plan.host},
        "healthcheck": {"test": ["NONE"]},
        "host_config": {
            "runtime": plan.engine_runtime,
            "network_mode": "none",
            "read_only": True,
            "cap_drop": ["ALL"],
            "cap_add": _AGENT_CAPABILITIES,
            "security_opt": security,
            "pids_limit": plan.limits.processes + plan.extra_processes,
            "mem_limit": memory,
            "memswap_limit": memory,
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


def agent_header(job: PreparedJob, *, files_are_laid: bool) -> bytes:
    """What the agent reads from stdin; its source says how."""
    folders, files = [], {}
    if not files_are_laid:
        folders = [WORKSPACE, TEMPORARY]
        files = {f"{WORKSPACE}/{path}": content for path, content in job.files.items()}
    fields = (
        WORKSPACE.encode(),
        f"{job.job.limits.wall_seconds + _GRACE_SECONDS}".encode(),
        job.stdin,
    )
    groups = (
        fields,
        [folder.encode() for folder in folders],
        [part for path, content in files.items() for part in (path.encode(), content)],
        [word.encode() for word in job.command(WORKSPACE)],
        [part.encode() for pair in environment_of(job).items() for part in pair],
    )
    body = b"".join(
        _field(field) for group in groups for field in (f"{len(group)}".encode(), *group)
    )
    return f"{len(body):0{_LENGTH_DIGITS}d}".encode() + body


def _field(content: bytes) -> bytes:
    return f"{len(content)}:".encode() + content
