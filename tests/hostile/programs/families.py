"""All families, by name."""

from __future__ import annotations

from tests.hostile.programs import (
    artifacts,
    forgery,
    kernel,
    lifetime,
    network,
    output,
    reading,
    resources,
    supervision,
)
from tests.support.hostile.case import Probe, Program

#: Programs that have a box to themselves.
PROGRAMS: dict[str, tuple[Program, ...]] = {
    "resources": resources.PROGRAMS,
    "lifetime": lifetime.PROGRAMS,
    "output": output.PROGRAMS,
    "forgery": forgery.PROGRAMS,
    "reading": reading.PROGRAMS,
    "artifacts": artifacts.PROGRAMS,
    "supervision": supervision.PROGRAMS,
}

#: Attempts that share a box with those of their family.
PROBES: dict[str, tuple[Probe, ...]] = {
    "reading": reading.PROBES,
    "network": network.PROBES,
    "kernel": kernel.PROBES,
    "supervision": supervision.PROBES,
}
