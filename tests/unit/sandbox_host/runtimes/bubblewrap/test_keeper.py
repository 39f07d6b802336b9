"""Boxes are found by their command lines, which programs may write over."""

from __future__ import annotations

import io

import pytest

from sandbox_host.runtimes.bubblewrap import keeper
from sandbox_host.runtimes.bubblewrap.keeper import OPTION, PREFIX


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["/bwrap", OPTION, f"{PREFIX}a-host", "--unshare-all"], "a-host"),
        (["/bwrap", OPTION, f"{PREFIX}a-host"], "a-host"),
        (["/bin/sh", "-c", "exec", "sh", "/bwrap", OPTION, f"{PREFIX}a-host"], "a-host"),
        # What is read of it ends right behind the mark.
        (["x" * (keeper._BEGINNING - 1 - len(OPTION)), OPTION, f"{PREFIX}a-host"], None),
        (["x", OPTION], None),
        (["x", OPTION, ""], None),
        (["x", "other", f"{PREFIX}a-host"], None),
        ([""], None),
    ],
)
def test_a_host_is_read_from_any_command_line(
    arguments: list[str], host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process with such arguments would have to write over its own.
    line = io.BytesIO("\0".join(arguments).encode())
    monkeypatch.setattr(keeper, "open", lambda *_: line, raising=False)
    monkeypatch.setattr(keeper, "_sets_up", lambda _: True)
    assert keeper._host_of("1") == host


@pytest.mark.parametrize(
    ("numbers", "sets_up"), [("12", True), ("12\t1", True), ("12\t7", False), ("", True)]
)
def test_a_programs_own_processes_are_not_read(
    numbers: str, sets_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = io.BytesIO(f"Name:\tx\nNSpid:\t{numbers}\nVmSize:\t1 kB\n".encode())
    monkeypatch.setattr(keeper, "open", lambda *_: status, raising=False)
    assert keeper._sets_up("12") is sets_up
