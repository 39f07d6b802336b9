"""Starts confined programs. This is a separate program: one thread, standard library only.

Run as ``python3 -I -S -c SOURCE`` with a SOCK_SEQPACKET socket as standard input. Each message
carries descriptors: a file with the request as JSON, the program's stdin, stdout and stderr, and a
stream socket for this run. For each message a supervisor is forked, which forks the program. The
supervisor writes a line of JSON to the run's socket when the program has started, and another when
none of its processes runs any more. It kills the program when a byte arrives on that socket or the
socket is closed; so programs end with their host. A fork takes 1 ms, starting a new Python a dozen.

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
import time
from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)

FORK_AGAIN_SECONDS = 0.01

# System call numbers; except for seccomp, they are the same on all architectures.
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
#: All rights on files that each version of the interface knows.
KNOWN_FS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP, SCOPES = 0b11, 0b11
TCP_SINCE, SCOPES_SINCE = 4, 6


def landlock_version() -> int:
    """The version of the kernel's Landlock interface; 0 if there is none."""
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def checked(result: int, what: str) -> int:
    """The ``result`` of a C call; raises OSError if the call failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set an option of this process; raises OSError if the kernel refuses."""
    checked(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def restrict(version: int, paths: dict[str, str]) -> None:
    """Enter a Landlock domain with access to ``paths`` only (path to a name in `RIGHTS`).

    Without paths, access to files is not restricted; only signals and abstract sockets are confined
    to the domain. Even then, moving files between folders must be granted, because a domain that
    does not mention it denies it.
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
    """Grant ``rights`` below ``path``, if it exists."""
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
    """Restrict this process and execute the program in it.

    Raises:
        OSError: the kernel refused a restriction or the program; nothing was executed.
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
            break  # past the last one; or CAP_SETPCAP is missing, and no_new_privs must suffice
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def start(request: dict[str, Any], streams: list[int]) -> int:
    """Fork and execute the program; its PID.

    Raises:
        OSError: it could not be executed; the message says why.
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
        except BaseException as error:  # noqa: BLE001 - all that can be done here is to report it
            number = getattr(error, "errno", None) or 0
            os.write(3, f"{number} {error}".encode()[:4000])
        os._exit(127)
    os.close(failed_w)
    with os.fdopen(failed_r, "rb") as pipe:
        problem = pipe.read()
    if problem:
        os.waitpid(pid, 0)
        number, _, message = problem.decode(errors="replace").partition(" ")
        raise OSError(int(number), message)
    return pid


def supervise(request: dict[str, Any], streams: list[int], control: int) -> None:
    """Start the program, wait for its end or kill it, and report how it ended."""
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
    running = descendants()
    kill_all(None if scoped else request["uid"])
    unbind({*running, *descendants()})
    returncode = reap_all(program, status)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = {"user_ms": used.ru_utime * 1e3, "system_ms": used.ru_stime * 1e3}
    say(control, returncode=returncode, **cpu)


def prove_scope() -> None:
    """Raise OSError unless signals are confined to the domain, on which `kill_all` relies."""
    try:
        os.kill(os.getppid(), 0)
    except PermissionError:
        return
    raise OSError(errno.ENOSYS, "Landlock does not confine signals")


def kill_all(uid: int | None) -> None:
    """Kill everything that the program has started, in one step that no fork can outrun.

    If ``uid`` is None, this process is in a domain that confines signals, so all it can reach is
    the program's. Else a process with the program's user does it, and again if the program killed
    that process first.
    """
    if uid is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        return
    while has_children():
        try:
            killer = os.fork()
        except BlockingIOError:  # too many processes, for now
            time.sleep(FORK_AGAIN_SECONDS)
            continue
        if killer == 0:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
            os._exit(0)
        _, status = os.waitpid(killer, os.WUNTRACED)
        if os.WIFSTOPPED(status):  # the program was faster, and stopped that process
            os.kill(killer, signal.SIGKILL)
            os.waitpid(killer, 0)
        elif os.WIFEXITED(status):
            return


def has_children() -> bool:
    """Whether any of the program's processes is left; orphans become this process's children."""
    return bool(children_of(os.getpid()))


def children_of(pid: int) -> list[int]:
    """The children of a process's threads; none if it has ended."""
    found = []
    for thread in threads_of(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
            found += [int(child) for child in file.read().split()]
    return found


def threads_of(pid: int) -> list[int]:
    """The ids of a process's threads; none if it has ended."""
    try:
        return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def descendants() -> list[int]:
    """The program's processes."""
    found, pending = [], [os.getpid()]
    while pending:
        children = children_of(pending.pop())
        found += children
        pending += children
    return found


def unbind(pids: set[int]) -> None:
    """Let killed processes run wherever this one may: each must run once more to end."""
    cpus = os.sched_getaffinity(0)
    for thread in (thread for pid in pids for thread in threads_of(pid)):
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(thread, cpus)


def reap(program: int) -> int | None:
    """Reap ended children; the wait status of ``program`` if it is among them."""
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
    """Wait for all children to end; the return code of ``program``, negative for a signal."""
    while True:
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if pid == program:
            status = ended
    assert status is not None
    return os.waitstatus_to_exitcode(status)


def say(control: int, **facts: object) -> None:
    """Report to the host, unless it is gone."""
    with contextlib.suppress(OSError):
        os.write(control, json.dumps(facts).encode() + b"\n")


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
            except BaseException as error:  # noqa: BLE001 - all that can be done is to report it
                say(control, error=str(error), errno=getattr(error, "errno", None))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def main() -> None:
    """Report the kernel's Landlock version, then serve."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no reaping
    requests = socket.socket(fileno=0)
    requests.send(json.dumps({"landlock": landlock_version()}).encode())
    serve(requests)


if __name__ == "__main__":
    main()
