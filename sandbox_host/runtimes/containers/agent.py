"""The agent: PID 1 of a docker box. Its source is the container's command; the host never runs it.

It waits for one job's header on stdin, writes the files, starts the program as its child, and
reports the child's end. (If the program were PID 1, the kernel would ignore a SIGKILL that it sends
to itself.) Stdin stays open while the host lives. Its end means that the host is gone; the agent
then ends, which kills everything in the box.

It starts as the container's root, with the capabilities to change users. Before it reads anything
it switches to a user of its own. The program gets another user, and no capability: so it cannot do
to the agent what a user may do to its own processes (signals, limits, scheduling, memory).

Marks report its progress to the host: ``READY`` when it waits for the header, ``STARTED`` before
the program runs, and ``ENDED`` with the program's return code when nothing of it runs any more. Its
arguments are two user IDs, its own and the program's, and optionally a folder with the host's
pipes. With pipes, the program writes to two of them, and the marks go to a third, which the program
cannot reach. Without, the marks enclose the program's stdout: the program can write nothing before
the first two, and nothing after the last, which is genuine if the agent exits with 0.

It uses the standard library only, of Python 3.9 or later, and as little of it as possible: every
import costs each box some milliseconds of CPU. (``_signal`` is ``signal`` without ``enum``, and
``_ctypes`` is enough of ``ctypes`` for one call.)
"""

from __future__ import annotations

import _ctypes
import _signal  # type: ignore[import-not-found]
import os
import select
import sys
import time

_LENGTH_DIGITS = 12
_STARTUP_FAILED = 125
#: Exit status if the files cannot be written; the errno is added to it.
_FILES_REFUSED = 128
_READY, _STARTED, _ENDED = b"R", b"S", b"\0"

# linux/prctl.h, linux/capability.h
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 4, 8, 24
_CAPABILITY_VERSION_3 = 0x20080522
_KILL, _SETGID, _SETUID, _SETPCAP = (1 << number for number in (5, 6, 7, 8))


def _call(name: str, *arguments: int | bytes) -> int:
    """Call a function of the C library; to import ctypes itself would take milliseconds."""
    library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    return int(_ctypes.call_function(_ctypes.dlsym(library, name), arguments))


def _checked(result: int) -> None:
    if result != 0:
        os._exit(_STARTUP_FAILED)


def _set_dumpable(flag: int) -> None:
    """Set the dumpable flag; if 0, not even this user can access ``/proc/PID/{fd,mem,…}`` of it."""
    _checked(_call("prctl", _PR_SET_DUMPABLE, flag, 0, 0, 0))


def _set_capabilities(held: int) -> None:
    """Have these capabilities and no others; capset(2) takes three words each, low and high."""
    header = _CAPABILITY_VERSION_3.to_bytes(4, sys.byteorder) + bytes(4)
    word = held.to_bytes(4, sys.byteorder)
    _checked(_call("capset", header, word + word + bytes(16)))


def _become(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _become_agent(user: int) -> None:
    """Switch to the agent's user: not root, protected from others, yet able to change users."""
    _checked(_call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0))
    _become(user)
    _set_capabilities(_KILL | _SETGID | _SETUID | _SETPCAP)
    _set_dumpable(0)


def _become_program(user: int) -> None:
    """Switch to the program's user, without any capability and with no way back."""
    for capability in range(64):
        if _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the last one
    _become(user)
    _set_capabilities(0)
    _set_dumpable(1)  # or the program could not access its own /proc


