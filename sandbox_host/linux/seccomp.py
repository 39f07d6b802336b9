"""The seccomp filters, as classic BPF bytes, for boxes that are not made by a container engine.

They deny, out of the system calls that the kernel allows ordinary programs: what reaches other
processes or the host (ptrace, other processes' limits, io_uring, keyrings, bpf, perf, mounts,
namespaces, modules, clocks); what escapes the box's limits if no cgroup enforces them (memfd,
System V and POSIX queues, Landlock rules, seccomp filters, futex hash tables); what has one quota
for the whole machine (io_setup); and all socket families but UNIX and IP. Programs without
namespaces are also denied every socket, and what changes other processes of the same user. Calls
newer than this table fail with ENOSYS, so that programs fall back to older ones. A call through a
foreign architecture or the x32 interface kills the process.

Sources: seccomp(2), ``linux/filter.h``, ``linux/audit.h``; numbers from ``asm/unistd_64.h`` and
``asm-generic/unistd.h``; the choice follows Docker's default profile and
https://docs.docker.com/engine/security/seccomp/.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

#: name: (x86_64, aarch64); None if the architecture has no such call.
_REFUSED: dict[str, tuple[int, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "unshare": (272, 97),
    "setns": (308, 268),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "lookup_dcookie": (212, 18),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_secret": (447, 447),
    "io_setup": (206, 0),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "seccomp": (317, 277),
    "vhangup": (153, 58),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
}

#: Also refused to a program that is bound to one CPU.
_REFUSED_BOUND: dict[str, tuple[int, int | None]] = {
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),  # also sets for how long a process keeps the CPU at a time
}

#: Also refused if no namespace hides the host's own processes: what changes another process.
_REFUSED_BESIDE_OTHERS: dict[str, tuple[int, int | None]] = {
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
}

#: Also refused if a program's memory and disk use is limited by sampling: what allocates much at
#: once, or keeps data where sampling cannot see it (in flight between sockets, pinned by pipes, in
#: extended attributes, in pages that were mapped for a moment). Programs have to cope with file
#: systems that lack these anyway.
_REFUSED_UNSEEN: dict[str, tuple[tuple[int, int], int]] = {
    "fallocate": ((285, 47), errno.EOPNOTSUPP),
    "remap_file_pages": ((216, 234), errno.ENOSYS),
    "setxattr": ((188, 5), errno.EOPNOTSUPP),
    "lsetxattr": ((189, 6), errno.EOPNOTSUPP),
    "fsetxattr": ((190, 7), errno.EOPNOTSUPP),
    "sendfile": ((40, 71), errno.EINVAL),
    "splice": ((275, 76), errno.EINVAL),
    "tee": ((276, 77), errno.EINVAL),
    "vmsplice": ((278, 75), errno.EINVAL),
    "sendmsg": ((46, 211), errno.EPERM),
    "sendmmsg": ((307, 269), errno.EPERM),
}

#: Also refused where nothing limits a user's instances, or counts the 8 MB that each may hold of
#: events that nobody reads. The error says that the user has all that it may have.
_INOTIFY: dict[str, tuple[int, int | None]] = {
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
}

#: Also refused to a program with the host's own user ID, whose files it could change by these.
_REFUSED_AS_HOST: dict[str, tuple[int, int | None]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}

#: Refused as if the kernel were older; the C library and programs then use older calls.
_ABSENT: dict[str, tuple[int, int]] = {
    "clone3": (435, 435),
    "memfd_create": (319, 279),
}

_CLONE, _SOCKET, _SOCKETPAIR, _IOCTL = (56, 220), (41, 198), (53, 199), (16, 29)
_PRLIMIT, _MMAP = (302, 261), (9, 222)
_PRCTL, _FCNTL, _CLOSE_RANGE = (157, 167), (72, 25), (436, 436)

_CLONE_FS, _CLONE_FILES, _CLONE_THREAD = 0x200, 0x400, 0x10000  # linux/sched.h
_CLOSE_RANGE_UNSHARE = 0x2  # linux/close_range.h
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_FUTEX_HASH = 4, 22, 78  # linux/prctl.h
_F_SETPIPE_SZ = 1031  # linux/fcntl.h

#: CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET (linux/sched.h).
_NAMESPACE_FLAGS = 0x7E020000
_UNIX, _IP = (1,), (2, 10)  # AF_UNIX, AF_INET, AF_INET6
_MAP_SHARED, _MAP_ANONYMOUS = 0x01, 0x20  # the lowest bit is not set in MAP_PRIVATE
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX

#: The first number this table does not know (Linux 6.11).
_FIRST_UNKNOWN = 463
_X32_BIT = 0x40000000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}

# Offsets in struct seccomp_data; arguments are 64 bits wide, little-endian on both machines.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def supported(machine: str | None = None) -> bool:
    """Whether there is a table for this machine's architecture."""
    return (machine or platform.machine()) in _AUDIT_ARCH


