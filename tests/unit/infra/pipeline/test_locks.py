"""Each ``requirements*.txt`` locks what the ``.in`` beside it names, by ``make lock``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

SOURCES = sorted(
    path
    for folder in (".", "sandbox_host", "infra/pipeline")
    for path in (ROOT / folder).glob("requirements*.in")
)
#: Pythons that the project supports, for markers.
PYTHONS = ("3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    requirement: Requirement
    hashes: int
    direct: bool

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        (only,) = self.requirement.specifier
        assert only.operator == "=="
        return only.version


def pins(lock: Path) -> Iterator[Pin]:
    source = lock.with_suffix(".in").relative_to(ROOT)
    for entry in re.split(r"^(?=\w)", lock.read_text(), flags=re.MULTILINE)[1:]:
        yield Pin(
            Requirement(entry.partition("\\\n")[0].strip()),
            len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}\b", entry, re.MULTILINE)),
            re.search(rf"^    #.* -r {re.escape(str(source))}$", entry, re.MULTILINE) is not None,
        )


def named(source: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in source.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def applies(marker: Marker | None, python: str) -> bool:
    there = {"python_version": python, "python_full_version": f"{python}.1"}
    return marker is None or marker.evaluate({**there, "sys_platform": "linux"})


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_make_lock_makes_them_all() -> None:
    made = re.search(r"^LOCKS := (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.M | re.S)
    assert made
    names = made[1].replace("\\\n", " ").split()
    assert {ROOT / f"{name}.in" for name in names} == set(SOURCES)


@pytest.mark.parametrize("source", SOURCES, ids=ids)
@pytest.mark.parametrize("python", PYTHONS)
def test_a_lock_holds_what_its_source_names(source: Path, python: str) -> None:
    locked = {
        pin.name: pin
        for pin in pins(source.with_suffix(".txt"))
        if applies(pin.requirement.marker, python)
    }
    wanted = {
        canonicalize_name(each.name): each for each in named(source) if applies(each.marker, python)
    }
    assert {name for name, pin in locked.items() if pin.direct} == set(wanted), "run `make lock`"
    for name, requirement in wanted.items():
        assert requirement.specifier.contains(locked[name].version), f"{name}: run `make lock`"


@pytest.mark.parametrize("source", SOURCES, ids=ids)
def test_every_package_of_a_lock_has_hashes_and_no_address(source: Path) -> None:
    lock = source.with_suffix(".txt")
    assert all(pin.hashes for pin in pins(lock))
    assert not re.search(r"://|^-", lock.read_text(), re.MULTILINE)


@pytest.mark.parametrize("source", SOURCES, ids=ids)
def test_locks_that_are_installed_together_agree(source: Path) -> None:
    ours = {pin.name: pin.version for pin in pins(source.with_suffix(".txt"))}
    for name in re.findall(r"^-c (\S+)$", source.read_text(), re.MULTILINE):
        theirs = [*pins(source.parent / name)]
        for pin in theirs:
            several = sum(each.name == pin.name for each in theirs) > 1  # by Python's version
            assert several or ours.get(pin.name, pin.version) == pin.version, pin.name