def _open_pipe(path: str) -> int:
    """Open the write end of a pipe whose read end the host has open already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(descriptor, True)
    return descriptor


def _read_exactly(count: int) -> bytes:
    parts = []
    while count:
        part = os.read(0, min(count, 65536))
        if not part:
            os._exit(_STARTUP_FAILED)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _read_header() -> list[bytes]:
    """Read the header: its length, then fields, each as ``<length>:<bytes>``."""
    header = _read_exactly(int(_read_exactly(_LENGTH_DIGITS)))
    fields, at = [], 0
    while at < len(header):
        colon = header.index(b":", at)
        end = colon + 1 + int(header[at:colon])
        fields.append(header[colon + 1 : end])
        at = end
    return fields


def _take(fields: list[bytes]) -> list[bytes]:
    """Remove and return the next group of fields: a count, then as many fields."""
    count = int(fields.pop(0))
    group = fields[:count]
    del fields[:count]
    return group


def _write_files(user: int, folders: list[bytes], files: list[bytes]) -> None:
    """Make folders and files that belong to ``user``, in a child process with that user."""
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            os._exit(status if status > 0 else _STARTUP_FAILED)
        return
    try:
        _become_program(user)
        for folder in folders:
            os.mkdir(folder, 0o755)
        for path, content in zip(files[::2], files[1::2]):  # noqa: B905 - strict needs Python 3.10
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
    except OSError as error:
        os._exit(_FILES_REFUSED + (error.errno or 0))
    os._exit(0)


def _start(
    user: int,
    workspace: bytes,
    command: list[bytes],
    environment: dict[bytes, bytes],
    streams: tuple[int, int, int],
) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        _become_program(user)
        # If memory runs out, the kernel should kill the program, not the agent.
        with open("/proc/self/oom_score_adj", "w") as adjustment:
            adjustment.write("1000")
        for number in (_signal.SIGINT, _signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGTERM):
            _signal.signal(number, _signal.SIG_DFL)
        os.setsid()
        os.chdir(workspace)
        os.execvpe(command[0], command, environment)  # noqa: S606 - no shell on purpose
    except OSError as error:
        os.write(2, f"cannot start the program: {error}\n".encode())
    os._exit(_STARTUP_FAILED)


def _file_of(stdin: bytes) -> int:
    """An in-memory file with ``stdin``, positioned at its start."""
    source = os.memfd_create("stdin")
    with open(source, "wb", closefd=False) as file:
        file.write(stdin)
    os.lseek(source, 0, os.SEEK_SET)
    return source


def _wakeup() -> int:
    """A descriptor that becomes readable when a child ends; gVisor has no pidfd_open(2)."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
    # A full pipe wakes as well; a warning about it would end up in the program's output.
    _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _wait(pid: int, wakeup: int, seconds: float) -> int:
    """Reap orphans until ``pid`` ends; its return code, negative for a signal.

    If the host is gone, or long after the deadline, it ends the box instead.
    """
    watch = select.poll()
    watch.register(wakeup, select.POLLIN)
    watch.register(0, select.POLLIN)
    deadline = time.monotonic() + seconds
    while True:
        ready = watch.poll(max(0.0, deadline - time.monotonic()) * 1000)
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == pid:
                return os.waitstatus_to_exitcode(status)
            if ended == 0:
                break
        if not ready or any(descriptor == 0 for descriptor, _ in ready):
            os._exit(_STARTUP_FAILED)
        os.read(wakeup, 4096)


def _end_all() -> None:
    """Kill what the program has left running, and wait until it is gone."""
    try:
        os.kill(-1, _signal.SIGKILL)
        while True:
            os.wait()
    except (ProcessLookupError, ChildProcessError):
        return


def _tell_end(marks: int, returncode: int) -> None:
    """Write the last mark; if ``marks`` is the program's stdout, wait until there is room.

    The program may have made it non-blocking, as Node.js does, and left it full.
    """
    os.set_blocking(marks, True)
    os.write(marks, _ENDED + returncode.to_bytes(2, "big", signed=True))


def main() -> None:
    """Run the one job."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    # The engine sends SIGTERM when it is told to stop; programs in the box cannot send it.
    _signal.signal(_signal.SIGTERM, lambda _number, _frame: os._exit(_STARTUP_FAILED))
    os.umask(0o022)
    agent, user = int(sys.argv[1]), int(sys.argv[2])
    marks, out, err = 1, 1, 2
    for descriptor in (out, err):
        os.fchown(descriptor, user, user)  # so that the program may open its /dev/stdout
    _become_agent(agent)
    if len(sys.argv) > 3:
        marks, out, err = (_open_pipe(f"{sys.argv[3]}/{name}") for name in ("marks", "out", "err"))
    os.write(marks, _READY)
    fields = _read_header()
    workspace, seconds, stdin = _take(fields)
    folders, files = _take(fields), _take(fields)
    if folders or files:
        _write_files(user, folders, files)
    command, pairs = _take(fields), _take(fields)
    environment = dict(zip(pairs[::2], pairs[1::2]))  # noqa: B905
    os.environ.clear()
    wakeup, source = _wakeup(), _file_of(stdin)
    os.write(marks, _STARTED)
    pid = _start(user, workspace, command, environment, (source, out, err))
    _set_capabilities(_KILL)
    os.close(source)
    if marks != 1:
        os.close(out)
        os.close(err)
    returncode = _wait(pid, wakeup, float(seconds))
    _end_all()
    _tell_end(marks, returncode)
    if marks == 1:
        os._exit(0)
    os.read(0, 1)  # until the host has read the box's counters and closes stdin


if __name__ == "__main__":
    main()
