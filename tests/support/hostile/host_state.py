"""What of this host a hostile program could change, taken before and after it.

Several suites may share a machine, so only what can be this one's is compared: kernel settings,
which nobody else writes; processes below this one or marked as ours; mounts; cgroups and spaces of
boxes that carry this process's tag; files and shared memory that belong to a box's user.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from sandbox_host.linux.processes import descendants, host_tag
from sandbox_host.runtimes.bubblewrap import keeper as bwrap_keeper
from sandbox_host.runtimes.oci import engine as oci_engine

#: Every process of a box has this in the environment that it starts with, and a mark of its run.
MARK = "APP_MARK"

#: User ids that the runtimes give to boxes.
_BOX_UIDS = range(60_000, 65_500)

#: Modules of this suite's other fixtures; what they start and end is theirs: connections, boxes.
_FIXTURES = (b"infra.local.", b"sandbox_host")

#: Settings that change by themselves.
_RESTLESS = (
    "fs/dentry-state",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/quota",
    "kernel/ns_last_pid",
    "kernel/pty/nr",
    "kernel/random",
    "kernel/sched_domain",
    "net/netfilter/nf_conntrack_count",
    "vm/stat_refresh",
    "vm/lowmem_reserve_ratio",
)
_OTHER_SETTINGS = ("/sys/kernel/uevent_helper",)

#: Lists of which only the first words count: how much of each is in use changes by itself.
_LISTS = ("/proc/swaps", "/proc/modules")

#: Free space and inodes may differ by this much through the doings of others; bytes, inodes.
_DISK_STEP, _INODE_STEP = 1 << 30, 100_000

#: Difference of wall clock and monotonic clock, seconds: a changed clock is off by more.
_CLOCK_STEP = 60


@dataclass(frozen=True)
class HostState:
    """One look at the host; equal fields mean that nothing changed."""

    settings: frozenset[tuple[str, str]]
    release_agents: frozenset[tuple[str, str]]
    host_name: str
    clock: int
    processes: frozenset[str]
    mounts: frozenset[str]
    boxes: frozenset[str]
    bwrap_boxes: frozenset[int]
    files: frozenset[str]
    shared_memory: frozenset[str]
    disk: tuple[int, int]

    @classmethod
    def now(cls, mark: str) -> HostState:
        """Look.

        Args:
            mark: the value of `MARK` in the boxes in question.
        """
        bwrap_boxes = _bwrap_boxes()
        return cls(
            settings=frozenset(_settings()),
            release_agents=frozenset(_release_agents()),
            host_name=os.uname().nodename,
            clock=round((time.time() - time.monotonic()) / _CLOCK_STEP),
            processes=frozenset(_processes(mark, bwrap_boxes)),
            mounts=frozenset(_mounts()),
            boxes=frozenset(_boxes()),
            bwrap_boxes=bwrap_boxes,
            files=frozenset(_files()),
            shared_memory=frozenset(_shared_memory()),
            disk=_disk(),
        )

    def damage(self, before: HostState) -> list[str]:
        """What is different from ``before``, and matters, for a person."""
        found = []
        for name in (field.name for field in fields(self)):
            then, now = getattr(before, name), getattr(self, name)
            if name in ("boxes", "bwrap_boxes"):
                continue  # some may wait for jobs: see `leftover_boxes`
            if name == "disk":
                used, inodes = then[0] - now[0], then[1] - now[1]
                if used > _DISK_STEP or inodes > _INODE_STEP:
                    found.append(f"disk: {used} bytes and {inodes} inodes fewer are free")
            elif isinstance(now, frozenset):
                found += [f"{name}: {item} is new" for item in sorted(map(str, now - then))]
            elif name == "clock" and abs(now - then) <= 1:
                continue
            elif now != then:
                found.append(f"{name}: {then} became {now}")
        return found

    def leftover_boxes(self, waiting: int) -> list[str]:
        """What is wrong with the number of boxes, given how many wait for jobs."""
        return [
            f"{len(found)} boxes are there and {waiting} wait: {sorted(map(str, found))}"
            for found in (self.boxes, self.bwrap_boxes)
            if len(found) > waiting
        ]


@cache
def _setting_paths() -> tuple[str, ...]:
    """Readable files below /proc/sys, but for those of single network devices, which come."""
    found = []
    for folder, _, names in os.walk("/proc/sys"):
        if "/net/" in folder and ("/conf" in folder or "/neigh" in folder):
            continue
        for name in names:
            path = f"{folder}/{name}"
            if not path.removeprefix("/proc/sys/").startswith(_RESTLESS):
                found.append(path)
    return tuple(found)


def _settings() -> Iterator[tuple[str, str]]:
    for path in (*_setting_paths(), *_OTHER_SETTINGS):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            yield path, file.read().decode(errors="replace")
    for path in _LISTS:
        with contextlib.suppress(OSError):
            lines = Path(path).read_text().splitlines()
            yield path, " ".join(sorted(line.split()[0] for line in lines if line))


def _release_agents() -> Iterator[tuple[str, str]]:
    for path in Path("/sys/fs/cgroup").glob("*/release_agent"):
        with contextlib.suppress(OSError):
            yield str(path), path.read_text()


def _processes(mark: str, bwrap_boxes: frozenset[int]) -> Iterator[str]:
    """Live processes below this one or started with the mark; a zombie that is ours counts too.

    What is in boxes of bubblewrap and oci without the mark may wait for a job: see
    `leftover_boxes`.
    """
    below = set(descendants(os.getpid())) - bwrap_boxes
    for top in (*bwrap_boxes, *_fixtures()):
        below -= set(descendants(top))
    for top in _oci_boxes():
        below -= {top, *descendants(top)}
    wanted = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            if int(entry) in below or wanted in Path(f"/proc/{entry}/environ").read_bytes():
                yield f"{entry} {_started(entry)} {Path(f'/proc/{entry}/comm').read_text().strip()}"


def _fixtures() -> Iterator[int]:
    """Children of this one that other tests keep: parts of a stack, and a PostgreSQL."""
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            for child in Path(f"/proc/self/task/{thread}/children").read_text().split():
                with contextlib.suppress(OSError):
                    program, *rest = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                    module = rest[1] if rest[:1] == [b"-m"] else b""
                    if program.endswith(b"/postgres") or module.startswith(_FIXTURES):
                        yield int(child)


def _oci_boxes() -> Iterator[int]:
    """The OCI runtimes that run this one's boxes; those are known by their cgroups, too."""
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if str(oci_engine.STATE).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid


