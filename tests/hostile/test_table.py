"""The page of results speaks of every case there is, and the suite is as large as it claims."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.hostile.programs.families import PROBES, PROGRAMS
from tests.hostile.programs.table import BEGIN, END, PAGE, results_of, tables

_REPORT = """\
<testsuites><testsuite>
<testcase name="test_a_hostile_program_is_contained[docker:resources:fork-bomb]">
  <properties><property name="verdict" value="succeeded"/></properties></testcase>
<testcase name="test_a_hostile_program_is_contained[bubblewrap:resources:fork-bomb]">
  <properties><property name="verdict" value="succeeded"/></properties><failure/></testcase>
<testcase name="test_a_hostile_program_is_contained[confined:resources:fork-bomb]">
  <skipped/></testcase>
<testcase name="test_the_attempts_leave_the_host_as_it_was[docker:kernel]"/>
</testsuite></testsuites>
"""


def test_a_report_becomes_a_table(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(_REPORT)
    lines = list(tables(results_of([report])))
    row = next(line for line in lines if "(`fork-bomb`)" in line)
    cells = "– | succeeded | – | **not contained** | – | –"
    assert row == f"| fork until refused (`fork-bomb`) | {cells} |"


def test_the_page_lists_every_program_and_no_failure() -> None:
    results = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    for programs in PROGRAMS.values():
        for program in programs:
            assert f"(`{program.name}`)" in results, (
                f"{program.name}: run tests.hostile.programs.table"
            )
    assert "not contained" not in results
    assert "failure of the suite" not in results


def test_the_suite_is_as_large_as_the_page_says() -> None:
    names = Counter(program.name for programs in PROGRAMS.values() for program in programs)
    assert sum(names.values()) == len(names) >= 90
    for probes in PROBES.values():
        assert len({probe.name for probe in probes}) == len(probes)
    assert sum(len(probes) for probes in PROBES.values()) >= 150
