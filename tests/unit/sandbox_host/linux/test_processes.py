"""Which processes are alive, by the name that they left."""

from __future__ import annotations

import subprocess
import sys

from sandbox_host.linux.processes import host_tag, is_alive
from tests.support import ROOT
from tests.support.sandbox.runtimes import dead_host_tag


def test_a_process_is_alive_until_it_ends() -> None:
    assert is_alive(host_tag())
    assert not is_alive(dead_host_tag())
    assert is_alive("something else")


def test_who_may_open_no_more_files_takes_nobody_for_dead() -> None:
    script = (
        "import resource; from sandbox_host.linux.processes import host_tag, is_alive\n"
        "mine = host_tag(); resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "print(is_alive(mine))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
