"""Days, durations and clocks."""

from __future__ import annotations

from tests.evaluation.case import Case, node, python, said, shell
from tests.evaluation.checkers import matches, number, numbers, text

CASES = (
    Case(
        "weekday",
        "easy",
        "What day of the week was 20 July 1969? Print its English name only.",
        python("import datetime\nprint(datetime.date(1969, 7, 20).strftime('%A'))\n"),
        matches(r"(?i)sunday\.?"),
        said("Saturday", "Monday", "7"),
    ),
    Case(
        "days-between",
        "easy",
        "How many days are there from 2024-01-15 to 2024-11-02 (the first day not counted)?",
        python("from datetime import date\nprint((date(2024, 11, 2) - date(2024, 1, 15)).days)\n"),
        number(292),
        said("291", "293", "-292"),
    ),
    Case(
        "leap-years",
        "medium",
        "list the leap years from 1896 up to and including 1912 on one line",
        node("""\
const years = [];
for (let y = 1896; y <= 1912; y++)
  if ((y % 4 === 0 && y % 100 !== 0) || y % 400 === 0) years.push(y);
console.log(years.join(" "));
"""),
        numbers(1896, 1904, 1908, 1912),
        said("1896 1900 1904 1908 1912", "1896 1904 1908", "4"),
    ),
    Case(
        "to-utc",
        "easy",
        "What is 2024-03-10T01:30:00+02:00 in UTC? Print it as ISO 8601 with seconds.",
        python("""\
from datetime import UTC, datetime
moment = datetime.fromisoformat("2024-03-10T01:30:00+02:00").astimezone(UTC)
print(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
"""),
        matches(r"2024-03-09T23:30:00(?:Z|\+00:00)"),
        said("2024-03-10T03:30:00Z", "2024-03-10T23:30:00Z", "2024-03-09T23:30"),
    ),
    Case(
        "business-days",
        "medium",
        "How many working days, Monday to Friday, has March 2025? There are no holidays.",
        python("""\
from datetime import date
print(sum(date(2025, 3, day).weekday() < 5 for day in range(1, 32)))
"""),
        number(21, 2025),
        said("22", "20", "31"),
    ),
    Case(
        "last-fridays",
        "medium",
        "Print the date of the last Friday of each of the first six months of 2025, as YYYY-MM-DD, "
        "one per line.",
        python("""\
from datetime import date, timedelta
for month in range(1, 7):
    day = date(2025, month + 1, 1) - timedelta(days=1)
    while day.weekday() != 4:
        day -= timedelta(days=1)
    print(day)
"""),
        text("2025-01-31\n2025-02-28\n2025-03-28\n2025-04-25\n2025-05-30\n2025-06-27"),
        said(
            "2025-01-24\n2025-02-28\n2025-03-28\n2025-04-25\n2025-05-23\n2025-06-27",
            "2025-01-31\n2025-02-28\n2025-03-28\n2025-04-25\n2025-05-30",
        ),
    ),
    Case(
        "age",
        "easy",
        "How old is somebody born on 1990-12-31 on 2024-06-01? The age in full years.",
        python("""\
from datetime import date
born, today = date(1990, 12, 31), date(2024, 6, 1)
print(today.year - born.year - ((today.month, today.day) < (born.month, born.day)))
"""),
        number(33),
        said("34", "33.4"),
    ),
    Case(
        "durations",
        "medium",
        "Add up the durations 1h 45m, 2h 30m, 50m and 3h, and print the sum as H:MM.",
        python("""\
import re
total = 0
for duration in ("1h 45m", "2h 30m", "50m", "3h"):
    for amount, unit in re.findall(r"(\\d+)([hm])", duration):
        total += int(amount) * (60 if unit == "h" else 1)
print(f"{total // 60}:{total % 60:02d}")
"""),
        matches(r"0?8:05"),
        said("6:125", "8:5", "485", "5:05"),
    ),
    Case(
        "unix-time",
        "easy",
        "unix timestamp 1700000000 as UTC date and time, in the form 2001-02-03 04:05:06",
        shell("date -u -d @1700000000 '+%Y-%m-%d %H:%M:%S'\n"),
        text("2023-11-14 22:13:20"),
        said("2023-11-14 23:13:20", "14.11.2023 22:13:20", "2023-11-14"),
    ),
    Case(
        "iso-week",
        "hard",
        "To which ISO week does 3 January 2021 belong? Print it like 2019-W07.",
        python("""\
from datetime import date
year, week, _ = date(2021, 1, 3).isocalendar()
print(f"{year}-W{week:02d}")
"""),
        text("2020-W53"),
        said("2021-W53", "2021-W01", "2021-W00"),
    ),
)
