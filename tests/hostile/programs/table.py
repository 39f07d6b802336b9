"""Writes the tables of ``docs/security/sandbox.md`` from what a run of the suite found.

``python -m tests.hostile.programs.table REPORT.xml …`` takes JUnit reports (``pytest tests/hostile
--junitxml=REPORT.xml``), of one run or of one for each runtime, and replaces what stands between
the page's two markers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from tests.hostile.programs.families import PROBES, PROGRAMS
from tests.support import ROOT
from tests.support.sandbox.runtimes import (
    BUBBLEWRAP,
    CONFINED,
    DOCKER,
    GVISOR,
    OCI,
    RLIMITS,
    RUNTIMES,
)

PAGE = ROOT / "docs" / "security" / "sandbox.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"

_TITLES = {
    OCI: "oci",
    DOCKER: "docker",
    GVISOR: "gVisor",
    BUBBLEWRAP: "bubblewrap",
    RLIMITS: "without cgroups",
    CONFINED: "confined",
}
_CASE = re.compile(r"\[(?P<runtime>[^:\]]+):(?P<family>[^:\]]+):(?P<name>[^\]]+)\]")

#: Runtime, family and name of a case, to what became of it.
Results = dict[tuple[str, str, str], str]


def results_of(reports: Iterable[Path]) -> Results:
    """Verdict or outcome of every case in ``reports``."""
    found: Results = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            match = _CASE.search(case.get("name", ""))
            if match is None or case.find("skipped") is not None:
                continue
            said = [item.get("value", "") for item in case.iter("property")]
            failed = case.find("failure") is not None or case.find("error") is not None
            outcome = "**not contained**" if failed else (said or ["?"])[0]
            found[match["runtime"], match["family"], match["name"]] = outcome
    return found


def tables(results: Results) -> Iterator[str]:
    """The lines between the markers."""
    titles = " | ".join(_TITLES[runtime] for runtime in RUNTIMES)
    for family, programs in PROGRAMS.items():
        yield f"### {family.capitalize()}\n"
        yield f"| The program tries to | {titles} |"
        yield "|---" * (len(RUNTIMES) + 1) + "|"
        for program in programs:
            cells = [results.get((name, family, program.name), "–") for name in RUNTIMES]
            yield f"| {_plain(program.tries)} (`{program.name}`) | {' | '.join(cells)} |"
        yield ""
    yield from _attempts(results)
    yield from _differences()


def _attempts(results: Results) -> Iterator[str]:
    probed = [name for name in RUNTIMES if name != RLIMITS]
    yield "### Single attempts\n"
    yield "Refused, of how many made:\n"
    yield f"| Attempts | {' | '.join(_TITLES[name] for name in probed)} |"
    yield "|---" * (len(probed) + 1) + "|"
    for family, probes in PROBES.items():
        cells = []
        for runtime in probed:
            outcomes = [results.get((runtime, family, probe.name)) for probe in probes]
            made = [outcome for outcome in outcomes if outcome]
            cells.append(f"{made.count('refused')} of {len(made)}" if made else "–")
        yield f"| {family} | {' | '.join(cells)} |"
    yield "\nNot refused:\n"
    for family, probes in PROBES.items():
        for probe in probes:
            for runtime in probed:
                if results.get((runtime, family, probe.name), "refused") == "refused":
                    continue
                why = probe.open_on.get(runtime, "**a failure of the suite**")
                yield f"- {_TITLES[runtime]}: {_plain(probe.tries)} (`{probe.name}`): {why}."
    yield ""


def _differences() -> Iterator[str]:
    yield "### Where a runtime honestly differs\n"
    for programs in PROGRAMS.values():
        for program in programs:
            for runtime, other in program.elsewhere.items():
                verdicts = " or ".join(f"`{verdict.value}`" for verdict in other.verdicts)
                yield f"- `{program.name}`, {_TITLES[runtime]}: {verdicts}: {other.why}."
    yield ""


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Rewrite the page."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    body = "\n".join(tables(results_of(map(Path, sys.argv[1:]))))
    PAGE.write_text(f"{head}{BEGIN}\n{body}{END}{tail}")


if __name__ == "__main__":
    main()
