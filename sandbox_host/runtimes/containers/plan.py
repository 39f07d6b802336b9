"""What a box's container is made with, and the header that its agent reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

from domain.contracts.job import JobLimits
from sandbox_host.run.job import PreparedJob
from sandbox_host.runtimes.base import (
    TEMPORARY,
    WORKSPACE,
    environment_of,
)
from sandbox_host.runtimes.containers.workspace import PIPES, Workspace

#: Digits of the length that precedes the header, as in the agent's source.
_LENGTH_DIGITS = 12

#: Seconds after the deadline at which the agent ends the box itself, in case the host fails to.
_GRACE_SECONDS = 10.0

#: The engine's own profile, which it loads if the kernel has AppArmor.
APPARMOR_PROFILE = "docker-default"

#: The user of every box's agent; no program has it.
AGENT_UID = 65_533

#: A box's own name; the loopback interface has it, as it has in other runtimes.
HOSTNAME = "sandbox"

#: What the agent, which starts as the container's root, needs to become other users.
AGENT_CAPABILITIES = ["CHOWN", "KILL", "SETGID", "SETPCAP", "SETUID"]

_AGENT = resources.files("sandbox_host.runtimes.containers").joinpath("agent.py").read_text()

#: Docker's default profile as shipped by Debian with engine 20.10.24 (Apache-2.0,
#: https://github.com/moby/moby/blob/v20.10.24/profiles/seccomp/default.json), reduced to amd64 and
#: arm64 and to what needs no capability. Also removed: ptrace and process_vm_* (reach other
#: processes), io_uring_* (bypasses the filter), mq_* (a writable queue outside the box's limits),
#: memfd_secret, file handles, fanotify, keyrings, io_setup (one quota for the whole machine), all
#: socket families but UNIX, IPv4 and IPv6 (vsock reaches the hypervisor; socket pairs are UNIX
#: alone, since naming a family may load its module), and modify_ldt (16-bit code segments, the
#: source of many kernel bugs). prlimit64 works on the caller alone; personality lacks the 32-bit
#: personas.
SECCOMP_PROFILE = json.dumps(
    json.loads(
        resources.files("sandbox_host.runtimes.containers").joinpath("seccomp.json").read_text()
    ),
    separators=(",", ":"),
)


@dataclass(frozen=True)
class Plan:
    """What to make one container with.

    Attributes:
        image: the image's ID.
        name: the container's name, which no other has ever had.
        host: this host process, for the label.
        uid: the program's user and group ID inside the container.
        limits: the job's; or ceilings, if the group above the container has the job's limits.
        seccomp: the engine applies seccomp profiles.
        apparmor: the engine applies AppArmor profiles.
        engine_runtime: name of an OCI runtime of the engine; None for its default.
        cgroup_parent: absolute path of the cgroup to put the container under.
        workspace: the writable space; None to have the engine mount a tmpfs.
        extra_processes: allowed besides the program's, for the agent and the OCI runtime.
        extra_memory_bytes: allowed besides the program's, for the OCI runtime.
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

    def command(self) -> list[str]:
        """The agent's command line."""
        command = ["python3", "-I", "-S", "-c", _AGENT, f"{AGENT_UID}", f"{self.uid}"]
        if self.workspace is not None and self.workspace.pipes:
            command.append(PIPES)
        return command

    @property
    def memory_bytes(self) -> int:
        """The container's limit of memory, without swap."""
        return self.limits.memory_bytes + self.extra_memory_bytes

    @property
    def processes(self) -> int:
        """The container's limit of processes."""
        return self.limits.processes + self.extra_processes


def agent_header(job: PreparedJob, *, files_are_written: bool) -> bytes:
    """The header that the agent reads from stdin, in the format of its source."""
    folders, files = [], {}
    if not files_are_written:
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