def _bwrap_boxes() -> frozenset[int]:
    """First processes of this one's bubblewrap boxes: ``bwrap``, or a PID 1 that outlived it."""
    name = f"{bwrap_keeper.PREFIX}{host_tag()}-".encode()
    found = set()
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 3)
            if arguments[1:2] == [bwrap_keeper.OPTION.encode()] and arguments[2].startswith(name):
                found.add(pid)
    return frozenset(found - {below for pid in found for below in descendants(pid)})


def _started(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _mounts() -> Iterator[str]:
    """Mount points; boxes are looked at as such, and what engines and suites mount is theirs."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if not point.startswith(("/run/", "/var/lib/", "/tmp/")):
            yield point


def _boxes() -> Iterator[str]:
    """Boxes of this process that have a cgroup or a mounted space."""
    tag = host_tag()
    tops = _cgroup_tops()
    for parent in (f"/run/qlp-sandbox/{tag}", *(f"{top}/{tree}" for top, tree in tops)):
        with contextlib.suppress(OSError), os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield entry.name


def _cgroup_tops() -> Iterator[tuple[str, str]]:
    """Where trees of this process lie: in every hierarchy, at its top and in this one's group."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {line.split(":", 2)[2] for line in lines}
    mine = f"qlp-sandbox-{host_tag()}"
    hierarchies = ["/sys/fs/cgroup", *(str(path) for path in Path("/sys/fs/cgroup").glob("*/"))]
    for hierarchy in hierarchies:
        for group in own | {"/"}:
            with contextlib.suppress(OSError):
                top = f"{hierarchy}{group}".rstrip("/")
                for name in os.listdir(top):
                    if name.startswith(mine):
                        yield top, name


def _files() -> Iterator[str]:
    """What users of boxes own in the places where anybody may write."""
    for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue"):
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid in _BOX_UIDS:
                        yield entry.path


def _shared_memory() -> Iterator[str]:
    """System V objects of boxes' users."""
    for kind in ("shm", "sem", "msg"):
        lines = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
        columns = lines[0].split()
        for line in lines[1:]:
            row = dict(zip(columns, line.split(), strict=False))
            if int(row["cuid"]) in _BOX_UIDS:
                yield f"{kind} {row['key']} {row['cuid']}"


def _disk() -> tuple[int, int]:
    """Free bytes and inodes where a program could write if it got out."""
    found = [os.statvfs(folder) for folder in ("/", "/dev/shm")]
    return (
        min(place.f_bavail * place.f_frsize for place in found),
        min(place.f_favail for place in found),
    )
