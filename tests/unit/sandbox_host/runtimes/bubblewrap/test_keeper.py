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
    assert keeper._host_of("1") == host
