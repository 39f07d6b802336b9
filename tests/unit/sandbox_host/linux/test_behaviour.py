"""What processes are seen doing, and what the kernel's records say."""

from __future__ import annotations

import subprocess

from sandbox_host.linux.behaviour import ProgramWatch, Refusal, Refusals, parse

RECORD = (
    b"\xe6\x00\x00\x00.\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00audit(1795474066.446:2):"
    b" auid=4294967295 uid=61000 gid=0 ses=4294967295 pid=12469"
    b' comm="python3" exe="/usr/bin/python3.11" sig=0 arch=c000003e syscall=101 compat=0'
    b" ip=0x7fe7f9d1d34a code=0x50000"
)


def test_a_record_of_a_refusal_is_read() -> None:
    assert parse(RECORD) == Refusal(pid=12469, uid=61000, call="ptrace")


def test_records_of_other_kinds_are_left_alone() -> None:
    other = RECORD[:4] + (1300).to_bytes(2, "little") + RECORD[6:]
    assert parse(other) is None
    assert parse(RECORD[:40]) is None


def test_a_program_cannot_forge_fields_by_its_name() -> None:
    # The kernel writes names with quotes or spaces in hexadecimal, so none can look like a field.
    forged = RECORD.replace(b'comm="python3"', b"comm=20706964B3D31")
    assert parse(forged) == Refusal(pid=12469, uid=61000, call="ptrace")


def test_counts_of_one_run_are_bounded() -> None:
    run = Refusals(lambda _: True)
    for number in range(100):
        run.note(Refusal(1, 1, f"call {number}"))
        run.note(Refusal(1, 1, "call 0"))
    assert len(run.calls) == 64
    assert run.calls["call 0"] == 101


def test_running_programs_are_named_by_their_file_and_counted() -> None:
    with subprocess.Popen(["sleep", "60"]) as one, subprocess.Popen(["cat"], stdin=-1) as two:
        watch = ProgramWatch(lambda: [one.pid, two.pid, 2**22 + 1])
        watch.look()
        one.kill()
        two.kill()
    assert watch.executed == ("sleep", "cat")
    assert watch.peak == 2
