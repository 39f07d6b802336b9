"""Lists what failed in a run of the tests, a line each: its name and what it said first."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET


def main() -> None:
    """Reads the JUnit report that the command line names."""
    for case in ET.parse(sys.argv[1]).iter("testcase"):  # noqa: S314 our own report
        for outcome in (*case.iter("failure"), *case.iter("error")):
            said = (outcome.get("message") or "").strip().splitlines() or ["nothing"]
            print(f"{case.get('classname')}::{case.get('name')}: {said[0][:200]}")


if __name__ == "__main__":
    main()
