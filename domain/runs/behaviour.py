"""Rules that say which behaviour of a program is suspicious; without I/O.

A suspicion consists of a kind and, where the kind has several, a name from the lists here. It never
contains the program's output or names that the program chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: System calls that access other processes, the kernel or the machine; ordinary programs need none.
SUSPICIOUS_SYSCALLS = frozenset(
    {
        "acct",
        "add_key",
        "bpf",
        "delete_module",
        "finit_module",
        "fsopen",
        "init_module",
        "io_uring_setup",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "quotactl",
        "reboot",
        "request_key",
        "setns",
        "swapoff",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
    }
)

#: Programs for attacks, mining, debugging or network access.
SUSPICIOUS_PROGRAMS = frozenset(
    {
        "curl",
        "gdb",
        "insmod",
        "masscan",
        "minerd",
        "mount",
        "nc",
        "ncat",
        "netcat",
        "nmap",
        "nsenter",
        "socat",
        "ssh",
        "strace",
        "su",
        "sudo",
        "unshare",
        "wget",
        "xmrig",
    }
)

_SHELLS = frozenset({"ash", "bash", "busybox", "dash", "ksh", "sh", "zsh"})

#: From so many different shells, or programs, in one run, it is suspicious.
MANY_SHELLS = 2
MANY_PROGRAMS = 16


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something suspicious that a run did.

    Attributes:
        kind: a stable name, for alerts.
        subject: the program or system call, for kinds that have several; else empty.
        count: how often; at least 1.
    """

    kind: str
    subject: str = ""
    count: int = 1


def suspicions(behaviour: Mapping[str, Any]) -> list[Suspicion]:
    """What is suspicious about a recorded `domain.contracts.job.Behaviour`."""
    executed: Sequence[str] = behaviour.get("executed", ())
    refused: Mapping[str, int] = behaviour.get("refused_syscalls", {})
    attempts: int = behaviour.get("network_attempts") or 0
    found = [
        Suspicion("refused_syscall", name, count)
        for name, count in sorted(refused.items())
        if name in SUSPICIOUS_SYSCALLS and count > 0
    ]
    if attempts:
        found.append(Suspicion("network_attempt", count=attempts))
    if "processes" in behaviour.get("limits_hit", ()):
        found.append(Suspicion("process_limit"))
    found += [
        Suspicion("suspicious_program", name)
        for name in sorted(SUSPICIOUS_PROGRAMS.intersection(executed))
    ]
    if (shells := len(_SHELLS.intersection(executed))) >= MANY_SHELLS:
        found.append(Suspicion("many_shells", count=shells))
    if (programs := len(set(executed))) >= MANY_PROGRAMS:
        found.append(Suspicion("many_programs", count=programs))
    return found
