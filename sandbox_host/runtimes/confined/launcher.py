"""Starts confined programs; a program of its own, of one thread, with the standard library alone.

``python3 -I -S -c SOURCE`` with a SOCK_SEQPACKET socket as standard input. Each message carries
descriptors: a file with the request as JSON, the program's stdin, stdout and stderr, and a stream
socket, the run's own. For each, a supervisor is forked, which forks the program. The supervisor
writes a line of JSON when the program has started and one when nothing of it runs any more, and
kills the program at the first byte on that socket or at its end: when the host is gone, so are its
programs. To be forked costs a millisecond, a new Python a dozen.

Sources: landlock(7), ``linux/landlock.h``, seccomp(2), prctl(2), and the kernel's
Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)

# The same numbers on all architectures but for seccomp.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
SECCOMP = {"x86_64": 317, "aarch64": 277}

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
FILTER_MODE, FILTER_FLAG_LOG = 1, 2

# LANDLOCK_ACCESS_FS_*
EXECUTE, WRITE, READ, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
MAKE_SOCK, MAKE_FIFO, MAKE_SYM, REFER, TRUNCATE = 1 << 9, 1 << 10, 1 << 12, 1 << 13, 1 << 14
OF_FILES = EXECUTE | WRITE | READ | TRUNCATE
MAKING = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
RIGHTS = {
    "execute": EXECUTE | READ | READ_DIR,
    "read": READ | READ_DIR,
    "device": READ | WRITE,
    "shared": READ | WRITE | TRUNCATE | MAKE_REG | REMOVE_FILE,
    "own": READ | READ_DIR | EXECUTE | WRITE | TRUNCATE | REFER | REMOVE_DIR | REMOVE_FILE | MAKING,
}
#: All rights on files that each version of the interface knows, and what it knows besides.
KNOWN_FS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP, SCOPES = 0b11, 0b11
TCP_SINCE, SCOPES_SINCE = 4, 6


def landlock_version() -> int:
    """Version of the kernel's Landlock interface; 0 where there is none."""
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def checked(result: int, what: str) -> int:
    """``result`` of a C call, unless it says that the call failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set an option of this process, or raise OSError."""
    checked(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def restrict(version: int, paths: dict[str, str]) -> None:
    """Enter a Landlock domain in which only ``paths`` (path to a name of `RIGHTS`) can be used.

    Without paths, files are left alone and only signals and abstract sockets are held inside. To
    move files between folders must be granted all the same: a domain that does not speak of it
    refuses it.
    """
    files = KNOWN_FS[max(known for known in KNOWN_FS if known <= version)] if paths else REFER
    attributes = struct.pack(
        "=QQQ",
        files,
        TCP if paths and version >= TCP_SINCE else 0,
        SCOPES if version >= SCOPES_SINCE else 0,
    )
    size = ctypes.c_size_t(len(attributes))
    ruleset = checked(LIBC.syscall(CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")
    for path, rights in (paths or {"/": "own"}).items():
        add_rule(ruleset, path, RIGHTS[rights] & files)
    checked(LIBC.syscall(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def add_rule(ruleset: int, path: str, rights: int) -> None:
    """Grant ``rights`` below ``path``, where that exists."""
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    allowed = rights if os.path.isdir(path) else rights & OF_FILES
    rule = struct.pack("=Qi", allowed, parent)
    checked(LIBC.syscall(ADD_RULE, ruleset, 1, rule, 0), f"landlock_add_rule {path}")
    os.close(parent)


def filter_calls(program: bytes, flags: int) -> None:
    """Load a classic BPF program, an array of ``struct sock_filter``."""
    held = ctypes.create_string_buffer(program)
    length = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    number = SECCOMP[os.uname().machine]
    checked(LIBC.syscall(number, FILTER_MODE, flags, length), "seccomp")


def become(request: dict[str, Any]) -> NoReturn:
    """Turn this process into the program.

    Raises:
        OSError: a restriction or the program itself was refused; nothing was executed.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.umask(0o022)
    os.chdir(request["workspace"])
    os.sched_setaffinity(0, {request["cpu"]})
    for name, value in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if request["uid"] is not None:
        give_up_root(request["uid"])
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    restrict(request["landlock"], {**request["paths"], f"/proc/{os.getpid()}": "read"})
    filter_calls(bytes.fromhex(request["filters"][0]), 0)
    filter_calls(bytes.fromhex(request["filters"][1]), FILTER_FLAG_LOG)
    os.execve(request["command"][0], request["command"], request["environment"])  # noqa: S606


def give_up_root(uid: int) -> None:
    """Become an ordinary user, with no way back."""
    for capability in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # past the last, or CAP_SETPCAP is missing, and no_new_privs holds alone
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def start(request: dict[str, Any], streams: list[int]) -> int:
    """Fork the program; its pid.

    Raises:
        OSError: it did not come to execute anything; the message says why.
    """
    failed_r, failed_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
        os.dup2(failed_w, 3, inheritable=False)
        os.closerange(4, 65536)
        try:
            become(request)
        except BaseException as error:  # noqa: BLE001 - said, and nothing else can be done here
            number = getattr(error, "errno", None) or 0
            os.write(3, f"{number} {error}".encode()[:4000])
        os._exit(127)
    os.close(failed_w)
    with os.fdopen(failed_r, "rb") as pipe:
        problem = pipe.read()
    if problem:
        os.waitpid(pid, 0)
        number, _, said = problem.decode(errors="replace").partition(" ")
        raise OSError(int(number), said)
    return pid


def supervise(request: dict[str, Any], streams: list[int], control: int) -> None:
    """Start the program, see it to its end or kill it, and say how it ended."""
    woken_r, woken_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken_w, warn_on_full_buffer=False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    scoped = request["landlock"] >= SCOPES_SINCE
    if scoped:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        restrict(request["landlock"], {})
        prove_scope()
    program = start(request, streams)
    for descriptor in streams:
        os.close(descriptor)
    say(control, pid=os.getpid())
    status = None
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    poll.register(woken_r, select.POLLIN)
    while status is None:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if woken_r in ready:
            os.read(woken_r, 4096)
        status = reap(program)
        if control in ready:
            break
    kill_all(None if scoped else request["uid"])
    returncode = reap_all(program, status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = {"user_ms": used.ru_utime * 1e3, "system_ms": used.ru_stime * 1e3}
    say(control, returncode=returncode, **cpu)


def prove_scope() -> None:
    """Raise OSError unless signals cannot leave the domain: `kill_all` relies on it."""
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise OSError(errno.ENOSYS, "Landlock does not hold signals inside")


def kill_all(uid: int | None) -> None:
    """Kill whatever the program has started, in one step that no fork can outrun.

    In a domain that holds signals inside, all that this process can reach is the program's; else a
    process of the program's own user does it, again if the program was faster.
    """
    if uid is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    while has_children():
        killer = os.fork()
        if killer == 0:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
            os._exit(0)
        _, status = os.waitpid(killer, 0)
        if os.WIFEXITED(status):
            return


def has_children() -> bool:
    """Whether anything of the program is left; orphans are this process's."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return bool(file.read().strip())


def reap(program: int) -> int | None:
    """Reap what has ended; the status of ``program`` if that has."""
    status = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == program:
            status = ended


def reap_all(program: int, status: int | None) -> int:
    """Wait for all that is left; the return code of ``program``, negative for a signal."""
    while True:
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == program:
            status = ended
    assert status is not None
    return os.waitstatus_to_exitcode(status)


def say(control: int, **words: object) -> None:
    """Tell the host, unless it is gone."""
    with contextlib.suppress(OSError):
        os.write(control, json.dumps(words).encode() + b"\n")


def serve(requests: socket.socket) -> None:
    """Fork a supervisor for each request until the host closes the socket."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 16, 5)
        if not message:
            return
        request, *streams, control = descriptors
        if os.fork() == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), requests.detach())
            try:
                with os.fdopen(request, "rb") as file:
                    wanted = json.load(file)
                supervise(wanted, streams, control)
            except BaseException as error:  # noqa: BLE001 - said, and nothing else can be done
                say(control, error=str(error), errno=getattr(error, "errno", None))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def main() -> None:
    """Say what the kernel offers, then serve."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no reaping
    requests = socket.socket(fileno=0)
    requests.send(json.dumps({"landlock": landlock_version()}).encode())
    serve(requests)


if __name__ == "__main__":
    main()
