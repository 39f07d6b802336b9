"""Runs the probes of one family inside one box, and reads back what each found.

The table is printed by this suite's own code and not by an attacker's, so it may be believed.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.hostile.case import Probe

#: Seconds one probe may take; what still hangs then counts as refused.
_SECONDS = 2

#: What the actions may use: ``syscall`` raises OSError, ``decoys`` are those on the host,
#: ``reached`` fails a check by raising ``Refused`` unless something of the host's was found.
_PROLOGUE = """\
import ctypes, glob, json, os, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
decoys = json.loads(os.environ["APP_DECOYS"])
class Refused(Exception): pass
def syscall(*arguments):
    found = libc.syscall(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found
def reached(found):
    if not found:
        raise Refused("nothing of the host's was there")
def write(path, text):
    with open(path, "w") as file: file.write(text)
def holds_decoy(text):
    return ("hunter" + "2-") in text
"""

_PROBE = """\
def probe_{index}():
{action}
"""

_EPILOGUE = """\
for name, probe in probes:
    read, written = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(seconds)
        try:
            probe()
            found = ["reached", ""]
        except (OSError, Refused, MemoryError, ValueError, AttributeError) as error:
            code = getattr(error, "errno", None)
            import errno
            found = ["refused", errno.errorcode.get(code, type(error).__name__)]
        except BaseException as error:
            found = ["broken", repr(error)]
        os.write(written, json.dumps(found).encode() + b"\\n")
        os._exit(0)
    os.close(written)
    _, status = os.waitpid(pid, 0)
    said = os.read(read, 4096)
    os.close(read)
    # Of an attempt that made a process, that one may say something as well.
    if said: found = json.loads(said.splitlines()[0])
    else: found = ["refused", "killed by " + str(os.WTERMSIG(status))]
    print(json.dumps([name, *found]))
"""


@dataclass(frozen=True)
class Finding:
    """What became of one probe.

    Attributes:
        outcome: ``refused``, ``reached``, or ``broken`` where the probe itself is wrong.
        detail: the error's name, or what broke.
    """

    outcome: str
    detail: str


#: What the probes of one family found, and what they changed.
Probed = tuple[dict[str, Finding], list[str]]


def makes_sense_here(probe: Probe) -> bool:
    """Whether its call numbers or machine code are those of this machine."""
    return probe.machine in ("", platform.machine())


def program_of(probes: Sequence[Probe]) -> str:
    """The program that runs ``probes`` one after another."""
    lines = [_PROLOGUE]
    for index, probe in enumerate(probes):
        action = "\n".join(f"    {line}" for line in probe.action.strip().splitlines())
        lines.append(_PROBE.format(index=index, action=action))
    pairs = ", ".join(f"({probe.name!r}, probe_{index})" for index, probe in enumerate(probes))
    lines += [f"probes = [{pairs}]\nseconds = {_SECONDS}\n", _EPILOGUE]
    return "".join(lines)


def read_findings(stdout: str) -> dict[str, Finding]:
    """What `program_of` printed, by name of the probe."""
    rows = (json.loads(line) for line in stdout.splitlines())
    return {name: Finding(outcome, detail) for name, outcome, detail in rows}


def host_name() -> str:
    """What a box must not learn."""
    return os.uname().nodename
