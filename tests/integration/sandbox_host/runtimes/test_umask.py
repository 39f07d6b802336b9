"""What hosts create for programs has its modes whatever umask they were started with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.contracts.job import Verdict
from sandbox_host.linux.processes import host_tag
from sandbox_host.runtimes.base import RunControl
from sandbox_host.runtimes.containers.workspace import WORKSPACES
from tests.support.sandbox.runtimes import open_runtime, prepared

_UMASKS = (0o000, 0o027, 0o077)

#: Uses everything that is ready for a program, and says how it may be used.
_PROGRAM = """\
import os, sys, tempfile, lib.deep.util
print(lib.deep.util.VALUE, sys.stdin.read(), open("/dev/stdin").read())
open("/dev/stdout", "w").write("by name\\n")
open(tempfile.mkstemp()[1], "w").write("x")
os.makedirs("lib/deep/new"); open("lib/deep/util.py", "a").write("#")
out = os.environ["OUT_DIR"]
os.makedirs(out + "/sub"); open(out + "/sub/artifact", "w").write("left")
for path in (".", "lib", "lib/deep", "lib/deep/util.py", out, os.environ["TMPDIR"], out + "/sub"):
    print(oct(os.stat(path).st_mode & 0o7777))
if os.path.isdir("/in"): assert open("/in/lib/deep/util.py").read() == "VALUE = 42"
"""

_EXPECTED = ["42 in ", "by name", "0o755", "0o755", "0o755", "0o644", "0o755", "0o755", "0o755"]


@contextlib.contextmanager
def _umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def _writable_by_others(top: Path) -> list[str]:
    """What is below ``top`` that anybody could change, links and pipes aside."""
    found = []
    for folder, folders, files in os.walk(top):
        for name in ("", *folders, *files):
            try:
                mode = os.lstat(os.path.join(folder, name)).st_mode
            except FileNotFoundError:
                continue  # the host has just removed it
            if (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and mode & stat.S_IWOTH:
                found.append(os.path.join(folder, name))
    return found


def _places() -> list[Path]:
    """Where this host has what is its boxes'."""
    tag = host_tag()
    looked = [Path(place) for place in ("/dev/shm", "/run", "/tmp", "/var/tmp")]
    own = [found for place in looked for found in place.glob(f"qlp-*{tag}*")]
    return [*own, *([WORKSPACES] if WORKSPACES.exists() else [])]


@pytest.mark.usefixtures("needs_root")
@pytest.mark.parametrize(
    ("name", "umask"),
    [
        *(pytest.param("docker", umask, marks=pytest.mark.docker) for umask in _UMASKS),
        pytest.param("docker+runsc", 0o077, marks=pytest.mark.docker),
        *(("bubblewrap", umask) for umask in _UMASKS),
        *(("confined", umask) for umask in _UMASKS),
    ],
    ids=lambda value: oct(value) if isinstance(value, int) else value,
)
async def test_a_program_finds_the_same_under_every_umask(name: str, umask: int) -> None:
    with _umask(umask):
        runtime = await open_runtime(name)
        try:
            assert "means" not in (await runtime.preflight()).details
            seen: list[str] = []
            started = asyncio.Event()
            control = RunControl(on_output=lambda *_: started.set())
            program = _PROGRAM + "sys.stdout.flush()\nimport time; time.sleep(1)\n"
            job = prepared(program, files={"lib/deep/util.py": "VALUE = 42"}, stdin="in")
            running = asyncio.create_task(runtime.run(job, control))
            waiting = asyncio.create_task(started.wait())
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            for place in _places():
                seen += _writable_by_others(place)
            result = (await running).result
        finally:
            await runtime.aclose()
    assert result.verdict is Verdict.SUCCEEDED, result.stderr
    # Standard input that was read to its end is so for its name as well, where that is a pipe.
    first, *rest = result.stdout.splitlines()
    assert first.rstrip() in ("42 in", "42 in in"), result.stdout
    assert rest == _EXPECTED[1:]
    assert [one.name for one in result.artifacts] == ["sub/artifact"]
    assert result.skipped_artifacts == ()
    assert seen == []
