"""What counts as a program's memory where the host adds it up."""

from __future__ import annotations

import asyncio
import os
import platform
import threading
import time
from pathlib import Path

import pytest

from sandbox_host.linux import watchdog

MIB = 1 << 20


@pytest.mark.parametrize(
    ("machine", "syscall", "waits"),
    [
        ("x86_64", "58 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", True),
        ("x86_64", "56 0x4111 0x7f 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", True),
        ("aarch64", "220 0x4111 0x7f 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", True),
        ("x86_64", "56 0x4011 0x7f 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", False),
        ("x86_64", "56 0xc111 0x7f 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", False),
        ("aarch64", "58 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", False),
        ("x86_64", "61 0x4111 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f1e", False),
        ("x86_64", "running", False),
    ],
)
def test_only_a_parent_that_waits_in_vfork_shares_its_childs_memory(
    monkeypatch: pytest.MonkeyPatch, machine: str, syscall: str, waits: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert watchdog._waits_for_child(syscall) is waits


@pytest.mark.parametrize(
    ("seen", "stands_still", "goes_on", "exceeds"),
    [
        ([150], False, False, True),
        ([50, 50, 150], False, False, True),  # it grows while another measurement waits
        ([150, 150, 50], False, False, False),
        # What this host could not see because it stood still itself, as a paused one does.
        ([150], True, False, False),
        ([150], False, True, False),  # one process after the other is measured
    ],
)
async def test_only_what_does_not_show_for_long_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
    seen: list[int],
    stands_still: bool,
    goes_on: bool,
    exceeds: bool,
) -> None:
    monkeypatch.setattr(watchdog, "_LONGEST_SECONDS", 0.5)
    memory = watchdog.MemoryWatchdog(os.getpid(), 100, lambda: None)
    shown = threading.Event()

    def measure() -> int:
        while not shown.wait(0.05):
            memory._measured += goes_on
        return 50

    monkeypatch.setattr(memory, "_look", lambda: seen.pop(0) if seen[1:] else seen[0])
    monkeypatch.setattr(memory, "_measure", measure)
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, time.sleep, 1.0 if stands_still else 0.0)
    loop.call_later(1.1, shown.set)
    assert await memory._exceeds() is exceeds
    shown.set()


async def test_a_measurement_that_goes_on_for_too_long_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "_ALL_SECONDS", 0.5)
    memory = watchdog.MemoryWatchdog(os.getpid(), 100, lambda: None)
    shown = threading.Event()

    def measure() -> int:
        while not shown.wait(0.05):
            memory._measured += 1
        return 50

    monkeypatch.setattr(memory, "_look", lambda: 150)
    monkeypatch.setattr(memory, "_measure", measure)
    assert await memory._exceeds()
    shown.set()


def test_an_exact_measurement_bounds_what_is_used_later() -> None:
    parent, child = (watchdog._Figures(own, 0, 7) for own in (60 * MIB, 40 * MIB))
    exact = watchdog._Exact(70 * MIB, {(1, 0): parent, (2, 0): child}, MIB, 0.0, 0.0)
    same = exact.figures
    assert exact.most(same, MIB) == exact.most({(1, 0): parent}, 0) == 70 * MIB
    assert exact.most(same, 3 * MIB) == 72 * MIB
    # Growth counts, whatever others have given back; and each fault may have copied a page.
    grown, smaller = watchdog._Figures(65 * MIB, MIB, 7), watchdog._Figures(0, 0, 7)
    assert exact.most({(1, 0): grown, (2, 0): smaller}, MIB) == 76 * MIB
    faulted = watchdog._Figures(60 * MIB, 0, 7 + 256)
    assert exact.most({(1, 0): faulted}, MIB) == 70 * MIB + 256 * watchdog._PAGE
    # Another process that has the same number.
    assert exact.most({(1, 5): parent}, MIB) == 130 * MIB + 7 * watchdog._PAGE


@pytest.mark.parametrize(
    ("peak", "age", "enough"),
    [(70, 0.9, True), (70, 1.1, False), (69, 0.4, True), (69, 0.6, False)],
)
def test_a_peak_is_measured_as_often_as_the_share_allows(
    peak: int, age: float, enough: bool
) -> None:
    memory = watchdog.MemoryWatchdog(1, 100, lambda: None)
    memory.peak = peak
    figures = {(1, 0): watchdog._Figures(60, 0, 7)}
    exact = watchdog._Exact(70, figures, 0, time.monotonic() - age, 0.5 * watchdog._SHARE)
    assert memory._says_enough(exact, figures, 0) is enough
    assert not memory._says_enough(exact, figures, 31)


@pytest.mark.parametrize("end", [b"\r", b"\v", b"\f", b"\x1c", b"\xc2\x85"])
def test_a_name_is_no_figure(tmp_path: Path, end: bytes) -> None:
    status = tmp_path / "status"
    status.write_bytes(b"Name:\ta" + end + b"Threads: x" + end + b"RssAnon: 0\nThreads:\t2\n")
    assert watchdog._numbers(f"{status}", (b"Threads:", b"RssAnon:")) == {b"Threads:": 2}


def test_memory_that_was_swapped_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "status": "RssAnon: 1024 kB\nVmSwap: 4096 kB\nVmPTE: 1024 kB\nThreads: 2\n",
        "smaps_rollup": "Pss_Anon: 1024 kB\nPss_Shmem: 2048 kB\nSwapPss: 3072 kB\n",
    }
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    original = watchdog._numbers
    monkeypatch.setattr(
        watchdog, "_numbers", lambda path, names: original(f"{tmp_path}/{Path(path).name}", names)
    )
    assert watchdog._resident(1) == (6 * MIB, 0, 2)
    assert watchdog._proportional(1) == (5 * MIB, 2 * MIB)
