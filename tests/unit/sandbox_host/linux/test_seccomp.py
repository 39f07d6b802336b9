"""The filter refuses what it should, judged by an interpreter of classic BPF."""

from __future__ import annotations

import errno
import struct

import pytest

from sandbox_host.linux import seccomp
from sandbox_host.linux.seccomp import bubblewrap_filter, confined_filters, name_of

ALLOW, KILL = 0x7FFF0000, 0x80000000
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(
    machine: str,
    number: int,
    *arguments: int,
    arch: int | None = None,
    of: bytes | None = None,
) -> int:
    """What the kernel would do with a system call, under the bubblewrap filter or another."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch or ARCHES[machine], 0, *padded)
    program = list(struct.iter_unpack("=HBBI", of or bubblewrap_filter(machine)))
    position, word = 0, 0
    while True:
        code, true, false, value = program[position]
        position += 1
        if code == 0x20:
            (word,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: word == value, 0x35: word >= value, 0x45: bool(word & value)}[code]
            position += true if holds else false


def refused(number: int) -> int:
    return 0x00050000 | number


@pytest.mark.parametrize("machine", ARCHES)
def test_ordinary_calls_are_allowed(machine: str) -> None:
    read, socket, clone = {"x86_64": (0, 41, 56), "aarch64": (63, 198, 220)}[machine]
    assert verdict(machine, read) == ALLOW
    for family in (1, 2, 10):
        assert verdict(machine, socket, family) == ALLOW
    assert verdict(machine, clone, 0x01200011) == ALLOW


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 203), ("aarch64", 122)])
def test_only_a_program_that_is_bound_to_a_cpu_may_not_choose_others(
    machine: str, number: int
) -> None:
    assert verdict(machine, number) == ALLOW
    bound = bubblewrap_filter(machine, bound=True)
    assert verdict(machine, number, of=bound) == refused(errno.EPERM)


@pytest.mark.parametrize(("machine", "calls"), [("x86_64", (253, 294)), ("aarch64", (26,))])
def test_files_are_watched_only_where_instances_have_a_limit(
    machine: str, calls: tuple[int, ...]
) -> None:
    without = bubblewrap_filter(machine, inotify=False)
    for call in calls:
        assert verdict(machine, call) == ALLOW
        assert verdict(machine, call, of=without) == refused(errno.EMFILE)
        assert verdict(machine, call, of=confined_filters(machine)[0]) == refused(errno.EMFILE)


@pytest.mark.parametrize("machine", ARCHES)
def test_dangerous_calls_are_refused(machine: str) -> None:
    ptrace, mount, socket, clone, clone3, ioctl = {
        "x86_64": (101, 165, 41, 56, 435, 16),
        "aarch64": (117, 40, 198, 220, 435, 29),
    }[machine]
    assert verdict(machine, ptrace) == refused(errno.EPERM)
    assert verdict(machine, mount) == refused(errno.EPERM)
    assert verdict(machine, 425) == refused(errno.EPERM)
    assert verdict(machine, clone, 0x10000011) == refused(errno.EPERM)
    assert verdict(machine, clone3) == refused(errno.ENOSYS)
    assert verdict(machine, ioctl, 0, 0x5412) == refused(errno.EPERM)
    assert verdict(machine, ioctl, 0, 0x5401) == ALLOW
    seccomp, prctl = {"x86_64": (317, 157), "aarch64": (277, 167)}[machine]
    for takes_kernel_memory in (444, 445, 446, seccomp):
        assert verdict(machine, takes_kernel_memory) == refused(errno.EPERM)
    for option in (22, 78):
        assert verdict(machine, prctl, option) == refused(errno.EINVAL)
    assert verdict(machine, prctl, 15) == ALLOW
    for family in (0, 16, 17, 38, 40):
        assert verdict(machine, socket, family) == refused(errno.EAFNOSUPPORT)


@pytest.mark.parametrize("machine", ARCHES)
def test_calls_newer_than_the_table_do_not_exist(machine: str) -> None:
    assert verdict(machine, 463) == refused(errno.ENOSYS)


def test_foreign_architectures_and_x32_end_the_process() -> None:
    assert verdict("x86_64", 0, arch=0x40000003) == KILL
    assert verdict("aarch64", 63, arch=0x40000028) == KILL
    assert verdict("x86_64", 0x40000000) == KILL


def test_an_architecture_without_a_table_is_named() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        bubblewrap_filter("riscv64")


def test_every_jump_and_program_fits_the_kernels_limits() -> None:
    for machine in ARCHES:
        assert len(bubblewrap_filter(machine)) // 8 < 4096
        for part in confined_filters(machine, as_host=True):
            assert len(part) // 8 < 4096


def test_without_namespaces_no_socket_can_be_made_and_attempts_at_ip_are_logged() -> None:
    quiet, logged = confined_filters("x86_64")
    for family in (1, 16, 40):
        assert verdict("x86_64", 41, family, of=quiet) == refused(errno.EAFNOSUPPORT)
    for family in (2, 10):
        assert verdict("x86_64", 41, family, of=quiet) == ALLOW
        assert verdict("x86_64", 41, family, of=logged) == refused(errno.EACCES)
    assert verdict("x86_64", 53, 1, of=quiet) == ALLOW


def test_without_namespaces_other_processes_limits_and_priorities_are_out_of_reach() -> None:
    _, logged = confined_filters("x86_64")
    assert verdict("x86_64", 302, 0, of=logged) == ALLOW
    assert verdict("x86_64", 302, 1234, of=logged) == refused(errno.EPERM)
    assert verdict("x86_64", 141, of=logged) == refused(errno.EPERM)
    assert verdict("x86_64", 101, of=logged) == refused(errno.EPERM)


def test_without_a_cgroup_no_memory_is_shared_but_by_files() -> None:
    quiet, _ = confined_filters("x86_64")
    shared, private, validated, anonymous = 0x01, 0x02, 0x03, 0x20
    for flags in (shared, private, validated, private | anonymous, private | anonymous | 0x4000):
        assert verdict("x86_64", 9, 0, 4096, 3, flags, of=quiet) == ALLOW
    for flags in (shared | anonymous, validated | anonymous):
        assert verdict("x86_64", 9, 0, 4096, 3, flags, of=quiet) == refused(errno.EPERM)


def test_only_a_program_with_the_hosts_user_id_may_not_change_modes() -> None:
    assert verdict("x86_64", 90, of=confined_filters("x86_64")[1]) == ALLOW
    as_host = confined_filters("x86_64", as_host=True)[1]
    assert verdict("x86_64", 90, of=as_host) == refused(errno.EPERM)


def test_calls_are_named_and_unknown_ones_numbered() -> None:
    assert (name_of(101, "x86_64"), name_of(117, "aarch64")) == ("ptrace", "ptrace")
    assert name_of(41, "x86_64") == "socket"
    assert name_of(1, "x86_64") == "system call 1"


@pytest.mark.parametrize("machine", ARCHES)
def test_what_no_sampling_would_see_is_refused_without_namespaces(machine: str) -> None:
    quiet, _ = confined_filters(machine)
    fallocate, splice, sendmsg, clone, close_range, prctl, fcntl = {
        "x86_64": (285, 275, 46, 56, 436, 157, 72),
        "aarch64": (47, 76, 211, 220, 436, 167, 25),
    }[machine]
    assert verdict(machine, fallocate, of=quiet) == refused(errno.EOPNOTSUPP)
    assert verdict(machine, splice, of=quiet) == refused(errno.EINVAL)
    assert verdict(machine, sendmsg, of=quiet) == refused(errno.EPERM)
    thread, files, directory = 0x10000, 0x400, 0x200
    for apart in (0, files, directory):
        assert verdict(machine, clone, thread | apart, of=quiet) == refused(errno.EPERM)
    assert verdict(machine, clone, thread | files | directory, of=quiet) == ALLOW
    assert verdict(machine, clone, 17, of=quiet) == ALLOW
    assert verdict(machine, close_range, 3, 9, 2, of=quiet) == refused(errno.EINVAL)
    assert verdict(machine, close_range, 3, 9, 4, of=quiet) == ALLOW
    assert verdict(machine, prctl, 4, of=quiet) == refused(errno.EPERM)
    assert verdict(machine, prctl, 15, of=quiet) == ALLOW
    assert verdict(machine, fcntl, 3, 1031, of=quiet) == refused(errno.EPERM)
    assert verdict(machine, fcntl, 3, 1032, of=quiet) == ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_that_is_refused_has_a_name(machine: str) -> None:
    refused = (
        *(seccomp._REFUSED, seccomp._REFUSED_BOUND, seccomp._REFUSED_BESIDE_OTHERS),
        seccomp._REFUSED_AS_HOST,
        {name: numbers for name, (numbers, _) in seccomp._REFUSED_UNSEEN.items()},
    )
    column = seccomp._COLUMN[machine]
    for table in refused:
        for name, numbers in table.items():
            number = numbers[column]
            assert number is None or name_of(number, machine) == name