def bubblewrap_filter(
    machine: str | None = None, *, bound: bool = False, inotify: bool = True
) -> bytes:
    """The filter of a box that has namespaces, as an array of ``struct sock_filter``.

    Args:
        machine: ``x86_64`` or ``aarch64``; by default this machine's architecture.
        bound: the program must stay on the CPU it was given.
        inotify: the program may watch files.

    Raises:
        ValueError: there is no table for that architecture.
    """
    column, program = _begin(machine)
    refused = _REFUSED | (_REFUSED_BOUND if bound else {})
    program += _absent(column) + _refused(column, refused) + _dangerous_arguments(column)
    program += [] if inotify else _refused(column, _INOTIFY, errno.EMFILE)
    program += _limits_of_others(column)
    for call in (_SOCKET, _SOCKETPAIR):
        allowed = _only((*_UNIX, *_IP), _ERRNO | errno.EAFNOSUPPORT)
        program += _for_call(call[column], 0, allowed)
    return _end(program)


def confined_filters(machine: str | None = None, *, as_host: bool = False) -> tuple[bytes, bytes]:
    """The two filters of a program without its own namespaces.

    The first refuses what ordinary programs try but can do without. The second refuses what is
    worth logging; a socket of an IP family, for example, is an attempt to reach the network.

    Args:
        machine: as for `bubblewrap_filter`.
        as_host: the program has the host's own user ID.

    Raises:
        ValueError: there is no table for that architecture.
    """
    column, quiet = _begin(machine)
    quiet += _absent(column)
    # UNIX sockets are refused too: Landlock does not restrict access to those that have a path.
    quiet += _for_call(_SOCKET[column], 0, _only(_IP, _ERRNO | errno.EAFNOSUPPORT))
    quiet += _for_call(_SOCKETPAIR[column], 0, _only(_UNIX, _ERRNO | errno.EAFNOSUPPORT))
    _, logged = _begin(machine)
    refused = _REFUSED | _REFUSED_BOUND | _REFUSED_BESIDE_OTHERS
    refused |= _REFUSED_AS_HOST if as_host else {}
    logged += _refused(column, refused) + _dangerous_arguments(column)
    for family in _IP:
        inet = _when(_EQUAL, family, _ERRNO | errno.EACCES)
        logged += _for_call(_SOCKET[column], 0, inet)
    logged += _limits_of_others(column)
    quiet += _for_call(_MMAP[column], 3, _shared_without_file()) + _unseen(column)
    quiet += _refused(column, _INOTIFY, errno.EMFILE)
    return _end(quiet), _end(logged)


def _unseen(column: int) -> list[bytes]:
    """Refuse what sampling through ``/proc`` cannot see, and what would close ``/proc`` to it."""
    program: list[bytes] = []
    for numbers, error in _REFUSED_UNSEEN.values():
        program += _when(_EQUAL, numbers[column], _ERRNO | error)
    unshared = _when(_ANY_BIT, _CLOSE_RANGE_UNSHARE, _ERRNO | errno.EINVAL)
    program += _for_call(_CLOSE_RANGE[column], 2, unshared)
    program += _for_call(_PRCTL[column], 0, _when(_EQUAL, _PR_SET_DUMPABLE, _ERRNO | errno.EPERM))
    program += _for_call(_FCNTL[column], 1, _when(_EQUAL, _F_SETPIPE_SZ, _ERRNO | errno.EPERM))
    apart = [  # a thread with open files or a working directory apart from its process's
        _jump(_ANY_BIT, _CLONE_THREAD, true=0, false=3),
        _jump(_ANY_BIT, _CLONE_FILES, true=0, false=1),
        _jump(_ANY_BIT, _CLONE_FS, true=1, false=0),
        _statement(_RETURN, _ERRNO | errno.EPERM),
    ]
    return program + _for_call(_CLONE[column], 0, apart)


def _shared_without_file() -> list[bytes]:
    """Refuse shared anonymous memory: once it is in no page table, sampling cannot see it."""
    return [
        _jump(_ANY_BIT, _MAP_ANONYMOUS, true=0, false=2),
        _jump(_ANY_BIT, _MAP_SHARED, true=0, false=1),
        _statement(_RETURN, _ERRNO | errno.EPERM),
    ]


