"""Decoys on the host, for hostile programs to find: secrets, listeners, a process."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

_IPC_CREAT, _IPC_EXCL, _IPC_RMID = 0o1000, 0o2000, 0

#: How the secret begins; programs look for it without having it in their own text.
PREFIX = "hunter2-"


@dataclass(frozen=True)
class Decoys:
    """Decoys on the host.

    Attributes:
        secret: stands in a world-readable file, in shared memory, and in the environment and the
            arguments of a process of the host.
        listeners: sockets of the host to which nobody may connect.
        environment: what a program is told, so that it need not search.
    """

    secret: str
    listeners: tuple[socket.socket, ...]
    environment: dict[str, str]

    def reached_listeners(self) -> list[str]:
        """Addresses of listeners that were reached."""
        return [str(listener.getsockname()) for listener in self.listeners if _reached(listener)]


def _reached(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recvfrom(1)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def placed() -> Iterator[Decoys]:
    """Place the decoys; all of them are removed at the end."""
    secret = PREFIX + secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="qlp-decoys-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        (folder / "secret").write_text(secret)
        shared = Path("/dev/shm") / folder.name
        shared.write_text(secret)
        stack.callback(shared.unlink)
        listeners = [stack.enter_context(listener) for listener in _listeners(folder)]
        segment, key = _segment(secret)
        stack.callback(ctypes.CDLL(None).shmctl, segment, _IPC_RMID, None)
        process = subprocess.Popen(
            ["sh", "-c", "read -r _", secret], env={"DECOY": secret}, stdin=subprocess.PIPE
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdin is not None
        stack.enter_context(process.stdin)
        told = {
            "folder": str(folder),
            "shared": str(shared),
            "tcp": listeners[0].getsockname()[1],
            "udp": listeners[1].getsockname()[1],
            "abstract": folder.name,
            "key": key,
            "pid": process.pid,
            "host": os.uname().nodename,
            "address": _address(),
            "home": str(Path.home()),
            "repository": str(ROOT),
        }
        yield Decoys(secret, tuple(listeners), {"APP_DECOYS": json.dumps(told)})


def _listeners(folder: Path) -> list[socket.socket]:
    tcp = socket.create_server(("0.0.0.0", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{folder.name}")
    named = socket.socket(socket.AF_UNIX)
    named.bind(str(folder / "socket"))
    (folder / "socket").chmod(0o777)
    for listener in (abstract, named):
        listener.listen()
    found = [tcp, udp, abstract, named]
    for listener in found:
        listener.setblocking(False)
    return found


def _segment(secret: str) -> tuple[int, int]:
    """A System V segment that everybody may read, and its key."""
    libc = ctypes.CDLL(None, use_errno=True)
    key = secrets.randbelow(2**30) + 1
    segment = libc.shmget(key, 4096, _IPC_CREAT | _IPC_EXCL | 0o644)
    if segment < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(segment, None, 0)
    ctypes.memmove(address, secret.encode(), len(secret))
    libc.shmdt(ctypes.c_void_p(address))
    return segment, key


def _address() -> str:
    """An address of this machine that is not its loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