def name_of(number: int, machine: str | None = None) -> str:
    """The name of a system call; its number if this table does not have it."""
    column = _COLUMN.get(machine or platform.machine(), 0)
    return _names(column).get(number, f"system call {number}")


@cache
def _names(column: int) -> dict[int, str]:
    unseen = {name: numbers for name, (numbers, _) in _REFUSED_UNSEEN.items()}
    tables = _REFUSED | _REFUSED_BOUND | _REFUSED_BESIDE_OTHERS | _REFUSED_AS_HOST | unseen
    tables |= _INOTIFY
    named = {"clone": _CLONE, "socket": _SOCKET, "socketpair": _SOCKETPAIR, "ioctl": _IOCTL}
    single = {**_ABSENT, **named, "prlimit64": _PRLIMIT, "mmap": _MMAP, "prctl": _PRCTL}
    names = {row[column]: name for name, row in single.items()}
    for name, row in tables.items():
        number = row[column]
        if number is not None:
            names[number] = name
    return names


def _begin(machine: str | None) -> tuple[int, list[bytes]]:
    """The tables' column, and the program's beginning, which kills foreign architectures."""
    machine = machine or platform.machine()
    if machine not in _AUDIT_ARCH:
        raise ValueError(f"no seccomp table for {machine}; there is one for {list(_AUDIT_ARCH)}")
    program = [
        _statement(_LOAD, _ARCH),
        _jump(_EQUAL, _AUDIT_ARCH[machine], true=1, false=0),
        _statement(_RETURN, _KILL_PROCESS),
        _statement(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        program += _when(_AT_LEAST, _X32_BIT, _KILL_PROCESS)
    return _COLUMN[machine], program


def _end(program: list[bytes]) -> bytes:
    return b"".join([*program, _statement(_RETURN, _ALLOW)])


def _absent(column: int) -> list[bytes]:
    program = _when(_AT_LEAST, _FIRST_UNKNOWN, _ERRNO | errno.ENOSYS)
    for pair in _ABSENT.values():
        program += _when(_EQUAL, pair[column], _ERRNO | errno.ENOSYS)
    return program


def _refused(
    column: int, table: dict[str, tuple[int, int | None]], error: int = errno.EPERM
) -> list[bytes]:
    program: list[bytes] = []
    for numbers in table.values():
        number = numbers[column]
        if number is not None:
            program += _when(_EQUAL, number, _ERRNO | error)
    return program


def _dangerous_arguments(column: int) -> list[bytes]:
    """Refuse new namespaces by clone(2), terminal input by ioctl(2), kernel memory by prctl(2)."""
    namespaces = _when(_ANY_BIT, _NAMESPACE_FLAGS, _ERRNO | errno.EPERM)
    injection = [line for code in _TERMINAL_INJECTION for line in _when(_EQUAL, code, _ERRNO | 1)]
    memory = [
        line
        for option in (_PR_SET_SECCOMP, _PR_FUTEX_HASH)
        for line in _when(_EQUAL, option, _ERRNO | errno.EINVAL)
    ]
    return [
        *_for_call(_CLONE[column], 0, namespaces),
        *_for_call(_IOCTL[column], 1, injection),
        *_for_call(_PRCTL[column], 0, memory),
    ]


def _limits_of_others(column: int) -> list[bytes]:
    """Refuse prlimit(2) on other processes; PID 0 is the caller."""
    return _for_call(_PRLIMIT[column], 0, _only((0,), _ERRNO | errno.EPERM))


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, true: int, false: int) -> bytes:
    """Compare the loaded word; skip ``true`` instructions if it matches, else ``false``."""
    return struct.pack("=HBBI", code, true, false, value)


def _when(code: int, value: int, action: int) -> list[bytes]:
    return [_jump(code, value, true=0, false=1), _statement(_RETURN, action)]


def _only(allowed: tuple[int, ...], action: int) -> list[bytes]:
    """Return ``action`` unless the loaded word is among ``allowed``."""
    checks = [
        _jump(_EQUAL, value, true=len(allowed) - index, false=0)
        for index, value in enumerate(allowed)
    ]
    return [*checks, _statement(_RETURN, action)]


def _for_call(number: int, argument: int, body: list[bytes]) -> list[bytes]:
    """Run ``body`` on the low word of an argument of one call, then load the number again."""
    inner = [_statement(_LOAD, _ARGUMENTS + 8 * argument), *body, _statement(_LOAD, _NUMBER)]
    return [_jump(_EQUAL, number, true=0, false=len(inner)), *inner]
